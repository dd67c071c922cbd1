"""Rows judged in chunks, by whichever worker of the cluster is free; see `datagen.contracts.cluster`."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial

from datagen.contracts.cluster import in_chunks, map_chunks
from datagen.contracts.params import Params
from datagen.contracts.records import Trace, Verdict
from datagen.contracts.stage import load_method
from datagen.verify.pool import KeptWorkers

CHUNK = 256  # traces


def judge_on_cluster(method: str, config: Params, traces: Iterable[Trace]) -> Iterator[Verdict]:
    """The verdicts of the traces, in order, by a method that judges each row by itself (`ROW_BY_ROW`)."""
    for _, verdicts in map_chunks(partial(judge_chunk, method, config), in_chunks(traces, CHUNK)):
        yield from verdicts


def judge_chunk(method: str, config: Params, traces: Sequence[Trace]) -> list[Verdict]:
    """On a worker: its checks run in one process that is kept for the next chunk, since the worker is one of many."""
    module = load_method("datagen.verify", method)
    with _kept_workers().serving():
        return list(getattr(module, method)(config, traces))


@lru_cache(maxsize=1)
def _kept_workers() -> KeptWorkers:
    return KeptWorkers(at_most=1)
