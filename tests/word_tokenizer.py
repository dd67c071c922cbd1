"""A tokenizer whose counts are known: a token for each run of small Latin letters, and for each other character."""

import re
from collections.abc import Iterable
from pathlib import Path

PIECE = re.compile(r"[a-z]+|[^a-z]")


def pieces(text: str) -> list[str]:
    """The tokens of the text, by Python's own regular expressions."""
    return PIECE.findall(text)


def write_word_tokenizer(folder: Path, texts: Iterable[str]) -> Path:
    """A model's folder without weights; its tokenizer knows the pieces of `texts` and takes all others for unknown."""
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split

    vocabulary = {
        piece: id for id, piece in enumerate(["[?]", *sorted({one for text in texts for one in pieces(text)})])
    }
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[?]"))
    tokenizer.pre_tokenizer = Split(Regex(PIECE.pattern), behavior="isolated")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text("{}")
    return folder
