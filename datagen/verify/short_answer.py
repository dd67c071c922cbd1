r"""A short answer against the reference: the same words, token F1 after normalising both, or the same meaning.

measure=exact and f1: Rajpurkar et al. SQuAD: 100,000+ Questions for Machine Comprehension of Text. 2016.
arXiv:1606.05250, section 6.1: neither punctuation nor the articles a, an, the count, nor, as in its program, case; F1
is of the bags of words. Departures: text is first brought into Unicode's NFKC form, and punctuation is what Unicode
says it is, not ASCII's alone. Two texts without a word are equal only where they are the same as written.

measure=embedding: the cosine of sentence embeddings (Reimers and Gurevych. Sentence-BERT. 2019. arXiv:1908.10084).
Cosines of right answers differ from encoder to encoder and from subject to subject, so the threshold is no parameter:
it is read off labelled pairs, the smallest at which the precision on them is `target_precision`
(`datagen.contracts.calibration`). From it on the score is 1, below it the cosine's share of it; so a stage's
`threshold` of 1 asks for that precision. A cosine says little where answers differ in a number, a name or a negation:
such pairs belong among the labelled ones.

The answer is what stands in the last `\boxed{}` or after "the answer is", up to the sentence's end, else the whole
completion; `detail` names the rule. A reference that is a JSON list of texts holds alternatives, and the best counts.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from datagen.contracts.calibration import Calibration, calibrate
from datagen.contracts.params import Params
from datagen.contracts.records import Trace, Verdict
from datagen.verify._calibration import Pair, read_pairs
from datagen.verify._cluster import CHUNK
from datagen.verify._references import references
from datagen.verify.answers import ANSWER_IS, MAX_ANSWER_CHARS, SENTENCE_END, Answer, last_boxed, trim

NAME = "short_answer"
ROW_BY_ROW = True
BLOCK = CHUNK  # traces whose texts are embedded at once, so that a worker of a cluster embeds the same ones together
COSINE_DIGITS = 4  # that count: a vector depends on the texts beside it in the seventh
_ARTICLES = frozenset({"a", "an", "the"})


class Config(Params):
    """How an answer is compared; a row passes at the stage's `threshold`.

    Attributes:
        measure: the score is 0 or 1 by exact, F1 in [0, 1] by f1; by embedding it is 1 from the calibrated cosine on.
        pairs: by embedding, a .jsonl file of labelled pairs: `answer`, `reference`, and `label` true or false.
        target_precision: by embedding, on these pairs.
        embedder: by embedding, `all-minilm-l6-v2` or another name that `datagen.backends.embeddings` takes.
        threshold: as of the stage.
    """

    method: Literal["short_answer"] = NAME
    measure: Literal["exact", "f1", "embedding"] = "exact"
    pairs: str = Field("", validate_default=True, json_schema_extra={"unless_default": True})
    target_precision: float = Field(0.95, gt=0, le=1, json_schema_extra={"unless_default": True})
    embedder: str = Field("all-minilm-l6-v2", json_schema_extra={"unless_default": True})
    threshold: float = Field(1.0, ge=0, le=1)

    @field_validator("pairs", "target_precision", "embedder")
    @classmethod
    def _check_embedding(cls, value: Any, info: ValidationInfo) -> Any:
        measure = info.data.get("measure")
        if measure == "embedding" and info.field_name == "pairs" and not value:
            raise ValueError("measure=embedding reads its threshold off labelled pairs; name their .jsonl file")
        if measure in ("exact", "f1") and value:
            raise ValueError(f"means nothing to measure={measure}; leave it out")
        return value


def short_answer(config: Config, traces: Iterable[Trace]) -> Iterator[Verdict]:
    """Judge each trace by its prompt's reference; one without is an `error`, one without a text `unparsed`.

    Raises:
        DataError: by embedding, the labelled pairs cannot be read, or no threshold is precise enough on them.
        MissingError: by embedding, there is no such embedder.
    """
    if config.measure == "embedding":
        return _by_embedding(config, traces)
    measure = _MEASURES[config.measure]
    return (_judge(config, trace, measure) for trace in traces)


def identity(config: Config) -> dict[str, Any]:
    """For the manifest: by embedding, which encoder and which threshold; else nothing."""
    if config.measure != "embedding":
        return {}
    from datagen.backends.embeddings import find_revision

    revision = find_revision(config.embedder)
    return {"embedder": config.embedder, "revision": revision, "calibration": asdict(_calibration(config))}


class Figures:
    """By embedding, the threshold and what it does on the labelled pairs."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def count(self, trace: Trace, verdict: Verdict) -> None:
        """Nothing of a row counts: the pairs alone do."""

    def metrics(self) -> dict[str, Any]:
        """`calibration` by embedding, else nothing."""
        return {"calibration": asdict(_calibration(self._config))} if self._config.measure == "embedding" else {}


def words(text: str) -> list[str]:
    """What is compared of a text, in order."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = "".join(c for c in text if not unicodedata.category(c).startswith("P"))
    return [word for word in text.split() if word not in _ARTICLES]


def exact_match(answer: str, reference: str) -> float:
    """1 where both have the same words in the same order, else 0."""
    given, wanted = words(answer), words(reference)
    return float(given == wanted if given or wanted else answer.strip() == reference.strip())


def token_f1(answer: str, reference: str) -> float:
    """2 P R / (P + R) with P and R the shares of the answer's and of the reference's words that the other has too."""
    given, wanted = Counter(words(answer)), Counter(words(reference))
    if not given or not wanted:
        return exact_match(answer, reference)
    return 2 * (given & wanted).total() / (given.total() + wanted.total())


Measure = Callable[[str, str], float]
_MEASURES: dict[str, Measure] = {"exact": exact_match, "f1": token_f1}


def find_short_answer(completion: str) -> Answer | None:
    """The answer by the first rule that applies; None where the completion is empty, or too long to be one."""
    if boxed := last_boxed(completion):
        return Answer(boxed, r"in \boxed")
    for match in reversed(list(ANSWER_IS.finditer(completion))):
        if text := trim(SENTENCE_END.split(completion[match.end() :], maxsplit=1)[0]):
            return Answer(text, "after 'the answer is'")
    text = completion.strip()
    return Answer(text, "the whole completion") if text and len(text) <= MAX_ANSWER_CHARS else None


def _judge(config: Config, trace: Trace, measure: Measure, calibration: Calibration | None = None) -> Verdict:
    if trace.prompt.reference is None:
        detail = "no reference: the row has neither `reference` nor `answer` to compare with"
        return Verdict(id=trace.id, method=NAME, status="error", score=0.0, reason="no_reference", detail=detail)
    answer = find_short_answer(trace.completion)
    if answer is None:
        detail = f"no answer found in {len(trace.completion)} characters"
        return Verdict(id=trace.id, method=NAME, status="unparsed", score=0.0, reason="no_answer", detail=detail)
    measured = {one: measure(answer.text, one) for one in references(trace.prompt.reference)}
    best = max(measured, key=lambda one: measured[one])
    score, said = measured[best], f"{config.measure} {measured[best]:.3g}"
    if calibration:
        said = f"cosine {score:.{COSINE_DIGITS}f}, calibrated threshold {calibration.threshold:.{COSINE_DIGITS}f}"
        score = 1.0 if score >= calibration.threshold else max(0.0, score / calibration.threshold)
    passed = score >= config.threshold
    return Verdict(
        id=trace.id, method=NAME, status="pass" if passed else "fail", score=score, answer=answer.text,
        reason=None if passed else "wrong_answer", detail=f"{answer.rule}: {answer.text}, beside {best}: {said}",
    )  # fmt: skip


def at_threshold(trace: Trace, verdict: Verdict, threshold: float) -> Verdict:
    """The verdict that the trace would have at another threshold of the stage: the score is the same."""
    if verdict.status not in ("pass", "fail"):
        return verdict
    passed = verdict.score >= threshold
    return replace(verdict, status="pass" if passed else "fail", reason=None if passed else "wrong_answer")


def _by_embedding(config: Config, traces: Iterable[Trace]) -> Iterator[Verdict]:
    calibration = _calibration(config)
    left = iter(traces)
    while block := list(islice(left, BLOCK)):
        pairs = [
            (answer.text, one)
            for trace in block
            if trace.prompt.reference is not None and (answer := find_short_answer(trace.completion))
            for one in references(trace.prompt.reference)
        ]
        cosine = dict(zip(pairs, _cosines(config.embedder, pairs), strict=True))
        for trace in block:
            yield _judge(config, trace, lambda answer, one, cosine=cosine: cosine[answer, one], calibration)


def _calibration(config: Config) -> Calibration:
    return _calibrated(config.embedder, tuple(read_pairs(Path(config.pairs))), config.target_precision)


@lru_cache(maxsize=4)
def _calibrated(embedder: str, pairs: tuple[Pair, ...], target_precision: float) -> Calibration:
    cosines = _cosines(embedder, [(pair.answer, pair.reference) for pair in pairs])
    return calibrate(cosines, [pair.label for pair in pairs], target_precision)


@lru_cache(maxsize=1)
def _encoder(name: str) -> Any:
    from datagen.backends.embeddings import Encoder

    return Encoder(name)


def _cosines(embedder: str, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Of the two texts of each pair, to `COSINE_DIGITS`; a text in several windows counts with their mean."""
    if not pairs:
        return []
    import torch

    texts = {text: number for number, text in enumerate(dict.fromkeys(text for pair in pairs for text in pair))}
    windows, of_text = _encoder(embedder).encode(list(texts))
    summed = torch.zeros(len(texts), windows.shape[1]).index_add_(0, of_text, windows)
    vectors = torch.nn.functional.normalize(summed, dim=-1)
    first, second = (vectors[[texts[pair[side]] for pair in pairs]] for side in (0, 1))
    return [round(cosine, COSINE_DIGITS) for cosine in (first * second).sum(dim=-1).tolist()]
