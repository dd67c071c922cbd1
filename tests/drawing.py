"""A backend of known answers that draws requests as real backends do, for what asks by earlier outcomes."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from datagen.backends.base import Completion, Failure, Outcome, Request

BACKENDS = [(1, 1, True), (1, 1, False), (8, 8, False), (64, 16, True), (64, 16, False), (512, 512, False)]
"""Six ways of drawing: `ahead`, `piece` and `patient` of a `Drawing`."""


class Drawing:
    """Draws `ahead` requests before it gives an outcome, and in pieces of `piece`.

    `patient` says whether it draws again after the requests ended, as openai_api does; other backends give what they
    hold and are done.
    """

    def __init__(
        self, ahead: int, piece: int, patient: bool, answer: Callable[[Request], Completion | Failure]
    ) -> None:
        self.ahead, self.piece, self.patient = ahead, piece, patient
        self.asked: list[Request] = []
        self.n_calls = 0
        self.answer = answer

    def generate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        self.n_calls += 1
        held: list[Request] = []
        drawn, ended = iter(requests), False
        while True:
            while len(held) < self.ahead and not ended:
                batch = list(islice(drawn, self.piece))
                held += batch
                self.asked += batch
                ended = not batch and not self.patient
                if not batch:
                    break
            if not held:
                return
            request = held.pop(0)
            yield Outcome(request=request, key=b"", answer=self.answer(request))
