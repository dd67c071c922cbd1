"""A fence around material in a question to a model, so that nothing in the material can close it.

The two lines that a text stands between bear a code: the start of a hash of all the texts, taken again until none of
them holds it.
"""

import hashlib
import json
from collections.abc import Sequence

CODE_CHARS = 8


def fence_code(texts: Sequence[str], n_chars: int = CODE_CHARS) -> str:
    """`n_chars` hexadecimal digits that no text holds, the same for the same texts."""
    digest = hashlib.sha256(json.dumps(texts).encode()).hexdigest()
    while any(digest[:n_chars] in text.lower() for text in texts):
        digest = hashlib.sha256(digest.encode()).hexdigest()
    return digest[:n_chars]


def fenced(name: str, text: str, code: str) -> str:
    """The text between its two lines."""
    return f"<<<{name} {code}>>>\n{text}\n<<<END OF {name} {code}>>>"
