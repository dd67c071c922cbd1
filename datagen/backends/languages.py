"""Which language a text is in, by a naive Bayes model of byte n-grams over 97 languages.

Source: Lui and Baldwin, langid.py: An Off-the-shelf Language Identification Tool, ACL 2012, as py3langid continues it.
"""

from functools import cache
from typing import Any


def known_languages() -> list[str]:
    """ISO 639-1 codes of the languages that the model tells apart."""
    return list(_identifier().labels)


def ranked_languages(text: str) -> list[tuple[str, float]]:
    """Every language and its probability, the most probable first; they sum to 1. It expects lower case."""
    return _identifier().rank(text)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
