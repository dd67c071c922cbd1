"""Chunks of rows over the workers of dask.distributed, and their results in order.

`$DASK_SCHEDULER_ADDRESS`, a machine fact like `$DATASTILL_WORKERS`, says where chunks go:
    not set               nowhere: each is done in this process when its turn comes
    local                 to `$DATASTILL_WORKERS` processes of one thread, started here and ended with the run
    tcp://10.0.0.1:8786   to the workers of that scheduler, or any other address that dask knows

The rows of a chunk and the function decide its result, and chunks are cut by the caller without regard to the workers,
so the result is the same everywhere. A worker that dies loses its chunks, and dask gives them to another; one that is
lost with `MAX_DEATHS` workers is an error. Chunks in flight are bounded, so memory is that of a few chunks a worker.

Source: https://distributed.dask.org, Client.submit, Worker Memory Management, Resilience.
"""

import importlib
import importlib.metadata
import importlib.util
import logging
import os
import pickle
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from datagen.contracts.errors import BackendError, MissingError, ParamsError

ADDRESS = "DASK_SCHEDULER_ADDRESS"
LOCAL = "local"
CHUNKS_A_THREAD = 3  # one that is done, one being done, one on its way
MAX_DEATHS = 3  # of workers that had the same chunk
_WAIT_FOR_WORKERS_S = 60

C = TypeVar("C")
R = TypeVar("R")

log = logging.getLogger(__name__)


def is_named() -> bool:
    """Whether chunks go to a cluster."""
    return bool(os.environ.get(ADDRESS))


def n_workers() -> int:
    """`$DATASTILL_WORKERS`, else the number of CPUs that this process may use."""
    named = os.environ.get("DATASTILL_WORKERS")
    if named is None:
        return len(os.sched_getaffinity(0))
    if not named.isdecimal() or int(named) < 1:
        raise ParamsError(f"$DATASTILL_WORKERS: expected a number of at least 1 (got {named!r})")
    return int(named)


def in_chunks(rows: Iterable[C], size: int) -> Iterator[list[C]]:
    """The rows, `size` at a time; the last chunk may be shorter."""
    remaining = iter(rows)
    while chunk := list(islice(remaining, size)):
        yield chunk


def map_chunks(function: Callable[[C], R], chunks: Iterable[C]) -> Generator[tuple[C, R]]:
    """Each chunk with `function(chunk)`, in order; `chunks` is read a few ahead of what is taken.

    Args:
        function: importable by name on the workers, or a `functools.partial` of such a one, whose arguments each worker
            is sent once; equal chunks must give equal results, since a chunk whose worker died is done again.
        chunks: picklable, best of a few hundred kilobytes.

    Raises:
        MissingError: dask.distributed is not installed.
        BackendError: no scheduler answers, it has no worker, they have another datastill, or workers died of a chunk.
    """
    if not is_named():
        for chunk in chunks:
            yield chunk, function(chunk)
        return
    with _connect() as client:
        # the result of a task rather than scattered data, which is lost with the workers that hold it
        shared = client.submit(bytes, pickle.dumps(function), pure=False)
        room = CHUNKS_A_THREAD * max(1, sum(client.nthreads().values()))
        window: deque[tuple[C, Any]] = deque()
        for chunk in chunks:
            window.append((chunk, client.submit(_work, shared, pickle.dumps(chunk), pure=False)))
            if len(window) == room:
                yield _finished(*window.popleft())
        while window:
            yield _finished(*window.popleft())


def _work(function: bytes, chunk: bytes) -> bytes:
    return pickle.dumps(_loaded(function)(pickle.loads(chunk)))


_loaded = lru_cache(maxsize=1)(pickle.loads)  # a worker has the same bytes for every chunk


def _finished(chunk: C, future: Any) -> tuple[C, Any]:
    distributed: Any = importlib.import_module("distributed")
    try:
        return chunk, pickle.loads(future.result())
    except distributed.KilledWorker as error:
        raise BackendError(
            f"{MAX_DEATHS} workers died while they had the same chunk, the last at {error.last_worker.address}; see "
            "their logs: most often the memory limit is too low for a chunk (`dask worker --memory-limit`)"
        ) from None


@contextmanager
def _connect() -> Generator[Any]:
    if not importlib.util.find_spec("distributed"):
        raise MissingError(
            f"${ADDRESS} is {os.environ[ADDRESS]!r}, and dask.distributed is not installed: "
            "`pip install 'datastill[scale]'`, or unset it to work in one process"
        )
    # both are without types
    dask: Any = importlib.import_module("dask")
    distributed: Any = importlib.import_module("distributed")
    address = os.environ[ADDRESS]
    # dask counts the deaths after which it gives up from 0
    with dask.config.set({"distributed.scheduler.allowed-failures": MAX_DEATHS - 1}):
        if address == LOCAL:
            with (
                distributed.LocalCluster(
                    n_workers=n_workers(), threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR
                ) as cluster,
                distributed.Client(cluster) as client,
            ):
                log.info("cluster: %d workers here", n_workers())
                yield client
            return
        try:
            client = distributed.Client(address)
        except (OSError, ValueError) as error:
            raise BackendError(
                f"${ADDRESS}: no scheduler at {address!r} ({' '.join(str(error).split())}); "
                "start one with `dask scheduler`, or unset it to work in one process"
            ) from None
        with client:
            _check_workers(client, address)
            yield client


def _check_workers(client: Any, address: str) -> None:
    """Wait for a worker, and see that each has the code that runs here.

    Raises:
        BackendError: there is none in time, or one has other code.
    """
    try:
        client.wait_for_workers(1, timeout=_WAIT_FOR_WORKERS_S)
    except TimeoutError:
        raise BackendError(
            f"${ADDRESS}: the scheduler at {address} has no worker after {_WAIT_FOR_WORKERS_S} s; start some with "
            f"`dask worker {address}`"
        ) from None
    mine = fingerprint()
    theirs: dict[str, Any] = client.run(fingerprint, on_error="return")
    log.info("cluster: %d workers of %s", len(theirs), address)
    if others := sorted(worker for worker, one in theirs.items() if one != mine):
        raise BackendError(
            f"{len(others)} of {len(theirs)} workers of {address} have another datastill than this process or none, "
            f"the first is {others[0]}: {theirs[others[0]]}, here {mine}; install the same there and start them again"
        )


def fingerprint() -> str:
    """Version and checksum of the code that chunks are done by, the same wherever the code is."""
    root = Path(__file__).parents[2]
    files = [file for package in ("datagen", "condense", "trainers") for file in (root / package).rglob("*.py")]
    checksum = 0
    for file in sorted(files, key=lambda file: file.relative_to(root).as_posix()):
        checksum = zlib.crc32(file.read_bytes(), zlib.crc32(file.relative_to(root).as_posix().encode(), checksum))
    return f"datastill {importlib.metadata.version('datastill')} ({checksum:08x})"
