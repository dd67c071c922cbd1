"""Requests to a server of one's own model, in JSON; what may pass is tried again.

Source: the API reference of vLLM's OpenAI-compatible server, whose status codes these are.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from datagen.contracts.errors import BackendError

N_TRIES = 5
FIRST_WAIT_S = 0.5  # doubled for each attempt that failed
_BUSY = frozenset({429, 500, 502, 503, 504})


class Refused(BackendError):
    """The server says that this request cannot be answered, as it is too long or asks for too many log-probs."""


class Server:
    """Safe to use from several threads."""

    def __init__(self, *, api_key: str = "", timeout_s: float = 600.0) -> None:
        """Nothing is asked yet.

        Args:
            api_key: for the header; empty sends none.
            timeout_s: of one attempt.
        """
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._timeout_s = timeout_s

    def post(self, url: str, body: Mapping[str, Any]) -> Any:
        """The reply's JSON; None where it is empty.

        Raises:
            Refused: the request itself is at fault.
            BackendError: the server is not there, or has no answer after `N_TRIES` attempts.
        """
        problem = ""
        for attempt in range(N_TRIES):
            if attempt:
                time.sleep(FIRST_WAIT_S * 2 ** (attempt - 1))
            request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=self._headers)
            try:
                with urllib.request.urlopen(request, timeout=self._timeout_s) as response:
                    return json.loads(content) if (content := response.read()) else None
            except urllib.error.HTTPError as error:
                said = error.read().decode("utf-8", "replace")[:300]
                problem = f"{url}: status {error.code}: {said}"
                if error.code in (400, 413, 422):
                    raise Refused(problem) from None
                if error.code not in _BUSY:
                    raise BackendError(problem) from None
            except (OSError, ValueError) as error:  # no connection, a connection lost, a reply that is no JSON
                problem = f"{url}: {error}"
        raise BackendError(f"{problem}; gave up after {N_TRIES} tries")
