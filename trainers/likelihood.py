"""How likely a language model finds given answers or texts: nats a token, bits a byte.

Bits a byte compare models of different tokenizers: the nats of all scored tokens over ln 2 and over the UTF-8 bytes of
the text that they say. Gao et al. The Pile. 2020. arXiv:2101.00027, section 3.1. Scored are the tokens that a student
would learn of a trace, of which the one that ends the turn says no text: that the answer ends is a part of it. Of a
text they are all but its first, which nothing stands before; a text of more tokens than `max_tokens` is read in pieces
as in training (trainers/lm_rows.py), and its figures are the sums over them.

Axes: N tokens, V vocabulary.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from datagen.backends.models import resolve_model
from datagen.backends.transformers_models import Example, TemplateError, device_type, encode, end_tokens
from datagen.contracts.errors import DataError, MissingError
from datagen.contracts.records import Document, Rejection, Trace
from trainers.lm_rows import pieces
from trainers.loop import micro_batches

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Scored:
    """An answer, or a piece of a text, that can be scored; its length is its cost in tokens.

    Attributes:
        id: of the trace or the text.
        example: what the model reads, of which the answer is scored.
        n_bytes: of the answer's text in UTF-8; of a text's first piece those of all its pieces, of the others 0.
    """

    id: str
    example: Example
    n_bytes: int

    def __len__(self) -> int:
        """Tokens, the prompt's included."""
        return len(self.example)


class Likelihood(NamedTuple):
    """Of one answer or text: nats of its tokens, how many, and bytes of its text."""

    nats: float
    n_tokens: int
    n_bytes: int


class Compared(NamedTuple):
    """Likelihoods by model, each of the same answers, whose ids these are, and why others have none."""

    by_model: dict[str, list[Likelihood]]
    ids: list[str]
    rejections: list[Rejection]


def compare(
    models: Mapping[str, str],
    rows: Sequence[Trace | Document | Rejection],
    *,
    dtype: str,
    max_tokens: int,
    text_tokens: int,
    stage: str,
) -> Compared:
    """Score the answers and texts that all models can score.

    Args:
        models: what each is called, and its name or folder.
        rows: of the data.
        dtype: of the weights, as torch calls it.
        max_tokens: see `likelihoods`.
        text_tokens: of a piece of a text, at most; a model's context bounds it too.
        stage: that drops.

    Raises:
        MissingError: a model has no chat template, and there are answers to score.
        DataError: see `likelihoods`.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    from trainers.teachers._models import context_of

    disable_progress_bar()
    device = torch.device(device_type())
    by_id: dict[str, dict[str, Likelihood]] = {}
    dropped: dict[str, Rejection] = {}
    for who, name in models.items():
        folder = resolve_model(name).folder
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        if not tokenizer.chat_template and any(isinstance(row, Trace) for row in rows):
            raise MissingError(f"model {name!r} has no chat template; add chat_template.jinja to its folder")
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
        model = model.to(device)
        scored, rejections = scorable(
            rows, tokenizer, end_tokens(model, tokenizer), context_of(model.config), text_tokens, stage=stage
        )
        dropped = {row.id: row for row in rejections} | dropped
        found = likelihoods(model, scored, max_tokens, device)
        by_id[who] = {}
        for row, one in zip(scored, found, strict=True):
            nats, n_tokens, n_bytes = by_id[who].get(row.id, Likelihood(0.0, 0, 0))
            by_id[who][row.id] = Likelihood(nats + one.nats, n_tokens + one.n_tokens, n_bytes + one.n_bytes)
    ids = [row.id for row in rows if row.id not in dropped]
    return Compared({who: [each[id] for id in ids] for who, each in by_id.items()}, ids, list(dropped.values()))


def scorable(
    rows: Iterable[Trace | Document | Rejection],
    tokenizer: Any,
    ends: frozenset[int],
    context: int,
    text_tokens: int,
    *,
    stage: str,
) -> tuple[list[Scored], list[Rejection]]:
    """The answers and pieces of texts that a model can score, in order, and what it cannot, with the reason.

    Args:
        rows: of the data.
        tokenizer: of the model, with a chat template for answers; transformers types its answers too loosely to use.
        ends: tokens that end a turn.
        context: tokens of the longest sequence; a longer answer is dropped, never cut.
        text_tokens: of a piece of a text, at most.
        stage: that drops.
    """
    found: list[Scored] = []
    rejections: list[Rejection] = []
    for row in rows:
        if isinstance(row, Rejection):
            rejections.append(row)
            continue
        if isinstance(row, Document):
            tokens: list[int] = tokenizer(row.text, verbose=False)["input_ids"]
            if len(tokens) < 2:
                rejections.append(Rejection(id=row.id, stage=stage, reason="empty_text", detail="less than two tokens"))
                continue
            n_bytes = _n_bytes(Example(tokens, 1), tokenizer)
            for part in pieces(tokens, min(text_tokens, context)):
                found.append(Scored(row.id, Example(list(part), 1), n_bytes))
                n_bytes = 0
            continue
        reason = detail = ""
        try:
            example = encode(row, tokenizer, ends)
        except TemplateError as error:
            reason, detail, example = "chat_template", str(error), Example([], 0)
        n_bytes = _n_bytes(example, tokenizer)
        if not reason and (not n_bytes or not example.n_prompt_tokens):
            reason, detail = "empty_completion", "no text to score, or no token before it"
        elif len(example) > context:
            reason, detail = "too_long", f"{len(example)} tokens, the model's context is {context}"
        if reason:
            rejections.append(Rejection(id=row.id, stage=stage, reason=reason, detail=detail))
        else:
            found.append(Scored(row.id, example, n_bytes))
    return found, rejections


def likelihoods(model: Any, rows: Sequence[Scored], max_tokens: int, device: "torch.device") -> list[Likelihood]:
    """Of each row, in order.

    Args:
        model: of transformers, on `device`; types too loose to use.
        rows: to score.
        max_tokens: of a batch, padding included; rounding alone depends on it.
        device: of the model.

    Raises:
        DataError: a token has probability 0, or the model's logits are no numbers.
    """
    import torch

    from trainers.batches import collate, completion_logits

    model.eval()
    found: dict[int, float] = {}
    with torch.no_grad():
        for part in micro_batches(rows, max_tokens, 1)[0]:
            batch = collate([row.example for row in part]).to(device)
            logits = completion_logits(model, batch).double()
            nats = torch.nn.functional.cross_entropy(logits, batch.labels, reduction="none")
            for row, tokens in zip(part, nats.split([row.example.n_completion_tokens for row in part]), strict=True):
                found[id(row)] = tokens.sum().item()
                if not math.isfinite(found[id(row)]):
                    raise DataError(
                        f"row {row.id!r}: its tokens have {found[id(row)]} nats; look at the model's logits"
                    )
    return [Likelihood(found[id(row)], row.example.n_completion_tokens, row.n_bytes) for row in rows]


def figures(found: Sequence[Likelihood]) -> dict[str, Any]:
    """Over all answers, each token and each byte weighing the same; rounded to 8 digits."""
    nats, n_tokens, n_bytes = (math.fsum(column) for column in zip(*found, strict=True))
    return {
        "nats_per_token": round(nats / n_tokens, 8),
        "bits_per_byte": round(nats / math.log(2) / n_bytes, 8),
        "n_tokens": int(n_tokens),
        "n_bytes": int(n_bytes),
    }


def _n_bytes(example: Example, tokenizer: Any) -> int:
    """Of what the answer adds to the text; on its own some tokenizers would drop the space that it starts with."""
    whole, prompt = (
        tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for tokens in (example.tokens, example.tokens[: example.n_prompt_tokens])
    )
    return len(whole.encode()) - len(prompt.encode())
