"""`datastill lineage DATASET`: where its rows come from, and where and why the others were dropped.

The datasets that it was made of are found by the hashes that its manifest names, among the directories beside it and
under --data and --models; those of theirs likewise, back to the users' files. The counts are the manifests', so that
millions of rows take no longer than a few; where a manifest has none, the tables are counted.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from datagen.contracts.dataset import content_hash, is_dataset, read_manifest

if TYPE_CHECKING:
    from rich.tree import Tree

N_HASH_SHOWN = 12  # hex digits


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stage's part in the making of a dataset.

    Attributes:
        dataset: directory that it wrote.
        stage: its name; empty where the manifest says none.
        method: its method, where it has one.
        inputs: argument to the directory that was read, None where it is not found by its hash.
        hashes: argument to the SHA-256 of what was read.
        rows: `in`, `out` and `rejected`; None where the directory holds no rows.
        rejected: reason to number of rows.
    """

    dataset: str
    stage: str
    method: str | None
    inputs: Mapping[str, str | None]
    hashes: Mapping[str, str]
    rows: Mapping[str, int] | None
    rejected: Mapping[str, int]


def main(argv: Sequence[str]) -> int:
    """Print the funnel that ends in one dataset."""
    parser = argparse.ArgumentParser(
        prog="datastill lineage",
        description="Tell what a dataset was made of: rows kept and dropped, by stage and reason.",
    )
    parser.add_argument("dataset", type=Path, help="a directory that a stage wrote", metavar="DATASET")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("data"),
        help="datasets it may be made of (default: %(default)s)",
        metavar="DIR",
    )
    parser.add_argument(
        "--models", type=Path, default=Path("models"), help="students likewise (default: %(default)s)", metavar="DIR"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    arguments = parser.parse_args(argv)
    beside = [manifest.parent for manifest in arguments.dataset.parent.glob("*/manifest.json")]
    elsewhere = [one for root in (arguments.data, arguments.models) for one in find_directories(root)]
    steps = trace_back(arguments.dataset, [*beside, *elsewhere])
    if arguments.json:
        content = {"dataset": arguments.dataset.as_posix(), "steps": [asdict(step) for step in steps]}
        sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    else:
        from rich.console import Console

        Console(highlight=False).print(_tree(steps))
    return 0


def trace_back(dataset: Path, others: Iterable[Path]) -> list[Step]:
    """The steps that a dataset was made by, each after those that it was made of; the dataset's own is the last.

    Args:
        dataset: a directory that a stage wrote.
        others: directories that it may be made of.

    Raises:
        DataError: no stage wrote it.
    """
    read_manifest(dataset)
    by_hash = {content_hash(one): one for one in others if is_dataset(one)}
    parents: dict[Path, list[Path]] = {}
    waiting = [dataset]
    while waiting:
        one = waiting.pop()
        if one not in parents:
            parents[one] = _made_of(one, by_hash)
            waiting += parents[one]
    return [_step(one, by_hash) for one in TopologicalSorter(parents).static_order()]


def find_directories(root: Path) -> list[Path]:
    """Dataset and model directories under `root`; those that are being written are hidden."""
    found = sorted(manifest.parent for manifest in root.rglob("manifest.json"))
    return [p for p in found if not any(part.startswith(".") for part in p.relative_to(root).parts)]


def by_flow(directories: Iterable[Path]) -> list[Path]:
    """Each directory after those that it was made of, as their manifests say; of equal datasets one."""
    hashes = {one: content_hash(one) if is_dataset(one) else one.as_posix() for one in directories}
    by_hash = {hash: one for one, hash in hashes.items()}
    return list(TopologicalSorter({one: _made_of(one, by_hash) for one in by_hash.values()}).static_order())


def _made_of(directory: Path, by_hash: Mapping[str, Path]) -> list[Path]:
    return [by_hash[one] for one in input_hashes(read_manifest(directory)).values() if one in by_hash]


def input_hashes(manifest: Mapping[str, Any]) -> dict[str, str]:
    """What a directory was made of: argument to SHA-256."""
    return {name: value for name, value in manifest.get("inputs", {}).items() if isinstance(value, str)}


def _step(dataset: Path, by_hash: Mapping[str, Path]) -> Step:
    manifest = read_manifest(dataset)
    hashes = input_hashes(manifest)
    rows, rejected = manifest.get("rows"), manifest.get("rejected")
    if rows is None or rejected is None:
        rows, rejected = _count(dataset)
    return Step(
        dataset=dataset.as_posix(),
        stage=manifest.get("stage", ""),
        method=manifest.get("method"),
        inputs={name: by_hash[one].as_posix() if one in by_hash else None for name, one in hashes.items()},
        hashes=hashes,
        rows=rows,
        rejected=dict(sorted(rejected.items(), key=lambda item: (-item[1], item[0]))),
    )


def _count(dataset: Path) -> tuple[dict[str, int] | None, dict[str, int]]:
    """Rows and reasons as the tables say them; without tables there are none."""
    parts, rejections = sorted(dataset.glob("part-*.parquet")), dataset / "rejections.parquet"
    reasons: dict[str, int] = {}
    if rejections.is_file():
        counted = pl.scan_parquet(rejections).group_by("reason").len().collect(engine="streaming")
        reasons = dict(counted.iter_rows())
    if not parts:
        return None, reasons
    n_out = pl.scan_parquet(parts).select(pl.len()).collect().item()
    n_rejected = sum(reasons.values())
    return {"in": n_out + n_rejected, "out": n_out, "rejected": n_rejected}, reasons


def _tree(steps: Sequence[Step]) -> "Tree":
    """The steps in the order of the flow, each with the rows that it dropped and what of its inputs is not here."""
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(f"what {steps[-1].dataset} was made of", style="bold"), guide_style="dim")
    for step in steps:
        method = f" by {step.method}" if step.method and step.method != step.stage else ""
        line = Text(step.stage or "?", style="bold cyan").append(f"{method}  {step.dataset}", style="not bold default")
        branch = tree.add(line.append(_counts(step), style="not bold default"))
        for name, directory in step.inputs.items():
            if directory is None:
                missing = f"made of {name} {step.hashes[name][:N_HASH_SHOWN]}…, no dataset here"
                branch.add(Text(missing, style="yellow"))
        n_in = step.rows["in"] if step.rows else 0
        for reason, n in step.rejected.items():
            share = f"  {100 * n / n_in:.1f} %" if n_in else ""
            branch.add(Text(f"{n:,}", style="red").append(f"{share}  {reason}", style="default"))
    return tree


def _counts(step: Step) -> str:
    rows = step.rows
    return f"  {rows['in']:,} in, {rows['out']:,} kept, {rows['rejected']:,} dropped" if rows else ""
