"""Weights of domains learned by proxies: small students that are trained for what they say of the domains, and let go.

A rule that renews its weights on the way (ddk, online_mixing) takes one proxy, whose last weights count. DoReMi (Xie et
al. 2023, arXiv:2305.10429, section 2) takes two: a reference on equal shares, then a proxy that is compared with it,
and the mean of the weights over its updates. `regression_mix` (Liu et al. 2024, arXiv:2407.01492) takes many short
runs, each on a mix of its own. All proxies start from the same weights and take as many steps; the steps of all are
counted. What is done is kept, proxy by proxy, so that a run that was killed goes on.

Axes: D domains.
"""

import copy
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from datagen.backends.transformers_models import device_type, end_tokens
from datagen.contracts.dataset import write_json
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.inputs import InputParams
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Rejection
from datagen.contracts.stage import load_method
from datagen.mixture import Mix, ProxyRun, Seen
from trainers import lm_students, loop
from trainers.domain_draws import DomainMix, Rule
from trainers.domain_mix import FAMILY
from trainers.domain_rows import by_domain, check_drawn, check_held_out
from trainers.lm_rows import Bounds, LearnedRow
from trainers.students import check_usable

if TYPE_CHECKING:  # a stage reads Config without torch
    import numpy as np

    from trainers.teachers import Teacher

REFERENCE, PROXY = "reference", "proxy"


class Config(Params):
    """How weights are learned.

    Attributes:
        mixture: the rule, of datagen/mixture.
        mixture_every: steps between two questions to the rule, and two measurements.
        mixture_rows: held-out sequences of each domain that are read, the first.
        reference: the model that ddk compares the proxy with; null is the teacher. DoReMi trains its own.
        n_runs: of regression_mix; null is three a domain.
    """

    mixture: str
    mixture_every: int = Field(default=100, ge=1)
    mixture_rows: int = Field(default=100, ge=1)
    reference: str | None = None
    n_runs: int | None = Field(default=None, ge=3)


class Proxies(Params):
    """What all proxies have in common: train_lm's parameters."""

    proxies: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """One proxy that was trained.

    Attributes:
        name: `reference`, `proxy` or `run-0` and so on.
        weights: (D,), its last.
        memory: of the rule, after the last update.
        losses: (D,), held-out, at its end, in nats per token.
        n_steps: of the optimiser.
        n_tokens: learned.
        curve: a mapping for each measurement on its way: `step`, and by domain `weights` and `losses`.
    """

    name: str
    weights: list[float]
    memory: dict[str, list[float]]
    losses: list[float]
    n_steps: int
    n_tokens: int
    curve: list[dict[str, Any]]


@dataclass(kw_only=True)
class Bench:
    """What all proxies share."""

    params: Parts
    training: Parts
    model: Any
    tokenizer: Any
    ends: frozenset[int]
    context: int
    rows: dict[str, list[LearnedRow]]
    held_out: dict[str, list[LearnedRow]]
    rejections: list[Rejection]
    teacher: "Teacher | None"

    @property
    def names(self) -> list[str]:
        """Of the domains, in alphabetical order."""
        return sorted(self.rows)


def parse(section: Mapping[str, Any]) -> Parts:
    """A section against this Config, the rule's, and train_lm's for the proxies."""
    if not isinstance(name := section.get("mixture"), str):
        raise ParamsError("mixture: required, and not given; name a rule of datagen/mixture, such as ddk")
    rule = load_method(FAMILY, name, key="mixture")
    own = {
        key: value for key, value in section.items() if key in Config.model_fields or key in rule.Config.model_fields
    }
    training = {key: value for key, value in section.items() if key not in own}
    params = validate({**own, "proxies": training}, Config, rule.Config, Proxies)
    proxies = lm_students.parse(training)
    config = params[Config]
    if not rule.NEEDS:
        raise ParamsError(f"mixture: {name} follows from the sizes alone; give it to train_lm or mix as it is")
    if config.reference and (name == "doremi" or "reference_losses" not in rule.NEEDS):
        raise ParamsError(f"reference: {name} {'trains its own' if name == 'doremi' else 'reads none'}; leave it out")
    if name != "doremi" and "reference_losses" in rule.NEEDS and not (config.reference or _teacher_of(proxies)):
        raise ParamsError(f"mixture: {name} compares the proxy with another model; set teacher=MODEL, or reference")
    if config.n_runs and "runs" not in rule.NEEDS:
        raise ParamsError(f"n_runs: of regression_mix; {name} takes one proxy, or two; leave it out")
    if proxies[loop.Config].judge_every:
        raise ParamsError("judge_every: a proxy takes all its steps; leave it out")
    return params


def open_bench(params: Parts, data: Path, heldout: Path, folder: Path) -> Bench:
    """Load the start, the texts by domain, and the teacher where the objective has one.

    Args:
        params: as `parse` gives them.
        data: texts to learn from.
        heldout: texts of the same domains to measure on.
        folder: where a teacher's large files may lie.

    Raises:
        DataError: there are no texts, too many cannot be used, or the domains of the two are not the same.
    """
    import torch

    from trainers.teachers._models import context_of

    training = lm_students.parse(params[Proxies].proxies)
    mine, of_loop = training[lm_students.Config], training[loop.Config]
    if device_type() == "cpu":
        torch.set_num_threads(of_loop.n_threads)
    for path in (data, heldout):
        if not lm_students.is_of_texts(str(path), training):
            raise DataError(f"{path}: has no texts; weights are learned of rows of `text` and `domain`")
    _, tokenizer, model = lm_students.open_student(mine, of_loop, needs_template=False)
    ends = end_tokens(model, tokenizer)
    teacher = lm_students.open_teacher(training, tokenizer, torch.device(device_type()), None)
    context = min(context_of(model.config), teacher.context if teacher else context_of(model.config))
    bounds = Bounds(mine.max_tokens, context, mine.max_rows_per_prompt)
    found: list[dict[str, list[LearnedRow]]] = []
    rejections: list[Rejection] = []
    for path in (data, heldout):
        rows, dropped, n_rows = lm_students.read(str(path), training, bounds, tokenizer, ends)
        if teacher and path == data:
            rows, unscored = lm_students.without_unscored(rows, teacher, folder)
            dropped += unscored
        check_usable(str(path), dropped, n_rows, training[InputParams].max_rejected_share, frozenset())
        if not rows:
            raise DataError(f"{path}: no row is left of {n_rows}")
        found.append(by_domain(rows, str(path)))
        rejections += dropped
    drawn, held_out = found
    check_drawn(drawn, str(data))
    check_held_out(held_out, drawn, str(heldout))
    held_out = {name: held_out[name][: params[Config].mixture_rows] for name in drawn}
    return Bench(
        params=params, training=training, model=model, tokenizer=tokenizer, ends=ends, context=context, rows=drawn,
        held_out=held_out, rejections=rejections, teacher=teacher,
    )  # fmt: skip


def n_proxies(params: Parts, n_domains: int) -> int:
    """How many proxies a rule takes."""
    config = params[Config]
    needs = load_method(FAMILY, config.mixture, key="mixture").NEEDS
    return config.n_runs or 3 * n_domains if "runs" in needs else 2 if config.mixture == "doremi" else 1


def learn(bench: Bench, kept: Path, advance: Callable[[Proxy], None]) -> tuple[Mix, list[Proxy], list[float] | None]:
    """The weights, with what the rule remembers; the proxies; (D,) losses that the last one was compared with, if any.

    Args:
        bench: what the proxies share.
        kept: folder of what is done, of this run and no other.
        advance: called with each proxy.

    Raises:
        ParamsError: the weights would not be renewed once.
    """
    import numpy as np

    config = bench.params[Config]
    module = load_method(FAMILY, config.mixture, key="mixture")
    rule = Rule(ask=getattr(module, config.mixture), config=bench.params[module.Config], needs=module.NEEDS)
    names = bench.names
    equal = dict.fromkeys(names, 1 / len(names))
    proxies: list[Proxy] = []

    def train(name: str, of: Rule | Mapping[str, float], reference: "np.ndarray | None" = None) -> Proxy:
        proxies.append(_train(bench, name, of, reference, kept))
        advance(proxies[-1])
        return proxies[-1]

    if "runs" in rule.needs:
        n_tokens = np.array([float(sum(row.example.n_completion_tokens for row in bench.rows[name])) for name in names])
        for i, weights in enumerate(module.design(rule.config, names, n_tokens, n_proxies(bench.params, len(names)))):
            train(f"run-{i}", dict(zip(names, weights.tolist(), strict=True)))
        runs = [ProxyRun(weights=np.array(one.weights), losses=np.array(one.losses)) for one in proxies]
        return rule.ask(rule.config, None, Seen(names=names, n_tokens=n_tokens, runs=runs)), proxies, None
    reference: np.ndarray | None = None
    n_steps = loop.n_steps(bench.training[loop.Config], sum(map(len, bench.rows.values())))
    if n_steps <= config.mixture_every:
        raise ParamsError(
            f"mixture_every: the proxy takes {n_steps} steps and its weights are renewed every {config.mixture_every}, "
            "so nothing would be learned on its way; lower it"
        )
    if config.mixture == "doremi":
        reference = np.array(train(REFERENCE, equal).losses)
    elif "reference_losses" in rule.needs:
        reference = _losses_of_reference(bench, kept)
    last = train(PROXY, rule, reference)
    compared = None if reference is None else reference.tolist()
    if config.mixture == "doremi":
        return Mix(weights=tuple(last.memory["mean"]), memory=last.memory), proxies, compared
    return Mix(weights=tuple(last.weights), memory=last.memory), proxies, compared


def plot_rows(names: list[str], proxies: list[Proxy], reference: list[float] | None) -> list[dict[str, Any]]:
    """A row a domain and measurement: what `dvc plots` draws. Of many short runs a step is a run.

    Args:
        names: of the domains.
        proxies: in order.
        reference: (D,), what the last proxy is compared with, if it is; else its gap is to the lowest loss so far.
    """
    if len(proxies) > 2:
        points = [(at, one.weights, one.losses) for at, one in enumerate(proxies)]
    else:
        last = proxies[-1]
        points = [(one["step"], one["weights"], one["losses"]) for one in last.curve]
        points.append((last.n_steps, last.weights, last.losses))
    rows: list[dict[str, Any]] = []
    lowest = [float("inf")] * len(names)
    for step, weights, losses in points:
        lowest = [min(pair) for pair in zip(lowest, losses, strict=True)]
        for i, name in enumerate(names):
            gap = losses[i] - (reference[i] if reference else lowest[i])
            rows.append({"step": step, "domain": name, "weight": weights[i], "loss": losses[i], "gap": gap})
    return rows


def _train(
    bench: Bench, name: str, rule: Rule | Mapping[str, float], reference: "np.ndarray | None", kept: Path
) -> Proxy:
    """One proxy, or what is kept of it."""
    from trainers.domain_losses import losses
    from trainers.language_models import StudentModel

    file = kept / f"proxy-{name}.json"
    if file.exists():
        return Proxy(**json.loads(file.read_text()))
    of_loop = bench.training[loop.Config]
    model = copy.deepcopy(bench.model)
    mix = DomainMix(
        bench.rows, rule, bench.params[Config].mixture_every, of_loop, reference_losses=reference,
        held_out=bench.held_out if isinstance(rule, Rule) else None,
    )  # fmt: skip
    rows = [row for mine in bench.rows.values() for row in mine]
    folder = kept / f"of-{name}"
    records = lm_students.train_rows(
        bench.training, model, bench.tokenizer, bench.ends, rows, bench.teacher, bench.context, str(folder),
        is_main=True, mix=mix,
    )  # fmt: skip
    found = losses(StudentModel(model.eval()), bench.held_out, of_loop.micro_batch_tokens, of_loop.layout)
    proxy = Proxy(
        name=name,
        weights=[records[-1][f"weight/{domain}"] for domain in bench.names],
        memory={key: list(values) for key, values in mix.memory.items()},
        losses=found.tolist(),
        n_steps=len(records),
        n_tokens=sum(record["count"] for record in records),
        curve=[
            {
                "step": record["step"] - 1,
                "weights": [record[f"weight/{domain}"] for domain in bench.names],
                "losses": [record[f"student_loss/{domain}"] for domain in bench.names],
            }
            for record in records
            if f"student_loss/{bench.names[0]}" in record
        ],
    )
    kept.mkdir(parents=True, exist_ok=True)
    write_json(file, asdict(proxy))
    shutil.rmtree(folder, ignore_errors=True)
    return proxy


def _losses_of_reference(bench: Bench, kept: Path) -> "np.ndarray":
    import torch

    from trainers.domain_losses import losses_of_reference

    name, values = bench.params[Config].reference, bench.training.values()
    dtype = "float32" if name else values.get("teacher_dtype", "float32")
    return losses_of_reference(
        name or values["teacher"], dtype, bench.held_out, bench.tokenizer, torch.device(device_type()),
        bench.training[loop.Config].micro_batch_tokens, kept,
    )  # fmt: skip


def _teacher_of(training: Parts) -> str | None:
    config = training[lm_students.Config]
    return config.teacher if lm_students.needs_teacher(config) else None
