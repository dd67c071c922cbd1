r"""A short answer against the reference, word by word: exact match or token F1 after normalising both.

Rajpurkar et al. SQuAD: 100,000+ Questions for Machine Comprehension of Text. 2016. arXiv:1606.05250, section 6.1:
neither punctuation nor the articles a, an, the count, nor, as in its program, case; F1 is of the bags of words.
Departures: text is first brought into Unicode's NFKC form, and punctuation is what Unicode says it is, not ASCII's
alone. Two texts without a word are equal only where they are the same as written.

The answer is what stands in the last `\boxed{}` or after "the answer is", up to the sentence's end, else the whole
completion; `detail` names the rule. A reference that is a JSON list of texts holds alternatives, and the best counts.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from pydantic import Field

from datagen.contracts.params import Params
from datagen.contracts.records import Trace, Verdict
from datagen.verify.answers import ANSWER_IS, MAX_ANSWER_CHARS, SENTENCE_END, Answer, last_boxed, trim

NAME = "short_answer"
_ARTICLES = frozenset({"a", "an", "the"})


class Config(Params):
    """The score is 0 or 1 by `measure` exact, F1 in [0, 1] by f1; a row passes at the stage's `threshold`."""

    method: Literal["short_answer"]
    measure: Literal["exact", "f1"] = "exact"
    threshold: float = Field(1.0, ge=0, le=1)


def short_answer(config: Config, traces: Iterable[Trace]) -> Iterator[Verdict]:
    """Judge each trace by its prompt's reference; one without is an `error`, one without a text `unparsed`."""
    return (_judge(config, trace) for trace in traces)


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


_MEASURES = {"exact": exact_match, "f1": token_f1}


def find_short_answer(completion: str) -> Answer | None:
    """The answer by the first rule that applies; None where the completion is empty, or too long to be one."""
    if boxed := last_boxed(completion):
        return Answer(boxed, r"in \boxed")
    for match in reversed(list(ANSWER_IS.finditer(completion))):
        if text := trim(SENTENCE_END.split(completion[match.end() :], maxsplit=1)[0]):
            return Answer(text, "after 'the answer is'")
    text = completion.strip()
    return Answer(text, "the whole completion") if text and len(text) <= MAX_ANSWER_CHARS else None


def references(reference: str) -> list[str]:
    """The alternatives in a reference, one or more."""
    try:
        given: Any = json.loads(reference)
    except (ValueError, RecursionError):
        return [reference]
    if isinstance(given, list) and given and all(isinstance(one, str) for one in given):  # pyright: ignore[reportUnknownVariableType]
        return given  # pyright: ignore[reportUnknownVariableType]
    return [reference]


def _judge(config: Config, trace: Trace) -> Verdict:
    if trace.prompt.reference is None:
        detail = "no reference: the row has neither `reference` nor `answer` to compare with"
        return Verdict(id=trace.id, method=NAME, status="error", score=0.0, reason="no_reference", detail=detail)
    answer = find_short_answer(trace.completion)
    if answer is None:
        detail = f"no answer found in {len(trace.completion)} characters"
        return Verdict(id=trace.id, method=NAME, status="unparsed", score=0.0, reason="no_answer", detail=detail)
    measure = _MEASURES[config.measure]
    scores = {one: measure(answer.text, one) for one in references(trace.prompt.reference)}
    best = max(scores, key=lambda one: scores[one])
    passed = scores[best] >= config.threshold
    return Verdict(
        id=trace.id, method=NAME, status="pass" if passed else "fail", score=scores[best], answer=answer.text,
        reason=None if passed else "wrong_answer",
        detail=f"{answer.rule}: {answer.text}, beside {best}: {config.measure} {scores[best]:.3g}",
    )  # fmt: skip
