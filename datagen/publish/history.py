"""What a card tells of how something was made: the steps, models, prompts, papers and tokens behind it.

All of it is from the manifests, found by their hashes among the datasets of the project, and from the tables that
stages wrote: how many tokens the attempts had, how many rows each verifier judged. Where DVC ran a stage, its command
is that of dvc.lock, and the run's own metrics say how long it took on the machine that ran it.
"""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from datagen.contracts.dataset import content_hash, is_dataset, read_manifest
from datagen.lineage import find_directories, input_hashes, trace_back
from datagen.publish.papers import Paper, modules_of, papers_of
from datagen.publish.places import without_places

_PRICES = ("price_per_million_prompt_tokens", "price_per_million_completion_tokens")
_ASKED = ("temperature", "top_p", "max_new_tokens", "samples_per_prompt", "seed")  # what a teacher's answers hang on
_ROLES = {"teacher": "teacher", "base": "starting point", "embedder": "embedder", "tokenizer": "tokenizer"}
_EVALUATED = {"after": "student", "before": "before training"}
ASKING = ("traces", "corpus", "extract", "evaluate_lm")  # stages whose rows models wrote
WRITERS = ("teacher", "student", "before training")  # roles of the models that wrote them
TRAINING = ("train_lm", "train_encoder", "train_image", "train_graph", "train_node", "experts")


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model that had a part in it.

    Attributes:
        role: teacher, judge, embedder, tokenizer, starting point, or one of two that an evaluation compared.
        name: as the stage was told it.
        revision: a commit of the Hub, or the hash of its files.
        stage: that used it.
        backend: how it was asked; empty where nobody asked it.
        sampling: the parameters that its answers hang on.
    """

    role: str
    name: str
    revision: str
    stage: str
    backend: str
    sampling: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """How many rows a verifier judged, and how many of them passed."""

    method: str
    n: int
    n_passed: int


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stage's part in the making.

    Attributes:
        path: directory that it wrote, from the project's root.
        stage: its name.
        method: its method; empty where it has none.
        parents: argument to the path of the dataset that was read, where it is one of the steps.
        hashes: argument to the SHA-256 of what was read.
        hash: of what it wrote.
        rows: `in`, `out` and `rejected`; None where the directory holds no rows.
        rejected: reason to rows.
        manifest: all that the stage said.
        command: words of DVC's command; empty where DVC did not run it.
        dvc_stage: its name there.
        modules: of the methods that ran.
        models: that it used.
        judged: by each verifier, where it kept their verdicts.
        tokens: of the attempts that it wrote, prompt and completion; None where its rows do not count them.
        run: what the run's own metrics say: seconds, memory, tokens bought; empty where they are not here.
    """

    path: str
    stage: str
    method: str
    parents: Mapping[str, str]
    hashes: Mapping[str, str]
    hash: str
    rows: Mapping[str, int] | None
    rejected: Mapping[str, int]
    manifest: Mapping[str, Any]
    command: Sequence[str]
    dvc_stage: str
    modules: Sequence[str]
    models: Sequence[Model]
    judged: Sequence[Judged]
    tokens: tuple[int, int] | None
    run: Mapping[str, Any]

    @property
    def params(self) -> Mapping[str, Any]:
        """The section that made it."""
        return self.manifest.get("params", {})

    def given(self, argument: str) -> str:
        """The path that an argument had: of the step whose rows it read, else in DVC's command; else empty."""
        word = self.option(f"--{option_of(argument)}")
        return self.parents.get(argument) or (Path(word).name if Path(word).is_absolute() else word)

    def option(self, name: str) -> str:
        """What an option of DVC's command is; empty where it has none."""
        words = list(self.command)
        return words[words.index(name) + 1] if name in words[:-1] else ""

    @property
    def writes_rows(self) -> bool:
        """Whether a model wrote its rows, or training made them."""
        made = self.manifest.get("images_are", self.manifest.get("graphs_are")) == "made"
        return self.stage in ASKING or made

    @property
    def cost(self) -> float | None:
        """What its tokens cost at the prices of its parameters, in their currency; None without prices or tokens."""
        prices = [self.params.get(name) for name in _PRICES]
        if self.tokens is None or None in prices:
            return None
        whole = sum(n * float(price or 0) for n, price in zip(self.tokens, prices, strict=True)) / 1e6
        return whole * float(self.params.get("batch_price_share", 1.0))


@dataclass(frozen=True, kw_only=True)
class History:
    """How what is published was made.

    Attributes:
        root: of the project.
        steps: in the order of the flow; what is published is among the last.
        published: paths of the steps that are published.
        evaluations: steps that evaluated a published model, or condensed sets with a published one among them.
        papers: of the methods that ran.
    """

    root: Path
    steps: Sequence[Step]
    published: Sequence[str]
    evaluations: Sequence[Step]
    papers: Sequence[Paper]

    @property
    def last(self) -> Step:
        """The step that wrote what is published first."""
        return next(step for step in self.steps if step.path == self.published[0])

    @property
    def models(self) -> list[Model]:
        """All that had a part, each once for each role, in the order of the flow."""
        return list({(one.role, one.name, one.revision): one for step in self.steps for one in step.models}.values())

    @property
    def is_synthetic(self) -> bool:
        """Whether a model wrote rows of it, or training made them."""
        return any(step.writes_rows for step in self.behind_rows)

    @property
    def extracted_from(self) -> Model | None:
        """The model whose own training data the rows may be, where it was asked for that."""
        found = [one for step in self.behind_rows if step.stage == "extract" for one in step.models]
        return next((one for one in found if one.role == "teacher"), None)

    @property
    def behind_rows(self) -> list[Step]:
        """Steps whose rows became the published ones, in no order: not those that a model was only trained on."""
        steps = {step.path: step for step in self.steps}
        waiting, seen = list(self.published), dict[str, Step]()
        while waiting:
            path = waiting.pop()
            if path not in seen and (path in self.published or steps[path].stage not in TRAINING):
                seen[path] = steps[path]
                waiting += steps[path].parents.values() if steps[path].stage != "extract" else ()
        return list(seen.values())


def option_of(argument: str) -> str:
    """How an input is given: `teachers/0` is one of the paths that `--teachers` took."""
    return argument.partition("/")[0].replace("_", "-")


def read_history(*paths: Path) -> History:
    """The history of what is published, one directory a split.

    Raises:
        DataError: no stage wrote one of them.
    """
    root = _find_root(paths[0])
    folders = [folder for name in ("data", "models") for folder in find_directories(root / name)]
    beside = [manifest.parent for path in paths for manifest in path.absolute().parent.glob("*/manifest.json")]
    known = {one.resolve(): None for one in (*paths, *beside, *folders) if is_dataset(one)}
    by_hash = {content_hash(one): one for one in known}
    published = [path.resolve() for path in paths]
    read_manifest(published[0])
    parents: dict[Path, dict[str, Path]] = {}
    waiting = list(published)
    while waiting:
        one = waiting.pop()
        if one not in parents:
            parents[one] = _found(one, by_hash)
            waiting += parents[one].values()
    order = TopologicalSorter({one: list(of.values()) for one, of in parents.items()}).static_order()
    lock = _read_lock(root)
    steps = [_read_step(one, parents[one], root, lock) for one in order]
    hashes = {content_hash(one) for one in published}
    together = {one.parent for one in published if one.parent.parent == root / "data"}  # as sets are that are compared
    hashes |= {content_hash(one) for one in together}
    evaluating = [
        one for one in known
        if one not in parents and hashes & {*input_hashes(read_manifest(one)).values()}
        and str(read_manifest(one).get("stage", "")).startswith("evaluate")
    ]  # fmt: skip
    return History(
        root=root,
        steps=steps,
        published=[_name(one, root) for one in published],
        evaluations=[_read_step(one, _found(one, by_hash), root, lock) for one in evaluating],
        papers=papers_of(module for step in steps for module in step.modules),
    )


def _find_root(path: Path) -> Path:
    """The nearest folder above with a dvc.yaml, else where the command runs."""
    above = [folder for folder in path.resolve().parents if (folder / "dvc.yaml").is_file()]
    return above[0] if above else Path.cwd()


def _name(directory: Path, root: Path) -> str:
    """From the project's root, so that no card says where it lies on this machine."""
    return directory.relative_to(root).as_posix() if directory.is_relative_to(root) else directory.name


def _origins(directory: Path) -> dict[str, str]:
    """Argument to hash of what it was made of: its inputs, and the student that was asked, whose revision is a hash."""
    manifest = read_manifest(directory)
    asked = {role: one["revision"] for role, one in _models(manifest) if isinstance(one.get("revision"), str)}
    inputs = input_hashes(manifest)
    return {role: hash for role, hash in asked.items() if hash not in inputs.values()} | inputs


def _found(directory: Path, by_hash: Mapping[str, Path]) -> dict[str, Path]:
    """Argument to the directory that it is, of those that are here."""
    found = {name: by_hash.get(hash, directory) for name, hash in _origins(directory).items()}
    return {name: one for name, one in found.items() if one != directory}


def _models(manifest: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Role and identity of each model that a manifest names."""
    found = [(role, one) for key, role in _ROLES.items() if isinstance(one := manifest.get(key), dict)]
    judges, evaluated = manifest.get("judges", {}), manifest.get("models", {})
    found += [(role, evaluated[who]) for who, role in _EVALUATED.items() if isinstance(evaluated.get(who), dict)]
    several = judges.values() if isinstance(judges, dict) else judges
    return [*found, *(("judge", one) for one in several if isinstance(one, dict))]


def _read_step(directory: Path, parents: Mapping[str, Path], root: Path, lock: Mapping[str, Any]) -> Step:
    manifest, said = without_places(read_manifest(directory)), trace_back(directory, ())[0]
    params: Mapping[str, Any] = manifest.get("params", {})
    stage = manifest.get("stage", "")
    judged = _count_verdicts(directory / "verdicts.parquet")
    path = _name(directory, root)
    wrote = [name for name, one in lock.items() if path in (out["path"] for out in one.get("outs", ()))]
    dvc_stage = next(iter(wrote), "")
    locked = lock.get(dvc_stage, {})
    return Step(
        path=path,
        stage=stage,
        method=manifest.get("method") or "",
        parents={name: _name(one, root) for name, one in parents.items()},
        hashes=said.hashes,
        hash=content_hash(directory),
        rows=said.rows,
        rejected=said.rejected,
        manifest=manifest,
        command=shlex.split(locked.get("cmd", "")),
        dvc_stage=dvc_stage,
        modules=modules_of(stage, {"method": manifest.get("method"), **params}, (one.method for one in judged)),
        models=[
            Model(
                role=role, name=str(one.get("model", one.get("name", ""))), revision=str(one.get("revision", "")),
                stage=stage, backend=str(one.get("backend", "")),
                sampling={name: params[name] for name in _ASKED if name in params} if role == "teacher" else {},
            )
            for role, one in _models(manifest)
        ],
        judged=judged,
        tokens=_count_tokens(sorted(directory.glob("part-*.parquet"))) if stage in ASKING else None,
        run=_read_run(root, locked),
    )  # fmt: skip


def _count_verdicts(table: Path) -> list[Judged]:
    if not table.is_file():
        return []
    passed = (pl.col("status") == "pass").sum().alias("n_passed")
    counted = pl.scan_parquet(table).group_by("method").agg(pl.len().alias("n"), passed).sort("method")
    return [Judged(**row) for row in counted.collect(engine="streaming").iter_rows(named=True)]


def _count_tokens(parts: list[Path]) -> tuple[int, int] | None:
    names = ("n_prompt_tokens", "n_completion_tokens")
    if not parts or not set(names) <= set(pl.scan_parquet(parts).collect_schema()):
        return None
    counted = pl.scan_parquet(parts).select(pl.col(name).sum() for name in names).collect(engine="streaming")
    return counted.row(0)


def _read_lock(root: Path) -> dict[str, Any]:
    """What DVC ran, without stages that are gone from dvc.yaml."""
    lock, file = root / "dvc.lock", root / "dvc.yaml"
    if not (lock.is_file() and file.is_file()):
        return {}
    ran: dict[str, Any] = yaml.safe_load(lock.read_text(encoding="utf-8")).get("stages") or {}
    defined: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8")).get("stages") or {}
    several = {name for name, one in defined.items() if {"foreach", "matrix"} & one.keys()}
    bases = {name: name.partition("@")[0] for name in ran}
    return {
        name: one for name, one in ran.items() if bases[name] in defined and ("@" in name) == (bases[name] in several)
    }


def _read_run(root: Path, locked: Mapping[str, Any]) -> dict[str, Any]:
    """What the run that wrote it says of itself, where its metrics are still on this machine."""
    written: Iterable[Path] = (root / out["path"] for out in locked.get("outs", ()))
    runs = [one.with_suffix(".run.json") for one in written if one.suffix == ".json"]
    return next((json.loads(one.read_text(encoding="utf-8")) for one in runs if one.is_file()), {})
