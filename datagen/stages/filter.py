"""Drop rows for a stated reason: near-duplicates, evaluation items, bad queries, loops, lengths, personal data.

The input is a dataset directory of Prompts, Traces, Documents or Examples, or a .jsonl or .parquet file of such rows.
What stays is written as the same kind of record; every other row is a rejection whose reason is a code to count by, and
whose detail names the cause. `datastill why ROW_ID` shows it.
"""

from collections.abc import Mapping
from typing import Any

from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import ParamsError
from datagen.contracts.inputs import InputParams, open_rows
from datagen.contracts.licences import made_of, of_asked
from datagen.contracts.origin import with_origin
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Rejection
from datagen.contracts.stage import Run, Stage, load_method, main

DEFAULT_METHOD = "near_duplicates"


class Config(Params):
    """Which method says what is dropped."""

    method: str = DEFAULT_METHOD


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's and the method's Config."""
    name = section.get("method", DEFAULT_METHOD)
    method = load_method("datagen.filter", name)
    return validate({**section, "method": name}, Config, InputParams, method.Config)


def run(run: Run) -> dict[str, Any]:
    """Write the rows that stay, as they came or masked."""
    name = run.params[Config].method
    method = load_method("datagen.filter", name)
    against = run.inputs.get("against")
    if against and not getattr(method, "TAKES_AGAINST", False):
        raise ParamsError(f"--against {against}: method {name} compares with nothing; leave it out")
    rows = open_rows(run.inputs["documents"], run.name, run.params[InputParams])
    said = {
        "stage": run.name,
        "method": name,
        "params": run.params.values(),
        **made_of(run.inputs, of_asked(run.params.values(), "judge")),
    }
    manifest = with_origin(said, run.inputs["documents"])
    with DatasetWriter(run.out, rows.record, manifest) as writer, run.progress(len(rows), "rows") as bar:
        n_kept = 0
        for row in getattr(method, name)(run.params[method.Config], rows, against):
            writer.read()
            writer.put(row)
            n_kept += not isinstance(row, Rejection)
            bar.advance(1, note=f"{n_kept} kept")
    return {"rows": writer.rows, "rejected": dict(sorted(writer.reasons.items()))}


STAGE = Stage(
    name="filter",
    parse=parse,
    inputs={"documents": "dataset of Prompts, Traces, Documents or Examples, .jsonl or .parquet file"},
    optional_inputs={"against": "what to compare with, for decontamination: evaluation items, in any of these formats"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
