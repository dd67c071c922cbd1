"""Log-probs of given tokens from a vLLM server: POST /v1/completions with `prompt_logprobs`.

Source: the API reference of vLLM's OpenAI-compatible server. Answers stay in the ledger, so none is asked for twice.
"""

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from datagen.backends.base import Completion
from datagen.backends.ledger import Ledger, ledger_path, request_key
from datagen.contracts.errors import BackendError
from datagen.contracts.stage import DEFAULT_CONCURRENCY

N_TRIES = 5
FIRST_WAIT_S = 0.5  # doubled for each attempt that failed
_BUSY = frozenset({429, 500, 502, 503, 504})
_NO_MASS = -9999.0  # vLLM's word for log 0, as JSON has none

Pairs = list[list[tuple[int, float]]]


class Refused(BackendError):
    """The server says that this request cannot be answered, as it is too long or asks for too many log-probs."""


class PromptLogProbs:
    """Asks one server; safe to use from one thread."""

    def __init__(
        self, base_url: str, model: str, top: int, *, provider: str | None, api_key: str, timeout_s: float
    ) -> None:
        """Name the server and the model on it; nothing is asked yet."""
        self._url, self._model, self._top = f"{base_url}/completions", model, top
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._timeout_s = timeout_s
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
        reply = self._post(json.dumps(body).encode())
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

    def _post(self, body: bytes) -> Any:
        """The reply's JSON; what may pass is tried again."""
        problem = ""
        for attempt in range(N_TRIES):
            if attempt:
                time.sleep(FIRST_WAIT_S * 2 ** (attempt - 1))
            request = urllib.request.Request(self._url, data=body, headers=self._headers)
            try:
                with urllib.request.urlopen(request, timeout=self._timeout_s) as response:
                    return json.loads(response.read())
            except urllib.error.HTTPError as error:
                said = error.read().decode("utf-8", "replace")[:300]
                problem = f"{self._url}: status {error.code}: {said}"
                if error.code in (400, 413, 422):
                    raise Refused(problem) from None
                if error.code not in _BUSY:
                    raise BackendError(problem) from None
            except (OSError, ValueError) as error:  # no connection, a connection lost, a reply that is no JSON
                problem = f"{self._url}: {error}"
        raise BackendError(f"{problem}; gave up after {N_TRIES} tries")
