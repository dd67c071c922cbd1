"""Several servers of one model: which gets the next request, and how many each may have in flight.

The next request goes to the one that is least loaded for what it may have. That limit is additive increase,
multiplicative decrease (D.-M. Chiu, R. Jain. Analysis of the increase and decrease algorithms for congestion avoidance
in computer networks. 1989), steered by what a server shows:

- It rejects (429, 503) or lets time out: the limit falls, once for all requests that were sent before it fell, to nine
  tenths or to what the server kept of them, whichever is less, and by no more than half. Within one of a limit that
  was rejected it grows by an eighth of a request for each round of answers, elsewhere by a whole one.
- An answer takes more than half of the time that it has: nine tenths.
- vLLM says in its metrics that a tenth of the limit waits, twice in a row, or that its KV cache is full: nine tenths,
  and no growth meanwhile.

A server that refuses connections rests, and one request at a time tries it again; where all rest, the first to wake.
"""

import asyncio
import re
from collections import deque
from dataclasses import dataclass

from yarl import URL

DECREASE = 0.9
MOST_DECREASE = 0.5  # of one burst of rejections
SLOW_GROWTH = 1 / 8
SLOW_ANSWER_SHARE = 0.5  # of the time limit
WAITING_SHARE = 0.1  # of the limit, in vLLM's queue
FULL_KV_CACHE = 0.95
FIRST_REST_S = 1.0  # doubled for each refused connection
LAST_REST_S = 60.0
_METRIC = re.compile(
    r"^vllm:(?P<name>num_requests_waiting|kv_cache_usage_perc|gpu_cache_usage_perc)(?:{[^}]*})? (?P<value>\S+)$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Load:
    """What vLLM says of itself: requests in its queue, and the share of its KV cache in use."""

    n_waiting: float
    kv_cache_share: float


def parse_load(metrics: str) -> Load | None:
    """The load in vLLM's metrics, over all its engines; None where they are not vLLM's."""
    waiting: list[float] = []
    used: list[float] = []
    for found in _METRIC.finditer(metrics):
        (waiting if found["name"] == "num_requests_waiting" else used).append(float(found["value"]))
    return Load(sum(waiting), max(used, default=0.0)) if waiting else None


class Replica:
    """One server.

    Attributes:
        base_url: of its API.
        limit: requests that it may have in flight; a fraction grows until it is a whole one.
        in_flight: those that it has.
        n_cuts: how often the limit fell.
    """

    def __init__(self, base_url: str, most: int) -> None:
        self.move(base_url)
        self.limit = float(most)
        self.in_flight = 0
        self.n_cuts = 0
        self._most = float(most)
        self._ceiling = float("inf")  # a limit that was rejected
        self._cut_at = float("-inf")
        self._least = 1.0  # that this burst may leave
        self._was_waiting = False
        self._is_full = False
        self._n_refused = 0
        self._rests_until = 0.0

    def move(self, base_url: str) -> None:
        """It answers at `base_url` from now on."""
        base = URL(base_url)
        self.base_url = base_url
        self.chat_url = (base / "chat" / "completions").with_query(base.query)
        self.completions_url = (base / "completions").with_query(base.query)
        self.models_url = (base / "models").with_query(base.query)
        self.metrics_url = base.with_path("/metrics").with_query(base.query)

    @property
    def room(self) -> int:
        """Requests that it may take now."""
        return max(0, (1 if self._n_refused else self.whole_limit) - self.in_flight)

    @property
    def whole_limit(self) -> int:
        """The limit without its fraction, which is a sum of rounded steps."""
        return int(self.limit + 1e-9)

    @property
    def load(self) -> float:
        """Share of the limit that is in flight."""
        return self.in_flight / self.limit

    def rests_until(self) -> float:
        """When it may be tried again, on the loop's clock; 0 where it is up."""
        return self._rests_until

    def answered(self, sent_at: float, now: float, timeout_s: float) -> None:
        """It gave an answer, and still counts it as in flight."""
        self._n_refused, self._rests_until = 0, 0.0
        if now - sent_at > SLOW_ANSWER_SHARE * timeout_s:
            self._cut(sent_at, now, self.limit * DECREASE)
        elif not self._is_full and self.in_flight >= self.whole_limit:
            is_near = -1 <= self.limit - self._ceiling <= 1
            self.limit = min(self._most, self.limit + (SLOW_GROWTH if is_near else 1.0) / self.whole_limit)

    def rejected(self, sent_at: float, now: float) -> None:
        """It rejected a request, or let it time out, which still counts as in flight."""
        kept = self.in_flight - 1
        if sent_at >= self._cut_at:
            self._ceiling = self.limit
            self._cut(sent_at, now, min(self.limit * DECREASE, kept))
        elif kept < self.limit:  # more of the same burst
            self.limit = max(self._least, kept)
            self._ceiling = self.limit + 1

    def refused(self, now: float) -> None:
        """It did not take a connection."""
        if now >= self._rests_until:
            self._rests_until = now + min(LAST_REST_S, FIRST_REST_S * 2**self._n_refused)
            self._n_refused += 1

    def reported(self, load: Load, now: float) -> None:
        """VLLM's metrics were read."""
        is_waiting = load.n_waiting > WAITING_SHARE * self.limit
        self._is_full = is_waiting or load.kv_cache_share > FULL_KV_CACHE
        if (is_waiting and self._was_waiting) or load.kv_cache_share > FULL_KV_CACHE:
            self._cut(now, now, self.limit * DECREASE)
        self._was_waiting = is_waiting

    def _cut(self, sent_at: float, now: float, limit: float) -> None:
        if sent_at < self._cut_at:
            return
        self._least = max(1.0, self.limit * MOST_DECREASE)
        self._cut_at = now
        self.limit = max(self._least, limit)
        self.n_cuts += 1


class Replicas:
    """All servers; requests wait here until one has room. For one event loop."""

    def __init__(self, replicas: list[Replica]) -> None:
        self.all = replicas
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> Replica:
        """The least loaded that has room, which has one more in flight from now on; give it back."""
        loop = asyncio.get_running_loop()
        while True:
            if replica := self._choose(loop.time()):
                replica.in_flight += 1
                return replica
            turn = loop.create_future()
            self._waiting.append(turn)
            await turn

    def give_back(self, replica: Replica) -> None:
        """The request has ended."""
        replica.in_flight -= 1
        if self._waiting:
            self._wake(sum(one.room for one in self.all))

    def is_another_up(self, replica: Replica, now: float) -> bool:
        """Whether a request that `replica` did not take could go elsewhere at once."""
        return any(one is not replica and one.rests_until() <= now for one in self.all)

    def _choose(self, now: float) -> Replica | None:
        if len(self.all) == 1:
            return self.all[0] if self.all[0].in_flight < self.all[0].whole_limit else None
        up = [one for one in self.all if one.rests_until() <= now] or [min(self.all, key=Replica.rests_until)]
        return min((one for one in up if one.room), key=lambda one: one.load, default=None)

    def _wake(self, n: int) -> None:
        while n > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # cancelled
                turn.set_result(None)
                n -= 1
