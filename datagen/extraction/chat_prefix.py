"""What a chat model writes after nothing but its template's start: a user's question and its own answer to it.

Extracting alignment data in open models. 2025. arXiv:2510.18554: a post-trained model is given its chat template up to
the user's turn and samples the rest at temperature 1. There it is one pass, in which the model writes the template's
text between the turns as well. Here each turn is a request of its own and the text between them is the template's: the
same distribution, given that the model would have written that text; a model that would not gets it all the same, so
none of its samples is lost for that.

The template's texts are found by rendering marks in place of the turns, so any template will do that puts each turn
once and unchanged. No template and no tokenizer is needed where the texts are given literally.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from datagen.backends.base import Completion, Failure, Outcome, Request, Sampling
from datagen.backends.models import resolve_model
from datagen.contracts.errors import MissingError, ParamsError
from datagen.contracts.seeding import derive_seed

BLOCK_SAMPLES = 4096  # whose turns are held at a time
Start = Literal["user", "assistant", "system"]
ROLES: dict[str, tuple[str, ...]] = {
    "user": ("user", "assistant"), "assistant": ("assistant",), "system": ("system", "user", "assistant")
}  # fmt: skip
_MARK = "turn{}of{}marks"  # letters and digits alone, which no template escapes or trims
_LIKE_SPECIAL = re.compile(r"<\|[^<>|\s]{1,40}\|>|</?s>|\[/?INST\]")

Generate = Callable[[Iterable[Request]], Iterator[Outcome]]
"""A backend's `generate`: lazy, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """The template's part of a sample.

    Attributes:
        start: the turn that the model writes first.
        prefix: all text before it.
        after: what follows each turn, by `ROLES[start]`; that of the last is known and never asked for.
        stops: the text that ends each turn, None where the model's end token does.
        special: texts of special tokens, of which no turn holds one.
        system_prompt: text that the template puts before the first header by itself; empty where it puts none there
            or where it cannot be told from the header.
    """

    start: str
    prefix: str
    after: tuple[str, ...]
    stops: tuple[str | None, ...]
    special: tuple[str, ...]
    system_prompt: str = ""

    @property
    def roles(self) -> tuple[str, ...]:
        """Of the turns that the model writes."""
        return ROLES[self.start]

    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        return {name: value for name, value in asdict(self).items() if name != "special"} | {"roles": self.roles}


@dataclass(slots=True)
class Sample:
    """What the model wrote, turn by turn; `problem` says why it is no row, `outcome` is the last request's."""

    index: int
    texts: list[str] = field(default_factory=list[str])
    problem: Failure | None = None
    is_failure: bool = False  # the backend gave no answer
    outcome: Outcome | None = None


def find_turns(tokenizer: Any, start: Start = "user", *, keep_system_prompt: bool = True) -> Turns:
    """The texts around the turns in a tokenizer's chat template.

    Args:
        tokenizer: transformers'; its type is too loose to use.
        start: the first turn that the model writes.
        keep_system_prompt: whether text that the template puts first by itself stays in the prefix. It is told from the
            turn's header by the special token that opens both, as `<|im_start|>` does.

    Raises:
        MissingError: there is no chat template, or a turn cannot be found in it.
        ParamsError: the template's own system prompt is to be left out and cannot be told from the header.
    """
    if not tokenizer.chat_template:
        raise MissingError(
            "the model has no chat template, so there is no prefix that it was trained to go on from; add "
            "chat_template.jinja to its folder, or give prefix= and between= literally"
        )
    roles = ROLES[start]
    marks = [_MARK.format(i, role) for i, role in enumerate((*roles, "user"))]
    said = [{"role": role, "content": mark} for role, mark in zip((*roles, "user"), marks, strict=True)]
    prefix, *after = _around(_rendered(tokenizer, said, start), marks[: len(said)], start)
    if len(roles) > 1:  # what a model is given when it is asked, where the history shows something else
        asked = _rendered(tokenizer, said[: len(roles) - 1], start, add_generation_prompt=True)
        after[len(roles) - 2] = _around(asked, marks[: len(roles) - 1], start)[-1]
    special = _special_texts(tokenizer)
    bare, system_prompt = _without_system_prompt(prefix, tokenizer.bos_token, special)
    if start == "system":
        bare, system_prompt = prefix, ""  # the model's own stands in its place
    if bare is None and not keep_system_prompt:
        raise ParamsError(
            f"keep_system_prompt: no special token opens the turns of this template, so a system prompt cannot be told "
            f"from the header in {prefix!r}; keep it, or give prefix= and between= literally"
        )
    return Turns(
        start=start,
        prefix=prefix if keep_system_prompt or bare is None else bare,
        after=tuple(after[: len(roles)]),
        stops=tuple(_stop(text, special, tokenizer.eos_token) for text in after[: len(roles)]),
        special=special,
        system_prompt=system_prompt,
    )


def read_turns(model: str, start: Start = "user", *, keep_system_prompt: bool = True) -> Turns:
    """`find_turns` of a model's tokenizer, by the model's name or folder.

    Raises:
        MissingError: transformers, the model or its tokenizer is not there, and as `find_turns`.
        ParamsError: as `find_turns`.
    """
    try:
        from transformers import AutoTokenizer
    except ModuleNotFoundError as error:
        raise MissingError(f"a chat template is read with {error.name}: `pip install 'datastill[lm]'`") from None
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(resolve_model(model).folder)
    except MissingError as error:
        raise MissingError(f"{error}; template_model names the model whose chat template is read") from None
    except (OSError, ValueError, KeyError) as error:
        raise MissingError(f"model {model!r} has no tokenizer that loads: {' '.join(str(error).split())}") from None
    return find_turns(tokenizer, start, keep_system_prompt=keep_system_prompt)


def literal_turns(prefix: str, between: str) -> Turns:
    """A user's and an assistant's turn, from the texts before and between them; no tokenizer is read.

    The answer ends by the model's end token, and what looks like a special token counts as one.
    """
    special = tuple(dict.fromkeys(_LIKE_SPECIAL.findall(prefix + between)))
    return Turns(
        start="user", prefix=prefix, after=(between, ""), stops=(_stop(between, special, None), None), special=special
    )


def sample_turns(
    turns: Turns,
    sampling: Sampling,
    n_samples: int,
    generate: Generate,
    advance: Callable[[int], None] = lambda n: None,
) -> Iterator[Sample]:
    """Samples in order of their index, a block in memory at a time; a turn is asked for where those before it ended.

    Each request's seed derives from the run's seed, the sample's index and the turn, so samples differ from each other
    and not from run to run; more samples leave the first as they are.

    Args:
        turns: what stands around them.
        sampling: of every turn; its own stop strings come on top.
        n_samples: how many.
        generate: the backend's.
        advance: told of each number of turns that are done, those that are never asked for included.
    """
    for first in range(0, n_samples, BLOCK_SAMPLES):
        block = [Sample(index) for index in range(first, min(n_samples, first + BLOCK_SAMPLES))]
        for place in range(len(turns.roles)):
            asked = [sample for sample in block if sample.problem is None]
            outcomes = generate(_request(turns, sampling, sample, place) for sample in asked)
            for sample, outcome in zip(asked, outcomes, strict=True):
                _take(sample, outcome, turns)
                advance(1 if sample.problem is None else len(turns.roles) - place)
        yield from block


def raw_text(turns: Turns, texts: Sequence[str]) -> str:
    """The turns as they stand in the template, without the prefix and what follows the last."""
    return "".join(text + after for text, after in zip(texts, (*turns.after[: len(texts) - 1], ""), strict=True))


def _request(turns: Turns, sampling: Sampling, sample: Sample, place: int) -> Request:
    said = "".join(text + after for text, after in zip(sample.texts, turns.after[:place], strict=True))
    stop = turns.stops[place]
    seed = derive_seed(sampling.seed, "extract", turns.start, sample.index, place)
    stops = sampling.stop if stop is None or stop in sampling.stop else (*sampling.stop, stop)
    return Request(
        prompt=turns.prefix + said,
        sampling=sampling.model_copy(update={"seed": seed, "stop": stops}),
        sample_index=0 if place else sample.index,
    )


def _take(sample: Sample, outcome: Outcome, turns: Turns) -> None:
    role, answer = turns.roles[len(sample.texts)], outcome.answer
    sample.outcome = outcome
    if isinstance(answer, Failure) and answer.reason != "empty_answer":
        sample.problem, sample.is_failure = answer, True
        return
    text = answer.text if isinstance(answer, Completion) else ""
    sample.texts.append(text)
    if not text.strip():
        sample.problem = Failure(reason="empty_turn", detail=f"the {role}'s turn is empty")
    elif found := next((one for one in turns.special if one in text), None):
        sample.problem = Failure(reason="special_token", detail=f"the {role}'s turn holds {found!r}")
    elif isinstance(answer, Completion) and answer.finish_reason == "length":
        detail = f"the {role}'s turn did not end within max_new_tokens={outcome.request.sampling.max_new_tokens}"
        sample.problem = Failure(reason="no_end", detail=detail)


def _rendered(
    tokenizer: Any, messages: list[dict[str, str]], start: str, *, add_generation_prompt: bool = False
) -> str:
    import jinja2

    try:
        return tokenizer.apply_chat_template(messages, add_generation_prompt=add_generation_prompt, tokenize=False)
    except (jinja2.TemplateError, TypeError, ValueError, RecursionError) as error:
        roles = ", ".join(one["role"] for one in messages)
        raise MissingError(
            f"the chat template refuses turns of {roles} ({error}), so no prefix of start={start} can be found; take "
            "another start, or give prefix= and between= literally"
        ) from None


def _around(text: str, marks: Sequence[str], start: str) -> list[str]:
    """The pieces before, between and after the marks.

    Raises:
        MissingError: a mark is not there once, or not in order.
    """
    pieces: list[str] = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found or mark in text:
            role = mark.partition("of")[2].removesuffix("marks")
            raise MissingError(
                f"the {role}'s turn is not found once in what the chat template makes of it, so the prefix of "
                f"start={start} is unknown; give prefix= and between= literally"
            )
        pieces.append(before)
    return [*pieces, text]


def _special_texts(tokenizer: Any) -> tuple[str, ...]:
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return tuple(sorted({*tokenizer.all_special_tokens, *added}))


def _without_system_prompt(prefix: str, bos: str | None, special: Sequence[str]) -> tuple[str | None, str]:
    """(prefix without what the template adds, what it adds); (None, "") where no special token opens the turn."""
    opening = bos if bos and prefix.startswith(bos) else ""
    rest = prefix[len(opening) :]
    opener = max((one for one in special if rest.startswith(one)), key=len, default="")
    if not opener and opening and prefix.count(opening) > 1:  # where the start token itself opens every turn
        opener, opening, rest = opening, "", prefix
    if not opener:
        return None, ""
    last = rest.rindex(opener)
    return opening + rest[last:], rest[:last]


def _stop(after: str, special: Sequence[str], end: str | None) -> str | None:
    """The text that ends a turn: the special token that follows it, else all that does, but for white space at its end.

    None where that is the end token, at which every backend stops by itself, or where there is nothing but white space.
    """
    first = max((one for one in special if after.lstrip().startswith(one)), key=len, default="")
    stop = first or after.rstrip()
    return None if stop in ("", end) else stop
