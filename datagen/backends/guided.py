"""What tokens an answer may go on with so that it follows a JSON schema.

Source: the library llguidance (https://github.com/guidance-ai/llguidance), whose docs/json_schema.md lists the keywords
that it holds an answer to. White space stands as json.dumps writes it, and nowhere else: a weak model may go on with
blanks for ever. Inside a text or a number it still may: `maxLength`, `maxItems` and `multipleOf` bound that.
"""

from collections.abc import Collection
from typing import Any

from datagen.contracts.errors import MissingError

_AS_JSON_DUMPS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class UnknownSchema(ValueError):
    """A schema that the library does not take."""


class Guides:
    """Gives a guide to each answer; a schema is compiled once."""

    def __init__(self, tokenizer: Any, end_tokens: Collection[int]) -> None:
        """Read the tokenizer's vocabulary.

        Args:
            tokenizer: of transformers, a fast one.
            end_tokens: ids that end an answer, at least one.

        Raises:
            MissingError: llguidance is not installed, or cannot work with the tokenizer.
        """
        try:
            import llguidance
            from llguidance.hf import from_tokenizer
        except ModuleNotFoundError as error:
            raise MissingError(
                f"a schema needs {error.name}: `pip install 'datastill[lm]'`, or structured_output=none"
            ) from None
        if not end_tokens:
            raise MissingError("a schema needs a model with an end token; name another, or set structured_output=none")
        try:
            self._tokenizer = from_tokenizer(tokenizer, eos_token=sorted(end_tokens))
        except ValueError as error:
            raise MissingError(
                f"a schema cannot be held with this model's tokenizer ({error}); name another model, or set "
                "structured_output=none"
            ) from None
        self._end_tokens = sorted(end_tokens)
        self._matcher: Any = llguidance.LLMatcher
        self._compiled: dict[str, Any] = {}

    def guide(self, schema: str) -> "Guide":
        """One for an answer that begins.

        Raises:
            UnknownSchema: it is no JSON object, has a keyword that the library cannot hold, or nothing follows it.
        """
        if schema not in self._compiled:
            try:
                grammar = self._matcher.grammar_from_json_schema(schema, overrides=_AS_JSON_DUMPS)
            except ValueError as error:
                raise UnknownSchema(str(error)) from None
            compiled = self._matcher(self._tokenizer, grammar, log_level=0)
            if compiled.is_error():
                raise UnknownSchema(" ".join(compiled.get_error().split()))
            self._compiled[schema] = compiled
        return Guide(self._compiled[schema].deep_copy(), self._end_tokens)


class Guide:
    """Follows one answer."""

    def __init__(self, matcher: Any, end_tokens: Collection[int]) -> None:
        self._matcher = matcher
        self._end_tokens = end_tokens

    def allowed(self) -> bytearray:
        """Which ids may come next, one at least: bit i % 8, from the lowest, of byte i // 8."""
        bits = bytearray(self._matcher.compute_bitmask())
        if not any(bits):  # the library has a limit on how complex a state may be
            for token in self._end_tokens:
                bits[token // 8] |= 1 << token % 8
        return bits

    def take(self, token: int) -> bool:
        """Go on with a token; whether the answer ends with it."""
        self._matcher.consume_token(token)
        return self._matcher.is_stopped()

    @property
    def is_complete(self) -> bool:
        """Whether what was taken follows the schema as it is."""
        return not self._matcher.is_error() and self._matcher.is_accepting()
