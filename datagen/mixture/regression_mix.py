"""A mix found by regression: short proxy runs on random mixes, a law fitted to their losses, the best mix under it.

Liu et al. RegMix: Data Mixture as Regression for Language Model Pre-training. 2024. arXiv:2407.01492: mixes are drawn
from Dirichlet distributions around the shares of the tokens, scaled by 0.1 to 5; a regression predicts the loss of a
target domain from the mix; of very many simulated mixes the best under it are averaged. Chen et al. Olmix: A Framework
for Data Mixing Throughout LM Development. 2026. arXiv:2602.12237: a log-linear law, exp(c) + exp(weights @ t), and
reuse: where domains are added, the ratios of the others are kept and only the affected ones are mixed anew.

RegMix fits LightGBM to 512 runs, and a linear model beside it. A dozen runs do not carry trees, so the law here is
log-linear, without Olmix's constant exp(c), with a ridge penalty: by least squares, with the error on runs left out in
closed form (`_law.py`). That error is in the memory as `explained`, and one that explains nothing is warned of. Only
the abstracts and parts of the code of both papers could be read: that the best 100 are averaged is RegMix's as
remembered, not verified; that the known ratios act as one domain is our reading of Olmix's reuse.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.params import Params
from datagen.contracts.seeding import derive_seed
from datagen.mixture import Mix, Seen
from datagen.mixture._law import fit
from datagen.mixture._seen import to_mix, token_counts, weights_of

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)

NEEDS = frozenset({"runs"})
SCALES = (0.1, 5.0)  # of the Dirichlet distributions, spread evenly in the logarithm
MIN_RUNS = 3


class Config(Params):
    """How mixes are drawn, and what is wanted of them.

    Attributes:
        targets: domains whose mean loss is to be low; all where none is named.
        known_mix: ratios found before for some of the domains, which are kept: those domains act as one.
        n_candidates: mixes drawn, under the law.
        n_best: of them, how many are averaged.
        mixture_seed: of the mixes, drawn and simulated.
    """

    mixture: Literal["regression_mix"] = "regression_mix"
    targets: tuple[str, ...] = ()
    known_mix: dict[str, float] = Field(default_factory=dict[str, float])
    n_candidates: int = Field(default=100_000, ge=1)
    n_best: int = Field(default=100, ge=1)
    mixture_seed: int = Field(default=0, ge=0)


def regression_mix(config: Config, mix: Mix | None, seen: Seen) -> Mix:
    """The best mix under the law of `seen.runs`; what it gave once it keeps.

    Raises:
        DataError: fewer than three runs, one of other domains, with a loss that is none, or that breaks `known_mix`.
        ParamsError: `targets` or `known_mix` names a domain that there is not.
    """
    import numpy as np

    n_tokens = token_counts(seen)
    if mix is not None:
        weights_of(mix, seen)
        return mix
    names = list(seen.names)
    blocks = bundle(names, config.known_mix)
    weights, losses = _runs(seen, blocks, _shares(blocks, config.known_mix, names))
    targets = [_place(name, names, "targets") for name in config.targets] or list(range(len(names)))
    law = fit(weights, losses[:, targets])
    if law.explained <= 0:
        log.warning(
            "regression_mix: the law predicts runs that it was not fitted to no better than their mean (%.2f of the "
            "variance of %d runs explained); train more or longer proxies", law.explained, len(weights),
        )  # fmt: skip
    candidates = _draw(
        blocks @ n_tokens, _block_names(names, config.known_mix), config.n_candidates, config.mixture_seed
    )
    predicted = law.predict(candidates).mean(-1)
    best = np.argsort(predicted, kind="stable")[: config.n_best]
    return to_mix(
        candidates[best].mean(0) @ _shares(blocks, config.known_mix, names),
        predicted=np.array([predicted[best].mean()]),
        explained=np.array([law.explained]),
        penalty=np.array([law.penalty]),
        n_runs=np.array([float(len(weights))]),
    )


def design(config: Config, names: Sequence[str], n_tokens: "np.ndarray", n_runs: int) -> "np.ndarray":
    """(n_runs, N) float64, the mixes of the proxy runs: first the shares of the tokens, then random ones.

    Args:
        config: `known_mix` and `mixture_seed` count.
        names: of the N domains.
        n_tokens: (N,), above 0.
        n_runs: at least 1.

    Raises:
        ParamsError: `known_mix` names a domain that there is not, or has no positive ratio.
    """
    import numpy as np

    blocks = bundle(names, config.known_mix)
    sizes = blocks @ n_tokens
    drawn = _draw(sizes, _block_names(names, config.known_mix), n_runs - 1, derive_seed(config.mixture_seed, "design"))
    return np.vstack([sizes / sizes.sum(), drawn]) @ _shares(blocks, config.known_mix, names)


def bundle(names: Sequence[str], known_mix: Mapping[str, float]) -> "np.ndarray":
    """(D, N) of 0 and 1: which domains each block holds; those of `known_mix` are one block, the first.

    Raises:
        ParamsError: it names a domain that there is not, or its ratios are negative or all 0.
    """
    import numpy as np

    for name in known_mix:
        _place(name, names, "known_mix")
    if known_mix and (min(known_mix.values()) < 0 or not sum(known_mix.values())):
        raise ParamsError(f"known_mix: ratios must not be negative, nor all 0 (got {dict(known_mix)})")
    rows = [[float(name in known_mix) for name in names]] if known_mix else []
    rows += [[float(name == other) for name in names] for other in names if other not in known_mix]
    return np.array(rows)


def _block_names(names: Sequence[str], known_mix: Mapping[str, float]) -> list[str]:
    return [""] * bool(known_mix) + [name for name in names if name not in known_mix]


def _shares(blocks: "np.ndarray", known_mix: Mapping[str, float], names: Sequence[str]) -> "np.ndarray":
    """(D, N), of each block's weight, what each domain gets."""
    import numpy as np

    ratios = blocks * np.array([known_mix.get(name, 1.0) for name in names])
    return ratios / ratios.sum(1, keepdims=True)


def _place(name: str, names: Sequence[str], key: str) -> int:
    if name not in names:
        raise ParamsError(f"{key}: no domain {name!r}; there are {', '.join(names)}")
    return list(names).index(name)


def _runs(seen: Seen, blocks: "np.ndarray", shares: "np.ndarray") -> tuple["np.ndarray", "np.ndarray"]:
    """Weights of the blocks (R, D) and losses (R, N) of all runs; `shares` (D, N) is what a block's domains get."""
    import numpy as np

    if len(seen.runs) < MIN_RUNS:
        raise DataError(
            f"runs: {len(seen.runs)} proxy runs carry no law; give at least {MIN_RUNS}, better three a domain"
        )
    for k, run in enumerate(seen.runs):
        for what, values in (("weights", run.weights), ("losses", run.losses)):
            if np.shape(values) != (len(seen.names),) or not np.isfinite(values).all():
                raise DataError(f"runs: run {k} has {what} {np.asarray(values).tolist()}; need one a domain, finite")
        if (np.asarray(run.weights) < 0).any() or abs(np.sum(run.weights) - 1) > 1e-6:
            raise DataError(f"runs: run {k} has weights {np.asarray(run.weights).tolist()}; need shares that sum to 1")
        if (run.losses <= 0).any():
            raise DataError(f"runs: run {k} has losses {run.losses.tolist()}; their logarithm is fitted, so above 0")
    weights, losses = np.stack([run.weights for run in seen.runs]), np.stack([run.losses for run in seen.runs])
    mixed = weights @ blocks.T
    # Within a block the ratios must be known_mix's in every run, else its weight does not say what was trained on.
    if np.abs(weights - mixed @ shares).max() > 1e-6:
        raise DataError("runs: the ratios within known_mix differ from it; draw the runs by `design`")
    return mixed, losses


def _draw(sizes: "np.ndarray", names: Sequence[str], n: int, seed: int) -> "np.ndarray":
    """(n, D), each row from a Dirichlet distribution around the shares of `sizes`; a domain's draws follow its name.

    Gamma variates of a shape near 0 underflow, so their logarithms are drawn: log G(a) = log G(a + 1) + log(U) / a.
    """
    import numpy as np

    low, high = SCALES
    scales = low * (high / low) ** np.random.default_rng(derive_seed(seed, "scale")).random(n)
    columns: list[np.ndarray] = []
    for share, name in zip(sizes / sizes.sum(), names, strict=True):
        generator = np.random.default_rng(derive_seed(seed, "domain", name))
        shape = scales * share
        columns.append(np.log(generator.standard_gamma(shape + 1)) + np.log(generator.random(n)) / shape)
    logs = np.stack(columns, axis=1)
    powers = np.exp(logs - logs.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
