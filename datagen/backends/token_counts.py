"""Tokens of texts, by the tokenizer of a named model; no weights are read.

It is the library `tokenizers` on the model's tokenizer.json, without the tokens that a model puts around a text.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datagen.backends.models import resolve_model
from datagen.contracts.errors import MissingError


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Of one text: its tokens, and those of them that stand for what the tokenizer does not know."""

    n_tokens: int
    n_unknown: int


class TokenCounter:
    """Counts tokens; `revision` says by whose tokenizer."""

    def __init__(self, model: str) -> None:
        """Load the tokenizer of `model`, a name or folder as `resolve_model` takes them.

        Raises:
            MissingError: there is no such model, it has no tokenizer.json, or `tokenizers` is not installed.
        """
        found = resolve_model(model)
        self.revision = found.revision
        file = found.folder / "tokenizer.json"
        if not file.is_file():
            raise MissingError(
                f"{found.folder}: has no tokenizer.json; save_pretrained of its AutoTokenizer writes one"
            )
        try:
            from tokenizers import Tokenizer
        except ModuleNotFoundError:
            raise MissingError("tokens are counted by the package tokenizers: pip install 'datastill[lm]'") from None
        self._tokenizer: Any = Tokenizer.from_file(str(file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._unknown = _unknown_id(file, self._tokenizer)

    def count(self, texts: Sequence[str]) -> list[Counted]:
        """What each text counts."""
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [
            Counted(n_tokens=len(one.ids), n_unknown=0 if self._unknown is None else one.ids.count(self._unknown))
            for one in encoded
        ]


def _unknown_id(file: Path, tokenizer: Any) -> int | None:
    """The token for what is unknown; tokenizers of bytes have none."""
    model = json.loads(file.read_text(encoding="utf-8"))["model"]
    if model.get("unk_id") is not None:  # as Unigram has it
        return int(model["unk_id"])
    return None if model.get("unk_token") is None else tokenizer.token_to_id(model["unk_token"])
