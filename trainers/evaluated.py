"""What an evaluation is given: condensed sets by name, parts that share nothing, the seconds of condensing.

Source: none; what the evaluations of images and of graphs have in common.
"""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datagen.backends.transformers_models import device_type
from datagen.contracts.checkpoint import code_hash
from datagen.contracts.dataset import content_hash, read_manifest
from datagen.contracts.errors import DataError
from datagen.contracts.stage import PACKAGES, Run
from trainers.made_of import made_of
from trainers.protocol import WHOLE, Cell

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainers.comparison import Comparison, Kind

_CODE = Path(__file__).parents[1]

log = logging.getLogger(__name__)


def find_arms(folder: Path, coresets: Sequence[str], is_condensed: Callable[[Path], bool]) -> dict[str, Path]:
    """Name to condensed set, by name.

    Args:
        folder: with a set for each arm, or one set.
        coresets: their methods.
        is_condensed: whether a folder is such a set.

    Raises:
        DataError: there is none, or one has a name that a coreset or everything has.
    """
    paths = [folder] if is_condensed(folder) else sorted(folder.iterdir()) if folder.is_dir() else []
    found = {path.name: path for path in paths if is_condensed(path)}
    if not found:
        raise DataError(f"{folder}: holds no condensed set; give the folder with one for each arm, named so")
    taken = re.compile(rf"({'|'.join(map(re.escape, coresets))})-\d+|{WHOLE}")
    for name, path in found.items():
        if taken.fullmatch(name):
            raise DataError(f"{path}: {name} is what the evaluation calls an arm of its own; name the folder otherwise")
    return found


def hashes_of(items: "Iterable[NDArray[Any]]") -> list[bytes]:
    """Of each item's bytes: equal ones are the same item."""
    return [hashlib.blake2b(one.tobytes(), digest_size=16).digest() for one in items]


def count_shared(
    hashes: Mapping[str, Sequence[bytes]],
    ids: Mapping[str, Sequence[str]],
    paths: Mapping[str, Path],
    max_share: float,
    noun: str,
) -> dict[str, int]:
    """Items of the smaller of two parts that are in the other too, whatever their labels.

    Args:
        hashes: part to its items' hashes; of equal parts the later counts as the smaller.
        ids: part to its items' names, for the error.
        paths: part to where it is, likewise.
        max_share: of the smaller part, that may be in the other; below 1, so that no part is another.
        noun: what the items are, likewise.

    Returns:
        `train_and_validation` and so on to the number.

    Raises:
        DataError: two parts share more.
    """
    found: dict[str, int] = {}
    for first, second in combinations(hashes, 2):
        small, large = (first, second) if len(hashes[first]) < len(hashes[second]) else (second, first)
        others = set(hashes[large])
        same = [i for i, one in enumerate(hashes[small]) if one in others]
        found[f"{first}_and_{second}"] = len(same)
        if len(same) > max_share * len(hashes[small]):
            raise DataError(
                f"{paths[small]}: {len(same)} of its {len(hashes[small])} {noun} are in {paths[large]} too, the first "
                f"is {ids[small][same[0]]}; --{first} and --{second} must not share more than {max_share:.2%}: take "
                "them out of one, or raise max_shared_share where they are known duplicates"
            )
    return found


def condensing_seconds(name: str, path: Path, run_metrics: Path | None, stage: str) -> float | None:
    """Seconds of making a set, those of its experts among them, from the runs' own metrics; None where they lack.

    Args:
        name: of the set; STAGE_NAME.run.json or NAME.run.json holds its seconds.
        path: of the set; its manifest says whether it had experts, of which experts.run.json holds the seconds.
        run_metrics: folder with these files, or None.
        stage: that made it.
    """
    total = 0.0
    for facts in (runs := _runs(name, path, run_metrics, stage)):
        total += facts["cpu_seconds" if device_type() == "cpu" else "seconds"]
        total += facts.get("seconds_before_resuming", 0.0)  # of runs that were killed
    return round(total, 3) if runs else None


def condensing_joules(name: str, path: Path, run_metrics: Path | None, stage: str) -> float | None:
    """Joules of making a set likewise; None where a machine that worked on it counted none."""
    runs = _runs(name, path, run_metrics, stage)
    found: list[float] = [facts["joules"] for facts in runs if "joules" in facts]
    return round(sum(found), 3) if found and len(found) == len(runs) else None


def add_joules(entries: Mapping[str, dict[str, Any]], joules: Mapping[str, float | None]) -> None:
    """`condensing_joules` of each set in the metrics, where they are known."""
    for name, entry in entries.items():
        if (used := joules[name]) is not None:
            entry["condensing_joules"] = used


def facts_of(run: Run, packages: Sequence[str]) -> dict[str, Any]:
    """What a finished cell depends on: section, inputs but for `run_metrics`, code, device, versions of `packages`."""
    inputs = {name: content_hash(path) for name, path in sorted(run.inputs.items()) if name != "run_metrics"}
    return {
        "stage": run.name,
        "section": run.params.values(),
        "inputs": inputs,
        "code": code_hash(*(_CODE / package for package in PACKAGES)),
        **{package: version(package) for package in packages},
        "device": device_type(),
    }


def compare_shown(
    run: Run, bench: Any, counts: Mapping[str, Mapping[str, int]], kept: Path, kind: "Kind", **measure: Any
) -> "Comparison":
    """`comparison.compare`, with its progress shown."""
    from trainers.comparison import compare

    with run.progress(None, "arms") as bar:

        def advance(cell: Cell, left: int) -> None:
            regime = f", {cell.regime} labels" if len(bench.config.regimes) > 1 else ""
            bar.advance(1, note=f"{cell.arm.name}{regime}, {cell.net}; {left} left")

        return compare(bench, counts, kept, advance, kind=kind, **measure)


def _runs(name: str, path: Path, run_metrics: Path | None, stage: str) -> list[dict[str, Any]]:
    """What the runs that made a set said of themselves; none where one of them said nothing."""
    if run_metrics is None:
        return []
    wanted = [[f"{stage}_{name}", name]]
    if "experts" in read_manifest(path).get("inputs", {}):
        wanted.append(["experts"])
    runs: list[dict[str, Any]] = []
    for names in wanted:
        files = [file for one in names if (file := run_metrics / f"{one}.run.json").is_file()]
        if not files:
            log.warning("%s: no %s.run.json, so the seconds of making %s are not known", run_metrics, names[0], name)
            return []
        runs.append(json.loads(files[0].read_text()))
    return runs


def is_of_others(path: Path, hashes: Mapping[str, str], given: Mapping[str, Path], noun: str) -> bool:
    """Whether a set's manifest names other images or graphs than those to train on; a warning says so.

    Args:
        path: of the set.
        hashes: `train`, `validation` and `test` to their content's.
        given: likewise to where they are.
        noun: what they are.

    Raises:
        DataError: it was made of what students are judged on.
    """
    source = made_of(path)
    for part in ("validation", "test"):
        if source == hashes[part] != hashes["train"]:
            raise DataError(
                f"{path}: was made of {given[part]}, which is --{part} here; condense {noun} that nobody is judged on"
            )
    if source != hashes["train"]:
        log.warning(
            "%s: its manifest does not say that it was made of %s, whose hash is %s, but of %s; the same %s in "
            "another form have another hash", path, given["train"], hashes["train"], source or "nothing", noun,
        )  # fmt: skip
    return source != hashes["train"]
