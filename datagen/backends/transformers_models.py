"""What all who run a transformers model must agree on, teachers and students: device, tokens of a trace, tokenizer."""

import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any

from datagen.contracts.errors import MissingError, ParamsError
from datagen.contracts.records import Message, Trace


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence: the first `n_prompt_tokens` are given, the rest are learned; its length is its cost."""

    tokens: list[int]
    n_prompt_tokens: int

    def __len__(self) -> int:
        """Tokens, the prompt's included."""
        return len(self.tokens)

    @property
    def n_completion_tokens(self) -> int:
        """Tokens that are learned."""
        return len(self.tokens) - self.n_prompt_tokens


class TemplateError(ValueError):
    """The chat template refuses the messages, gives another prompt with the answer than without it, or hides its start.

    The second says that what is learned is never asked, the third that the answer is not what is learned.
    """


def device_type() -> str:
    """`$DATASTILL_DEVICE` (`cpu` or `cuda`), else `cuda` where there is one, else `cpu`.

    Raises:
        ParamsError: `$DATASTILL_DEVICE` is something else.
        MissingError: it is `cuda`, and torch finds none.
    """
    import torch

    named = os.environ.get("DATASTILL_DEVICE")
    if named not in {None, "", "cpu", "cuda"}:
        raise ParamsError(f"$DATASTILL_DEVICE: expected cpu or cuda (got {named!r})")
    if named == "cuda" and not torch.cuda.is_available():
        raise MissingError(f"$DATASTILL_DEVICE is cuda, but torch {torch.__version__} finds no CUDA device; unset it")
    return named or ("cuda" if torch.cuda.is_available() else "cpu")


def template_message(message: Message) -> dict[str, Any]:
    """A message as chat templates take it: tool calls are objects, which records keep as JSON text."""
    calls = message.get("tool_calls")
    return {**message, "tool_calls": json.loads(calls)} if calls else dict(message)


def end_tokens(network: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens at which the network's generation stops."""
    ends = network.generation_config.eos_token_id
    return frozenset({tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None})


def encode(trace: Trace, tokenizer: Any, end_tokens: frozenset[int]) -> Example:
    """The trace in the student's chat template, up to the first token that ends the turn.

    The prompt's tokens are those that generation starts from. An answer that was cut at its length limit is not
    followed by the end of the turn, or the student would learn to stop there.

    Args:
        trace: the answer may hold reasoning, which templates that know none leave out.
        tokenizer: of the student, with a chat template; transformers types its answers too loosely to use.
        end_tokens: any of them ends a turn.

    Raises:
        TemplateError: the template refuses the messages, as there are none or of a role that it does not know; the
            prompt's tokens are not a prefix of the whole conversation's; or what follows the prompt does not hold the
            answer, but for white space around it, as of a template that cuts thoughts out of answers.
    """
    messages = [template_message(message) for message in trace.prompt.messages]
    answer: dict[str, Any] = {"role": "assistant", "content": trace.completion}
    if trace.reasoning:
        answer["reasoning_content"] = trace.reasoning
    tools = json.loads(trace.prompt.tools) if trace.prompt.tools else None
    prompt_text = _chat_text(tokenizer, messages, tools, add_generation_prompt=True)
    whole_text = _chat_text(tokenizer, [*messages, answer], tools, add_generation_prompt=False)
    prompt, whole = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt_text, whole_text))
    n_prompt = len(prompt)
    if whole[:n_prompt] != prompt or not whole_text.startswith(prompt_text):
        raise TemplateError("the chat template changes the prompt when the answer follows it")
    if trace.completion.strip() not in whole_text[len(prompt_text) :]:
        raise TemplateError(
            f"the chat template hides the answer's start, {trace.completion.strip()[:40]!r}: it is not in what follows "
            "the prompt; keep thoughts in `reasoning`, or change the template"
        )
    ends = [i for i in range(n_prompt, len(whole)) if whole[i] in end_tokens]
    if trace.finish_reason == "length":
        whole = whole[: ends[-1]] if ends else whole
    elif ends:
        whole = whole[: ends[-1] + 1]
    return Example(whole, n_prompt)


def tokenizer_hash(tokenizer: Any) -> str:
    """SHA-256 over the vocabulary, ids with their tokens: equal where equal ids mean equal tokens."""
    vocabulary = sorted((id, token) for token, id in tokenizer.get_vocab().items())
    return hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()


def chat_tokens(
    tokenizer: Any, messages: list[dict[str, Any]], tools: Any, *, add_generation_prompt: bool
) -> list[int]:
    """The messages, as `template_message` gives them, in the tokenizer's chat template.

    Raises:
        TemplateError: the template refuses them.
    """
    text = _chat_text(tokenizer, messages, tools, add_generation_prompt=add_generation_prompt)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _chat_text(tokenizer: Any, messages: list[dict[str, Any]], tools: Any, *, add_generation_prompt: bool) -> str:
    import jinja2

    try:
        return tokenizer.apply_chat_template(
            messages, tools=tools, add_generation_prompt=add_generation_prompt, tokenize=False
        )
    except (jinja2.TemplateError, TypeError, ValueError, RecursionError) as error:
        raise TemplateError(f"the chat template refuses the messages: {error}") from None
