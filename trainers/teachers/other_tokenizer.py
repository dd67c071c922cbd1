"""A teacher of another tokenizer: how likely it finds the pieces of a text that the student's tokenizer cuts out too.

Minixhofer, Vulić, Ponti. Universal Cross-Tokenizer Distillation via Approximate Likelihood Matching. 2025.
arXiv:2503.20083. It reads each trace in its own chat template; what both learn of the trace, its answer, must say the
same byte for byte. A text's likelihoods do not change, so each is computed when it is first asked for, and kept.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from datagen.backends.transformers_models import Example, TemplateError, encode, end_tokens
from datagen.contracts.errors import DataError, MissingError
from datagen.contracts.params import Params
from trainers.lm_rows import LearnedRow
from trainers.teachers._models import Dtype, context_of, load_frozen, load_tokenizer
from trainers.tokenizer_bias import Biased, Piece, Tokens, pieces

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trainers.batches import Batch
    from trainers.chunk_likelihoods import ChunkSignal


class Config(Params):
    """The teacher by name, folder or hub name, the type that it computes in, and which chunks count.

    `tokenizer_bias` is the largest difference between the tokenizers that an unbiased chunk has; `biased` says what
    becomes of the others.
    """

    teacher: str
    teacher_dtype: Dtype = "float32"
    tokenizer_bias: float = Field(default=1e-4, ge=0, le=1)
    biased: Biased = "merged"


class LikelihoodTeacher:
    """A `trainers.teachers.Teacher` for the objective `likelihood_matching`."""

    def __init__(
        self, model: Any, tokenizer: Any, ends: frozenset[int], student_tokenizer: Any, config: Config,
        identity: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """Wrap a frozen model and its tokenizer, whose turns end with one of `ends`.

        Raises:
            MissingError: a tokenizer that is not byte-level, or that normalises.
        """
        self._model, self._tokenizer, self._ends, self._config = model, tokenizer, ends, config
        self._student_tokenizer = student_tokenizer
        self._pairs: dict[str, tuple[Example, Example]] = {}
        self._known: dict[str, tuple[list[Piece], Tensor]] = {}
        self.identity = identity
        self.context = context_of(model.config)
        self._count()

    def prepare(self, rows: Sequence[LearnedRow], folder: Path) -> dict[str, tuple[str, str]]:
        """Read the rows in the teacher's template, count both tokenizers' tokens, align.

        Returns:
            Rows that the teacher's template refuses (`chat_template`), that are longer than its context (`too_long`),
            whose answer says something else to it (`other_text`), and without a chunk that counts (`no_chunk`).
        """
        refused: dict[str, tuple[str, str]] = {}
        pairs: dict[str, tuple[Example, Example]] = {}
        for row in rows:
            try:
                own = encode(row.trace, self._tokenizer, self._ends)
            except TemplateError as error:
                refused[row.id] = ("chat_template", f"the teacher's: {error}")
                continue
            if len(own) > self.context:
                refused[row.id] = ("too_long", f"{len(own)} tokens, the teacher's context is {self.context}")
            else:
                pairs[row.id] = (row.example, own)
        return refused | self.align(pairs)

    def align(self, pairs: Mapping[str, tuple[Example, Example]]) -> dict[str, tuple[str, str]]:
        """Take texts by id, as the student's tokens and the teacher's own; `prepare`'s reasons for some of them."""
        self._pairs, self._known = dict(pairs), {}
        self._count()
        refused: dict[str, tuple[str, str]] = {}
        for id in pairs:
            try:
                found = self._pieces(id)
            except DataError as error:
                refused[id] = ("other_text", str(error))
                continue
            if not found:
                refused[id] = ("no_chunk", "the tokenizers have no unbiased chunk in common; raise tokenizer_bias")
        return refused

    def signal(self, rows: Sequence[LearnedRow], batch: "Batch") -> "ChunkSignal":
        """The likelihoods of the rows' chunks.

        Raises:
            DataError: a row was not there, or of other tokens, in `prepare`.
        """
        return self.signal_of([row.id for row in rows], [row.example for row in rows]).to(batch.tokens.device)

    def signal_of(self, ids: Sequence[str], examples: Sequence[Example]) -> "ChunkSignal":
        """Likewise for texts by id and the student's tokens of them."""
        import torch

        from trainers.chunk_likelihoods import chunk_signal

        texts, log_probs = list[Any](), list[Any]()
        for id, example in zip(ids, examples, strict=True):
            if id not in self._pairs or self._pairs[id][0].tokens != example.tokens:
                raise DataError(
                    f"row {id!r} was not aligned with the teacher's tokens: it was not there before training"
                )
            found, likelihoods = self._likelihoods(id)
            texts.append((_learned(example), [piece.second for piece in found]))
            log_probs.append(likelihoods)
        return chunk_signal(texts, torch.cat(log_probs), self._of_student.starting_words)

    def _count(self) -> None:
        examples = self._pairs.values()
        student_ends = [id for id in [self._student_tokenizer.eos_token_id] if id is not None]
        self._of_teacher = Tokens.of(self._tokenizer, self._ends, (_learned(own) for _, own in examples))
        self._of_student = Tokens.of(self._student_tokenizer, student_ends, (_learned(one) for one, _ in examples))

    def _pieces(self, id: str) -> list[Piece]:
        example, own = self._pairs[id]
        return pieces(
            _learned(own), _learned(example), self._of_teacher, self._of_student,
            bound=self._config.tokenizer_bias, biased=self._config.biased,
        )  # fmt: skip

    def _likelihoods(self, id: str) -> "tuple[list[Piece], Tensor]":
        """A text's chunks and the teacher's log-probs of them."""
        import torch

        from trainers.batches import collate
        from trainers.chunk_likelihoods import chunk_log_probs, chunk_signal, log_probs_of_hidden
        from trainers.language_models import head_of, hidden_states

        if id not in self._known:
            own, found = self._pairs[id][1], self._pieces(id)
            weight, bias = head_of(self._model)
            spans = [piece.first for piece in found]
            signal = chunk_signal([(_learned(own), spans)], None, self._of_teacher.starting_words)
            with torch.no_grad():
                hidden = hidden_states(self._model, collate([own]).to(weight.device))
                signal = signal.to(weight.device)
                both = log_probs_of_hidden(hidden, weight, signal.tokens, signal.starting_words, bias)
                self._known[id] = (found, chunk_log_probs(*both, signal).cpu())
        return self._known[id]


def other_tokenizer(config: Config, student_tokenizer: Any, device: "torch.device") -> LikelihoodTeacher:
    """Load the teacher, on `device`.

    Raises:
        MissingError: it is not there, its logits are scaled or capped, or a tokenizer is not byte-level.
    """
    found, tokenizer = load_tokenizer(config.teacher)
    if not tokenizer.chat_template:
        raise MissingError(f"teacher {config.teacher!r} has no chat template; add chat_template.jinja to its folder")
    model = load_frozen(config.teacher, config.teacher_dtype, device)
    identity = {"model": found.name, "revision": found.revision, "dtype": config.teacher_dtype}
    return LikelihoodTeacher(model, tokenizer, end_tokens(model, tokenizer), student_tokenizer, config, identity)


def _learned(example: Example) -> list[int]:
    """The tokens after the prompt."""
    return example.tokens[example.n_prompt_tokens :]
