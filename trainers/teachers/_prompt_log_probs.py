"""Log-probs of given tokens from a vLLM server: POST /v1/completions with `prompt_logprobs`.

Source: the API reference of vLLM's OpenAI-compatible server. Answers stay in the ledger, so none is asked for twice.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from datagen.backends.base import Completion
from datagen.backends.ledger import Ledger, ledger_path, request_key
from datagen.contracts.errors import BackendError
from datagen.contracts.stage import DEFAULT_CONCURRENCY
from trainers.model_server import Refused, Server

_NO_MASS = -9999.0  # vLLM's word for log 0, as JSON has none

Pairs = list[list[tuple[int, float]]]


class PromptLogProbs:
    """Asks one server; safe to use from one thread."""

    def __init__(
        self, base_url: str, model: str, top: int, *, provider: str | None, api_key: str, timeout_s: float
    ) -> None:
        """Name the server and the model on it; nothing is asked yet."""
        self._url, self._model, self._top = f"{base_url}/completions", model, top
        self._server = Server(api_key=api_key, timeout_s=timeout_s)
        self._identity = {"endpoint": provider or base_url, "model": model, "prompt_logprobs": top}

    def ask(self, sequences: Sequence[tuple[list[int], int]]) -> list[Pairs | Refused]:
        """The likeliest tokens, and the one that is there, of each position from `first` on, as (id, log-prob).

        Args:
            sequences: tokens and `first`, at least 1, as nothing is said of the first token.

        Raises:
            BackendError: the server is not there, or answers what it was not asked.
        """
        keys = [request_key({**self._identity, "prompt": tokens}) for tokens, _ in sequences]
        n_at_once = int(os.environ.get("DATASTILL_CONCURRENCY", DEFAULT_CONCURRENCY))
        with Ledger.open(ledger_path()) as ledger, ThreadPoolExecutor(n_at_once) as pool:
            known = ledger.get_many(keys)

            def answer(job: tuple[bytes, tuple[list[int], int]]) -> Pairs | Refused:
                key, (tokens, first) = job
                if (stored := known.get(key)) is None:
                    try:
                        stored = ledger.put(key, self._fetch(tokens).to_bytes())
                    except Refused as refused:
                        return refused
                found = Completion.from_bytes(stored).top_logprobs
                assert found is not None
                return [[(int(token), value) for token, value in one] for one in found[first:]]

            return list(pool.map(answer, zip(keys, sequences, strict=True)))

    def _fetch(self, tokens: list[int]) -> Completion:
        body = {
            "model": self._model, "prompt": tokens, "max_tokens": 1, "temperature": 0, "prompt_logprobs": self._top,
        }  # fmt: skip
        reply = self._server.post(self._url, body)
        try:
            given: Sequence[Mapping[str, Any] | None] = reply["choices"][0]["prompt_logprobs"]
            pairs = [sorted((int(id), float(one["logprob"])) for id, one in (at or {}).items()) for at in given]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise BackendError(f"{self._url}: its reply has no prompt_logprobs; the server must be vLLM") from None
        ids = [[id for id, _ in at] for at in pairs]
        if len(pairs) != len(tokens) or any(one not in at for one, at in zip(tokens[1:], ids[1:], strict=True)):
            raise BackendError(f"{self._url}: its prompt_logprobs are of other tokens than those asked about")
        return Completion(
            text="",
            n_prompt_tokens=len(tokens),
            top_logprobs=[[(str(id), value) for id, value in at if value > _NO_MASS] for at in pairs],
        )
