"""`datastill publish PATH --repo ORG/NAME`: a dataset or a student goes to the Hugging Face Hub, with its history.

Gates first: what does not equal dvc.lock, breaks its schema, was not decontaminated, repeats itself, names people or
has no licence is not pushed. Then the folder in the Hub's form, its card, and one commit, tagged with the hash of what
it holds. Pushed again, it sends what is new; where the Hub has everything, nothing happens.

A repository is private unless --public says otherwise. The token is $HF_TOKEN or that of `hf auth login`; there is no
argument for it. --dry-run needs none: it writes the folder and shows it.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from datagen.contracts.dataset import is_dataset
from datagen.contracts.errors import DataError, ParamsError
from datagen.publish.folder import hash_of_all, lay_out
from datagen.publish.gate_personal_data import check_pages
from datagen.publish.gates import Checked, check
from datagen.publish.layout import LAYOUT, Kind, Layout, Uploaded, list_files, listed_in, read_layout
from datagen.publish.places import check_places, shortened
from datagen.publish.upload import check_name, check_token, endpoint, look, push
from datagen.publish.weights import is_student, lay_out_student

_FIRST_SPLIT = "train"


def main(argv: Sequence[str]) -> int:
    """Publish, and print what was sent and where it is."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    sources = {_FIRST_SPLIT: arguments.path, **_pairs(arguments.split, "--split", "test=data/prompts_heldout")}
    splits = {split: _absolute(Path(path)) for split, path in sources.items()}
    stated = _pairs(arguments.licence_of, "--licence-of", "gpt-x=cc-by-4.0")
    kind = _check_sources(splits)
    check_name(arguments.repo)
    if not arguments.dry_run:
        check_token()  # before the gates, which read every row
    out = arguments.out or (Path("published", *arguments.repo.split("/")) if arguments.dry_run else None)
    if out:
        _check_out(out)
    before, against = hash_of_all(splits), [_absolute(file) for file in arguments.against]
    checked = check_gates(splits, allow=arguments.allow, stated=stated, against=against)
    remote = None if arguments.dry_run else look(arguments.repo, kind)
    with _folder(out) as folder:
        if kind == "model":
            layout = lay_out_student(splits[_FIRST_SPLIT], folder)
        else:
            layout = lay_out(splits, folder, remote.layout if remote else {})
        published = remote.published if remote else None
        describe(layout, checked, arguments.repo, published=published)
        on_pages = check_pages(folder)
        if not on_pages.passed and "personal_data" not in checked.allowed:
            checked = _refuse(checked, "personal_data", on_pages.said, arguments.allow, layout.path)
            describe(layout, checked, arguments.repo, published=published)
        check_places(folder, splits)
        list_files(layout)
        if not before == layout.hash == hash_of_all(splits):
            raise DataError(f"{layout.path}: was written anew while it was published; run this again once that is done")
        if remote is None:
            told = _shown(layout, checked)
        else:
            told = _told(push(layout, arguments.repo, remote, public=arguments.public), public=arguments.public)
    if out:
        told += f"  the folder is {out}\n"
    sys.stdout.write(told)
    return 0


def check_gates(
    splits: Mapping[str, Path], *, allow: Sequence[str], stated: Mapping[str, str], against: Sequence[Path]
) -> Checked:
    """What the gates say of all splits.

    Raises:
        ParamsError: `allow` names what is no gate, or `stated` what is no source.
        DataError: gates refuse; the message names each, with its reason.
    """
    checked = check(splits, allow=allow, stated=stated, against=against)
    if checked.refused:
        raise _refusal(checked.refused, splits[_FIRST_SPLIT])
    known = [*splits.values(), *against]
    said = {
        kind: {gate: shortened(text, known) for gate, text in getattr(checked, kind).items()}
        for kind in ("allowed", "passed")
    }
    return replace(checked, **said)  # the card repeats them, and must not name this machine


def describe(layout: Layout, checked: Checked, repo: str, *, published: str | None) -> None:
    """Write the card, the picture of the pipeline and, for a dataset, Croissant's metadata beside the files.

    Args:
        layout: what is published.
        checked: what the gates found.
        repo: ORG/NAME.
        published: date of the first push; today where there was none, so that the next push finds nothing changed.
    """
    from datagen.publish.card import dataset_card
    from datagen.publish.croissant import croissant_metadata
    from datagen.publish.history import read_history
    from datagen.publish.model_card import student_card
    from datagen.publish.picture import pipeline_svg

    history = read_history(*layout.sources.values())
    (layout.folder / "pipeline.svg").write_text(pipeline_svg(history), encoding="utf-8")
    if layout.kind == "model":
        card = student_card(layout, history, checked, repo=repo)
    else:
        card = dataset_card(layout, history, checked, repo=repo)
        url, date = f"{endpoint()}/datasets/{repo}", published or datetime.now(UTC).date().isoformat()
        metadata = croissant_metadata(layout, history, checked, url, published=date)
        text = json.dumps(metadata, indent=2, ensure_ascii=False) + "\n"
        (layout.folder / "croissant.json").write_text(text, encoding="utf-8")
    (layout.folder / "README.md").write_text(card, encoding="utf-8")


def _refuse(checked: Checked, gate: str, said: str, allow: Sequence[str], path: Path) -> Checked:
    """A gate that passed refuses after all: it is overridden, or the push stops."""
    if gate not in allow:
        raise _refusal({gate: said}, path)
    passed = {name: reason for name, reason in checked.passed.items() if name != gate}
    return replace(checked, passed=passed, allowed={**checked.allowed, gate: said})


def _refusal(refused: Mapping[str, str], path: Path) -> DataError:
    reasons = "".join(f"\n  {gate}: {reason}" for gate, reason in refused.items())
    remedy = f"mend what they name, or publish all the same with --allow {' '.join(refused)}"
    n = len(refused)
    return DataError(f"{path}: {n} gate{'s refuse' if n > 1 else ' refuses'} the push; {remedy}{reasons}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="datastill publish", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path, help="what a stage wrote: a dataset, or a student", metavar="PATH")
    parser.add_argument(
        "--repo", required=True, help="repository on the Hub; made where there is none", metavar="ORG/NAME"
    )
    parser.add_argument("--dry-run", action="store_true", help="write the folder and show it; send nothing")
    parser.add_argument("--public", action="store_true", help="a new repository is for everybody to see")
    parser.add_argument(
        "--split",
        nargs="+",
        default=[],
        action="extend",
        help="further datasets as splits, such as test=data/heldout; PATH is train",
        metavar="NAME=PATH",
    )
    parser.add_argument(
        "--allow",
        nargs="+",
        default=[],
        action="extend",
        help="push though these refuse; the card says so",
        metavar="GATE",
    )
    parser.add_argument(
        "--licence-of",
        nargs="+",
        default=[],
        action="extend",
        help="licence of a source that names none, by the Hub's id",
        metavar="NAME=ID",
    )
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        action="extend",
        type=Path,
        help="evaluation sets of which no row may be in it",
        metavar="FILE",
    )
    parser.add_argument(
        "--out", type=Path, help="where the folder is written and kept (dry run: published/ORG/NAME)", metavar="FOLDER"
    )
    return parser


def _pairs(given: Sequence[str], argument: str, example: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not (name and equals and value):
            raise ParamsError(f"{argument} {one}: write NAME=VALUE, such as {example}")
        if name in pairs:
            raise ParamsError(f"{argument} {name}: is given twice")
        pairs[name] = value
    return pairs


def _check_sources(splits: Mapping[str, Path]) -> Kind:
    for split, path in splits.items():
        if not split.isidentifier():
            raise ParamsError(f"--split {split}={path}: a split's name has letters, digits and `_`, such as validation")
        if not is_dataset(path):
            raise DataError(f"{path}: no directory that a stage wrote (it has no manifest.json of datastill)")
    students = [path for path in splits.values() if is_student(path)]
    if students and len(splits) > 1:
        raise ParamsError(f"--split: {students[0]} is a student, which has no splits; publish it by itself")
    return "model" if students else "dataset"


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    """An empty folder; one that is to be kept takes its place at the end, and only then is the one before deleted."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="datastill-publish-") as folder:
            yield Path(folder)
        return
    out = _absolute(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        (writing := Path(folder, out.name)).mkdir()
        yield writing
        _check_out(out)  # again, since this took its time
        aside = Path(folder, "before")
        if there := os.path.lexists(out):
            out.rename(aside)
        try:
            writing.rename(out)
        except OSError:
            if there:
                aside.rename(out)
            raise


def _check_out(out: Path) -> None:
    """Whether it may be replaced: there is none, it has no file, or this command wrote every file in it.

    Raises:
        ParamsError: it holds a file that this command did not write.
    """
    if not os.path.lexists(out):
        return
    if out.is_symlink() or not out.is_dir():
        raise ParamsError(f"--out {out}: is no folder; name another, or take it away")
    ours = {*listed_in(read_layout(out))}
    for file in sorted(out.rglob("*")):
        name = file.relative_to(out).as_posix()
        if name not in ours and (file.is_symlink() or not file.is_dir()):
            raise ParamsError(
                f"--out {out}: holds what this command did not write ({name} is not in {LAYOUT}); name another "
                "folder, or empty this one"
            )


def _absolute(path: Path) -> Path:
    """From the root and with a name of its own, whatever is given, such as `.`; links stay as they are."""
    return Path(os.path.abspath(path))


def _shown(layout: Layout, checked: Checked) -> str:
    """The folder's files, those of one table together, and what the gates found."""
    lines = [f"{layout.kind} {layout.path} as revision {layout.tag}; nothing was sent"]
    counted: set[str] = set()
    for config, patterns in layout.patterns.items():
        for split, pattern in patterns.items():
            names = layout.configs[config][split]
            n_rows, n_bytes = layout.n_rows[config][split], layout.n_bytes[config][split]
            counted |= set(names)
            lines.append(f"  {pattern:<44} {n_rows:>11,} rows {len(names):>6,} files {n_bytes:>15,} bytes")
    for file in sorted(layout.folder.rglob("*")):
        name = file.relative_to(layout.folder).as_posix()
        if file.is_file() and name not in counted:
            lines.append(f"  {name:<44} {'':>29} {file.stat().st_size:>15,} bytes")
    lines += [f"  gate {gate} was overridden: {reason}" for gate, reason in checked.allowed.items()]
    return "\n".join(lines) + "\n"


def _told(done: Uploaded, *, public: bool) -> str:
    if not done.is_new:
        what = done.note or "the Hub has all of it; nothing was sent"
        return f"{done.url} at revision {done.tag}: {what}\n"
    seen = "public" if public else "private"
    note = f"; {done.note}" if done.note else ""
    return (
        f"{done.url} ({seen}): {done.n_files:,} files, {done.n_bytes:,} bytes new, commit {done.commit[:12]}, revision "
        f"{done.tag}{note}\n"
    )
