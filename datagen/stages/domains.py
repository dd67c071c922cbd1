"""Bring texts of several domains into one dataset, each text once, and hold out a part of every domain.

    datastill domains --raw texts --out train --metrics train.json --set held_out_rows=100
    datastill domains --raw texts --out held_out --metrics held_out.json --set held_out_rows=100 split=held_out

Texts that are the same as an earlier one, or nearly so, are dropped within and across domains before the split, so that
nothing held out stands among what is trained on. Which rows are held out follows from their text and `seed` alone. Each
row has its domain, its source and its licence; a licence that nobody named stays empty and is counted as unknown.
"""

import hashlib
import heapq
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import DataError
from datagen.contracts.licences import Sources, made_of, of_hub_dataset
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Document, Rejection
from datagen.contracts.seeding import derive_seed
from datagen.contracts.stage import Run, Stage, load_method, main
from datagen.filter import near_duplicates

if TYPE_CHECKING:
    from datagen.backends.token_counts import TokenCounter

log = logging.getLogger(__name__)

DEFAULT_METHOD = "folder"
WARN_TOKEN_RATIO = 2.5  # English prose to Python code is 1.8 by SmolLM2's tokenizer, to Russian 3.5, to Chinese 7
WARN_UNKNOWN_SHARE = 0.01
BLOCK = 256  # texts whose tokens are counted at once


class Config(Params):
    """Which method reads the texts, and what becomes of them.

    Attributes:
        split: which rows are written; `all` holds nothing out.
        held_out_rows: of every domain; each must have one more at least.
        seed: of the split.
        duplicate_threshold: least Jaccard similarity of two near-duplicates, of 5-word shingles.
        max_shared_share: share of a domain's rows that may stand in earlier domains; more is one corpus of two names.
        licences: domain to licence, for rows that name none.
        tokenizer: model by whose tokenizer tokens are counted.
        max_token_ratio: tokens per character of a domain, over the median of the others, above which it is taken to be
            in a script that the tokenizer cannot read.
        max_unknown_share: likewise, share of its tokens that stand for what is unknown.
    """

    method: str = DEFAULT_METHOD
    split: Literal["train", "held_out", "all"] = "train"
    held_out_rows: int = Field(default=100, ge=1)
    seed: int = Field(default=0, ge=0)
    duplicate_threshold: float = Field(default=0.8, gt=0, le=1)
    max_shared_share: float = Field(default=0.5, ge=0, le=1)
    licences: dict[str, str] = Field(default_factory=dict[str, str])
    tokenizer: str = "smollm2-135m-instruct"
    max_token_ratio: float = Field(default=5.0, gt=1)
    max_unknown_share: float = Field(default=0.1, ge=0, le=1)


@dataclass(kw_only=True)
class _Domain:
    """What was found of one domain: its rows, those that stay, by hash and position, and those of earlier domains."""

    n_rows: int = 0
    kept: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    shared: Counter[str] = field(default_factory=Counter[str])


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's and the method's Config."""
    name = section.get("method", DEFAULT_METHOD)
    method = load_method("datagen.domains", name)
    return validate({**section, "method": name}, Config, method.Config)


def run(run: Run) -> dict[str, Any]:
    """Write a dataset of Documents; every other row is a rejection.

    Raises:
        DataError: a domain is empty, too small to hold rows out, the same as another, or in a script that the tokenizer
            cannot read; or two differ by capitals alone.
    """
    from datagen.backends.token_counts import TokenCounter

    config, raw = run.params[Config], run.inputs.get("raw")
    counter = TokenCounter(config.tokenizer)
    texts = _Texts(run.params, raw)
    outcomes, domains = _deduplicate(config, texts)
    _check(config, domains)
    held_out = {
        position
        for one in domains.values()
        for _, position in heapq.nsmallest(config.held_out_rows if config.split != "all" else 0, one.kept)
    }
    manifest = {
        "stage": run.name,
        "method": config.method,
        "params": run.params.values(),
        **made_of({"raw": raw}, *_of_hub(run.params)),
        "tokenizer": {"model": config.tokenizer, "revision": counter.revision},
    }
    tally = _Tally(counter)
    with DatasetWriter(run.out, Document, manifest) as writer, run.progress(len(outcomes), "texts") as bar:
        for position, (row, outcome) in enumerate(zip(texts, outcomes, strict=True)):
            writer.read()
            if isinstance(row, Rejection):
                writer.reject(row)
            elif outcome is not None:
                writer.reject(outcome)
            elif config.split != "all" and (position in held_out) != (config.split == "held_out"):
                detail = f"{config.held_out_rows} rows of {row.domain!r} are held out with seed={config.seed}"
                reason = "held_out" if config.split == "train" else "not_held_out"
                writer.reject(Rejection(id=row.id, stage=run.name, reason=reason, detail=detail))
            else:
                writer.write(row)
                tally.add(row)
            bar.advance()
        figures = tally.figures()
        _check_scripts(config, figures)
        writer.describe(domains=figures)
    for name, one in figures.items():
        if one["licences"].get("unknown"):
            log.warning("domains: %d rows of %r name no licence; say it by licences", one["licences"]["unknown"], name)
    return {
        "rows": writer.rows,
        "rejected": dict(sorted(writer.reasons.items())),
        "tokens": sum(one["tokens"] for one in figures.values()),
        "domains": figures,
    }


def _of_hub(params: Parts) -> list[Sources]:
    config = params[load_method("datagen.domains", params[Config].method).Config]
    return [of_hub_dataset(one.dataset) for one in getattr(config, "sources", ())]


class _Texts:
    """The texts, read anew by each loop over them: ids that begin with the domain, licences as params fill them."""

    def __init__(self, params: Parts, raw: Path | None) -> None:
        self._config = params[Config]
        method = load_method("datagen.domains", self._config.method)
        self._read, self._own, self._raw = getattr(method, self._config.method), params[method.Config], raw

    def __iter__(self) -> Iterator[Document | Rejection]:
        ids: set[str] = set()
        for row in self._read(self._own, self._raw):
            if isinstance(row, Rejection):
                yield row
                continue
            id = f"{row.domain}/{row.id}"
            if "\0" in row.text:
                detail = f"character {row.text.find(chr(0))} is NUL, which no text has; take it out"
                yield Rejection(id=id, stage="domains", reason="not_text", detail=detail)
            elif id in ids:
                detail = f"another text has the id {id!r}; give the texts ids of their own"
                yield Rejection(id=id, stage="domains", reason="duplicate_id", detail=detail)
            else:
                ids.add(id)
                yield replace(row, id=id, licence=row.licence or self._config.licences.get(row.domain, ""))


def _deduplicate(config: Config, texts: _Texts) -> tuple[list[Rejection | None], dict[str, _Domain]]:
    """What becomes of each row before the split, None where it stays; and the domains, in their order."""
    options = near_duplicates.Config(method="near_duplicates", threshold=config.duplicate_threshold)
    outcomes: list[Rejection | None] = []
    domains: dict[str, _Domain] = defaultdict(_Domain)
    domain_of: dict[str, str] = {}
    for position, (row, duplicate) in enumerate(near_duplicates.find_duplicates(options, texts)):
        if not isinstance(row, Document):
            outcomes.append(None)  # it is its own rejection
            continue
        domain = domains[row.domain]
        domain.n_rows += 1
        domain_of[row.id] = row.domain
        if duplicate is None:
            digest = hashlib.sha256(row.text.encode()).hexdigest()
            domain.kept.append((derive_seed(config.seed, "held_out", digest), position))
            outcomes.append(None)
            continue
        if (other := domain_of[duplicate.of]) != row.domain:
            domain.shared[other] += 1
        outcomes.append(Rejection(id=row.id, stage="domains", reason=duplicate.reason, detail=duplicate.detail))
    return outcomes, dict(domains)


def _check(config: Config, domains: Mapping[str, _Domain]) -> None:
    if not domains:
        raise DataError("no text is left, of any domain; see that the files have a text and the rows a domain")
    spelt: dict[str, str] = {}
    for name in domains:
        if (other := spelt.setdefault(name.casefold(), name)) != name:
            raise DataError(f"domains {other!r} and {name!r} differ by capitals alone; give them one name, or two")
    if unknown := [name for name in config.licences if name not in domains]:
        raise DataError(f"licences: no domain {unknown[0]!r}; there are {', '.join(domains)}")
    for name, one in domains.items():
        if one.shared.total() > config.max_shared_share * one.n_rows:
            other, n = one.shared.most_common(1)[0]
            raise DataError(
                f"domain {name!r}: {one.shared.total()} of its {one.n_rows} rows stand in other domains, {n} of them "
                f"in {other!r}; leave one out, or allow it by max_shared_share (got {config.max_shared_share:g})"
            )
        if config.split != "all" and len(one.kept) <= config.held_out_rows:
            raise DataError(
                f"domain {name!r}: {len(one.kept)} rows are left of {one.n_rows}, too few to hold out "
                f"held_out_rows={config.held_out_rows} and train on one; hold out fewer, add rows, or leave it out"
            )
        if not one.kept:
            raise DataError(f"domain {name!r}: no row is left of {one.n_rows}; leave it out")


class _Tally:
    """Rows, tokens and licences of what is written, by domain; texts are counted a block at a time."""

    def __init__(self, counter: "TokenCounter") -> None:
        self._counter = counter
        self._waiting: list[Document] = []
        self._sums: dict[str, Counter[str]] = defaultdict(Counter)
        self._licences: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, row: Document) -> None:
        self._waiting.append(row)
        if len(self._waiting) == BLOCK:
            self._count()

    def figures(self) -> dict[str, Any]:
        self._count()
        return {
            name: {
                "rows": sums["rows"],
                "tokens": sums["tokens"],
                "chars": sums["chars"],
                "tokens_per_char": sums["tokens"] / sums["chars"],
                "unknown_share": sums["unknown"] / max(sums["tokens"], 1),
                "licences": dict(sorted(self._licences[name].items())),
            }
            for name, sums in sorted(self._sums.items())
        }

    def _count(self) -> None:
        for row, counted in zip(self._waiting, self._counter.count([row.text for row in self._waiting]), strict=True):
            self._sums[row.domain].update(
                rows=1, tokens=counted.n_tokens, chars=len(row.text), unknown=counted.n_unknown
            )
            self._licences[row.domain][row.licence or "unknown"] += 1
        self._waiting.clear()


def _check_scripts(config: Config, figures: dict[str, Any]) -> None:
    """Add to each domain how its tokens per character compare with the others'; warn, and refuse what is unreadable."""
    for name, one in figures.items():
        others = [other["tokens_per_char"] for key, other in figures.items() if key != name]
        ratio = one["tokens_per_char"] / median(others) if others else 1.0
        one["token_ratio"] = ratio
        found = (
            f"domain {name!r}: {one['tokens_per_char']:.2f} tokens a character by the tokenizer of {config.tokenizer}, "
            f"{ratio:.1f} times the other domains' median, and {one['unknown_share']:.1%} of its tokens unknown"
        )
        if ratio > config.max_token_ratio or one["unknown_share"] > config.max_unknown_share:
            raise DataError(
                f"{found}; it seems to be in a script that the tokenizer cannot read: leave it out, name another "
                f"tokenizer, or raise max_token_ratio={config.max_token_ratio:g} or "
                f"max_unknown_share={config.max_unknown_share:g}"
            )
        if ratio > WARN_TOKEN_RATIO or one["unknown_share"] > WARN_UNKNOWN_SHARE:
            log.warning("domains: %s", found)


STAGE = Stage(
    name="domains",
    parse=parse,
    inputs={},
    optional_inputs={"raw": "folder with a file or sub-folder a domain, or a file of rows with a column for it"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
