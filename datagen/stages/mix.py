"""Sample a corpus by the weights of its domains, for trainers that know nothing of domains.

    datastill mix --domains texts --out corpus --set n_tokens=1000000 weights='{law: 1, prose: 3}'
    datastill mix --domains texts --out corpus --set n_rows=500 mixture=temperature
    datastill mix --domains texts --weights learned/weights.json --out corpus --set n_tokens=1000000

A weight is a domain's share of the tokens, or of the rows where the budget is n_rows, and is met within one text. Texts
are taken from the domain that lags most, so that every beginning of the corpus has nearly the same shares. Each domain
gives its texts in an order of its own; where it is exhausted it starts again in another, and its texts come again with
`@2`, `@3`, ... at the end of their ids. A text that comes again counts again among the rows that came in.
"""

import heapq
import json
import logging
import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from pydantic import Field, model_validator

from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import DataError, ParamsError
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.licences import made_of
from datagen.contracts.params import Parts, validate
from datagen.contracts.records import Document, Rejection, from_row, to_row
from datagen.contracts.seeding import derive_seed
from datagen.contracts.stage import Run, Stage, load_method, main

if TYPE_CHECKING:
    from datagen.backends.token_counts import TokenCounter

log = logging.getLogger(__name__)

BLOCK = 256  # texts whose tokens are counted at once


class Config(InputParams):
    """How much is sampled, by which weights.

    Attributes:
        weights: domain to weight, every domain; only their proportions count, and 0 leaves a domain out.
        mixture: a rule that needs no more than the sizes, in place of weights: uniform, proportional, temperature.
        n_tokens: tokens of the corpus, by `tokenizer`; or `n_rows`.
        n_rows: texts of the corpus.
        seed: of the orders.
    """

    weights: dict[str, float] | None = None
    mixture: str | None = None
    n_tokens: int | None = Field(default=None, ge=1)
    n_rows: int | None = Field(default=None, ge=1)
    tokenizer: str = "smollm2-135m-instruct"
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _one_of_each(self) -> "Config":
        if (self.n_tokens is None) == (self.n_rows is None):
            raise ValueError("give n_tokens or n_rows, one of them")
        if self.weights is not None and self.mixture is not None:
            raise ValueError("give weights or mixture, not both")
        return self


@dataclass(kw_only=True)
class _Domain:
    """Where the texts of a domain are, and how many tokens each has; how far the sampling of it is.

    Attributes:
        taken: in what the budget is in, tokens or rows.
        n_rows: texts drawn, those that came again included; likewise `n_drawn_tokens`.
    """

    offsets: list[int] = field(default_factory=list[int])
    ids: list[str] = field(default_factory=list[str])
    n_tokens: list[int] = field(default_factory=list[int])
    target: float = 0.0
    taken: int = 0
    n_rows: int = 0
    n_drawn_tokens: int = 0


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's Config, and the rule's where it names one."""
    name = section.get("mixture")
    if name is None:
        return validate(section, Config)
    rule = load_method("datagen.mixture", name, key="mixture")
    if rule.NEEDS:
        raise ParamsError(
            f"mixture: {name} learns its weights from training, this stage only samples; run domain_weights, and give "
            "its weights.json by --weights"
        )
    return validate(section, Config, rule.Config)


def run(run: Run) -> dict[str, Any]:
    """Write a dataset of Documents; every text that was not drawn is a rejection.

    Raises:
        DataError: the weights are no numbers, negative, all 0, or not of these domains.
        ParamsError: no weights were given, or both a file and a parameter.
    """
    from datagen.backends.token_counts import TokenCounter

    config, file = run.params[Config], run.inputs.get("weights")
    if (file is not None) + (config.weights is not None) + (config.mixture is not None) != 1:
        raise ParamsError("weights: give --weights, weights or mixture, one of them")
    given = _read_weights(file) if file else config.weights
    if given is not None:
        _check_weights(given, str(file or "weights"))
    counter = TokenCounter(config.tokenizer)
    manifest = {
        "stage": run.name,
        "params": run.params.values(),
        **made_of(run.inputs),
        "tokenizer": {"model": config.tokenizer, "revision": counter.revision},
    }
    rows = Rows(run.inputs["domains"], Document, run.name, config)
    with tempfile.TemporaryFile(prefix="datastill-mix-") as texts:
        domains, rejections = _keep(rows, texts, counter)
        weights = _weights(run.params, given, domains)
        _set_targets(config, weights, domains)
        with DatasetWriter(run.out, Document, manifest) as writer, run.progress(None, "texts") as bar:
            for rejection in rejections:
                writer.read()
                writer.reject(rejection)
            for row in _draw(config, domains, texts):
                writer.read()
                writer.write(row)
                bar.advance()
            for name, one in domains.items():
                for id in _undrawn(config, name, one):
                    writer.read()
                    detail = f"{one.n_rows} of {len(one.ids)} texts of {name!r} were drawn with seed={config.seed}"
                    writer.reject(Rejection(id=id, stage=run.name, reason="not_drawn", detail=detail))
            if not writer.rows_out:
                raise DataError(
                    f"n_tokens={config.n_tokens}: no text is drawn, each is longer than twice its share; raise it"
                )
            figures = _figures(weights, domains)
            writer.describe(domains=figures)
    for name, one in domains.items():
        if one.n_rows > len(one.ids):
            log.warning("mix: %r has %d texts and gave %d, so they come again", name, len(one.ids), one.n_rows)
    return {
        "rows": writer.rows,
        "rejected": dict(sorted(writer.reasons.items())),
        "repeated": sum(one["repeated"] for one in figures.values()),
        "tokens": sum(one["tokens"] for one in figures.values()),
        "domains": figures,
    }


def _read_weights(file: Path) -> dict[str, float]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: not readable as JSON ({error}); domain_weights writes such a file") from None
    weights: Any = cast(dict[str, Any], content).get("weights") if isinstance(content, dict) else None
    if not isinstance(weights, dict):
        raise DataError(f'{file}: expected {{"weights": {{DOMAIN: NUMBER, ...}}}}; domain_weights writes such a file')
    return cast(dict[str, float], weights)


def _check_weights(weights: Mapping[str, Any], place: str) -> None:
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise DataError(f"{place}: the weight of {name!r} must be a number, 0 or more (got {weight!r})")
    if not sum(weights.values()):
        raise DataError(f"{place}: the weights sum to 0; give at least one domain a weight above 0")


def _keep(
    rows: Rows[Document], texts: IO[bytes], counter: "TokenCounter"
) -> tuple[dict[str, _Domain], list[Rejection]]:
    """Put the texts into a file, where they can be read in any order; what is of no domain is a rejection."""
    domains: dict[str, _Domain] = {}
    rejections: list[Rejection] = []
    block: list[Document] = []

    def flush() -> None:
        for row, counted in zip(block, counter.count([row.text for row in block]), strict=True):
            one = domains.setdefault(row.domain, _Domain())
            one.offsets.append(texts.tell())
            one.ids.append(row.id)
            one.n_tokens.append(counted.n_tokens)
            texts.write(json.dumps(to_row(row)).encode() + b"\n")
        block.clear()

    for row in rows:
        if isinstance(row, Rejection):
            rejections.append(row)
        elif not row.domain:
            detail = "the text is of no domain; fill its `domain`"
            rejections.append(Rejection(id=row.id, stage="mix", reason="no_domain", detail=detail))
        else:
            block.append(row)
            if len(block) == BLOCK:
                flush()
    flush()
    if not domains:
        raise DataError(f"{rows.path}: no text is of a domain; datastill domains makes such a dataset")
    return dict(sorted(domains.items())), rejections


def _weights(params: Parts, given: Mapping[str, float] | None, domains: Mapping[str, _Domain]) -> dict[str, float]:
    """Every domain's weight; they sum to 1."""
    if given is None:
        import numpy as np

        from datagen.mixture import Seen

        name = params[Config].mixture
        rule = load_method("datagen.mixture", name, key="mixture")
        seen = Seen(names=list(domains), n_tokens=np.array([sum(one.n_tokens) for one in domains.values()], float))
        return dict(zip(domains, getattr(rule, str(name))(params[rule.Config], None, seen).weights, strict=True))
    if unknown := [name for name in given if name not in domains]:
        raise DataError(f"weights: no domain {unknown[0]!r}; there are {', '.join(domains)}")
    if missing := [name for name in domains if name not in given]:
        raise DataError(f"weights: domain {missing[0]!r} has none; give it one, 0 leaves it out")
    total = math.fsum(given.values())
    return {name: given[name] / total for name in domains}


def _set_targets(config: Config, weights: Mapping[str, float], domains: Mapping[str, _Domain]) -> None:
    """Tokens, or whole rows by the largest remainders, that each domain is to give."""
    if config.n_tokens is not None:
        for name, one in domains.items():
            one.target = weights[name] * config.n_tokens
        return
    assert config.n_rows is not None
    exact = {name: weights[name] * config.n_rows for name in domains}
    floors = {name: math.floor(share) for name, share in exact.items()}
    left = config.n_rows - sum(floors.values())
    first = sorted((name for name in domains if weights[name]), key=lambda name: floors[name] - exact[name])[:left]
    for name, one in domains.items():
        one.target = floors[name] + (name in first)


def _draw(config: Config, domains: Mapping[str, _Domain], texts: IO[bytes]) -> Iterator[Document]:
    """Texts of the domain that lags most behind its target, until another would take each further from its own."""
    by_rows = config.n_rows is not None
    taken_ids = {id for one in domains.values() for id in one.ids}
    waiting = [(0.0, name) for name, one in domains.items() if one.target > 0]
    heapq.heapify(waiting)
    orders = {name: _order(config, name, one) for name, one in domains.items()}
    while waiting:
        _, name = heapq.heappop(waiting)
        one = domains[name]
        n_pass, index = next(orders[name])
        size = 1 if by_rows else one.n_tokens[index]
        if abs(one.taken + size - one.target) >= abs(one.taken - one.target):
            continue
        one.taken += size
        one.n_drawn_tokens += one.n_tokens[index]
        one.n_rows += 1
        heapq.heappush(waiting, (one.taken / one.target, name))
        texts.seek(one.offsets[index])
        row = cast(Document, from_row(Document, json.loads(texts.readline())))
        if n_pass > 1:
            id = f"{row.id}@{n_pass}"
            while id in taken_ids:  # a text of the user's may be called so
                id += "+"
            taken_ids.add(id)
            row = replace(row, id=id)
        yield row


def _order(config: Config, name: str, one: _Domain) -> Iterator[tuple[int, int]]:
    """Passes from 1 and positions in the domain, each pass in another order, for ever."""
    n_pass = 0
    while True:
        n_pass += 1
        seeds = [derive_seed(config.seed, "mix", name, n_pass, id) for id in one.ids]
        yield from ((n_pass, index) for index in sorted(range(len(seeds)), key=seeds.__getitem__))


def _undrawn(config: Config, name: str, one: _Domain) -> list[str]:
    if one.n_rows >= len(one.ids):
        return []
    order = _order(config, name, one)
    drawn = {next(order)[1] for _ in range(one.n_rows)}
    return [id for index, id in enumerate(one.ids) if index not in drawn]


def _figures(weights: Mapping[str, float], domains: Mapping[str, _Domain]) -> dict[str, Any]:
    total = sum(one.taken for one in domains.values())
    return {
        name: {
            "weight": weights[name],
            "share": one.taken / total if total else 0.0,
            "rows": one.n_rows,
            "tokens": one.n_drawn_tokens,
            "epochs": one.n_rows / len(one.ids),
            "repeated": max(one.n_rows - len(one.ids), 0),
        }
        for name, one in domains.items()
    }


STAGE = Stage(
    name="mix",
    parse=parse,
    inputs={
        "domains": "dataset of Documents with a domain, or a .jsonl or .parquet file of rows with `text`, `domain`"
    },
    optional_inputs={"weights": 'JSON file {"weights": {DOMAIN: NUMBER}}, as domain_weights writes it'},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
