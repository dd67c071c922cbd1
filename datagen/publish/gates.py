"""What must hold before anything leaves this machine: six gates, all of which are always asked.

lock             what DVC made is what dvc.lock says
schema           files, columns and counts are the manifest's
decontamination  no evaluation item is among the rows
duplicates       no row is there twice
personal_data    no e-mail addresses, phone or card numbers, keys or passwords
licence          the sources' licences allow it
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polars.exceptions import PolarsError

from datagen.contracts.errors import DataError, ParamsError
from datagen.publish.gate_decontamination import check_decontamination
from datagen.publish.gate_duplicates import check_duplicates
from datagen.publish.gate_lock import check_lock
from datagen.publish.gate_personal_data import check_personal_data
from datagen.publish.gate_schema import check_schema
from datagen.publish.licences import Resolved, resolve
from datagen.publish.outcome import Outcome, Splits, passed, refused

GATES = ("lock", "schema", "decontamination", "duplicates", "personal_data", "licence")


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What the gates said: each is in one of the three, by name, with one sentence.

    Attributes:
        refused: gates that stop the push.
        allowed: gates that would, were they not overridden.
        passed: the others.
        resolved: the licence.
    """

    refused: Mapping[str, str]
    allowed: Mapping[str, str]
    passed: Mapping[str, str]
    resolved: Resolved


def check(
    splits: Splits, *, allow: Collection[str], stated: Mapping[str, str], against: Sequence[Path] = ()
) -> Checked:
    """Ask every gate.

    Args:
        splits: split to the dataset directory; of a student its directory, as `train`.
        allow: gates that may refuse without stopping anything.
        stated: source to its licence, on the publisher's word.
        against: evaluation sets to compare with now.

    Raises:
        ParamsError: no gate has that name, or no source that for which a licence is stated.
        DataError: no stage wrote what is to be published, or a file `against` is missing or cannot be read.
    """
    if strangers := sorted(set(allow) - set(GATES)):
        raise ParamsError(f"--allow {strangers[0]}: no such gate; there are {', '.join(GATES)}")
    if missing := [file for file in against if not file.exists()]:
        raise DataError(f"--against {missing[0]}: no such file or dataset directory")
    try:
        resolved = resolve(*splits.values(), stated=stated)
    except PolarsError:  # of the rows' licences; `schema` says what is wrong
        unread = "cannot be told, since rows cannot be read"
        resolved = Resolved(licence=None, name="", url="", sources=(), refused=unread)
    outcomes: dict[str, Outcome] = {"lock": check_lock(splits), "schema": check_schema(splits)}
    others: dict[str, Callable[[], Outcome]] = {
        "decontamination": lambda: check_decontamination(splits, against),
        "duplicates": lambda: check_duplicates(splits),
        "personal_data": lambda: check_personal_data(splits),
    }
    for name, ask in others.items():
        try:
            outcomes[name] = ask()
        except (PolarsError, OSError, KeyError, TypeError, ValueError) as error:
            if outcomes["schema"].passed:
                raise
            what = " ".join(str(error).split())[:100]
            outcomes[name] = refused(f"cannot be told, since `schema` failed ({type(error).__name__}: {what})")
    outcomes["licence"] = (
        refused(resolved.refused) if resolved.refused else passed(f"{resolved.name} takes all of its sources")
    )
    wrong = {name: one.said for name, one in outcomes.items() if not one.passed}
    return Checked(
        refused={name: said for name, said in wrong.items() if name not in allow},
        allowed={name: said for name, said in wrong.items() if name in allow},
        passed={name: one.said for name, one in outcomes.items() if one.passed},
        resolved=resolved,
    )
