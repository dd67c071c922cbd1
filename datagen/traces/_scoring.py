"""What methods that judge their attempts share: the request for an attempt, and a verifier's verdict on it."""

from collections import deque
from collections.abc import Iterable, Iterator
from types import ModuleType

from datagen.backends.base import Failure, Request, Sampling
from datagen.contracts.records import Prompt, Trace, Verdict
from datagen.contracts.seeding import derive_seed
from datagen.contracts.stage import find_methods, load_method
from datagen.traces import Attempt
from datagen.traces._rows import to_row


def make_request(prompt: Prompt, sample_index: int, sampling: Sampling) -> Request:
    """One attempt, with a seed of its own; the same request for every method, so none buys another's answer again."""
    seed = derive_seed(sampling.seed, prompt.id, sample_index)
    return Request(
        messages=prompt.messages,
        tools=prompt.tools,
        sampling=sampling.model_copy(update={"seed": seed}),
        sample_index=sample_index,
    )


def check_verifier(name: str) -> str:
    """The name, once its module is loaded, so that `parse` finds what is wrong with it.

    Raises:
        ValueError: there is none of that name, it asks a backend of its own, or it needs parameters.
        MissingError: it needs a package that is not installed.
    """
    methods = find_methods("datagen.verify")
    if name not in methods:
        raise ValueError(f"no {name!r} in datagen.verify; there are {', '.join(methods)}")
    method = load_method("datagen.verify", name)
    instead = f"sample with n_samples, then run `datastill verify --set method={name}`"
    if hasattr(method, "opened"):
        raise ValueError(f"{name} asks a backend of its own, and a section names one, the teacher; {instead}")
    if needed := [key for key, field in method.Config.model_fields.items() if field.is_required() and key != "method"]:
        raise ValueError(f"{name} needs {', '.join(needed)}, which no section of traces holds; {instead}")
    return name


def judged(attempts: Iterable[Attempt], verifier: str, timeout_s: float) -> Iterator[tuple[Attempt, Verdict | None]]:
    """Each attempt in order with its verdict, None where there is no answer; reads ahead as the verifier does.

    `timeout_s` is the verifier's bound on one check, where it has one.
    """
    method = load_method("datagen.verify", verifier)
    waiting: deque[Attempt] = deque()

    def traces() -> Iterator[Trace]:
        for attempt in attempts:
            waiting.append(attempt)
            row = to_row(attempt, teacher="", stage="")
            if isinstance(row, Trace):
                yield row

    for verdict in getattr(method, verifier)(_verifier_config(method, verifier, timeout_s), traces()):
        while isinstance(waiting[0].outcome.answer, Failure):
            yield waiting.popleft(), None
        yield waiting.popleft(), verdict
    for attempt in waiting:
        yield attempt, None


def _verifier_config(method: ModuleType, name: str, timeout_s: float) -> object:
    bound = {"timeout_s": timeout_s} if "timeout_s" in method.Config.model_fields else {}
    return method.Config(method=name, **bound)
