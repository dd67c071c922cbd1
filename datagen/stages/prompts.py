"""Make prompts: from real raw material, a benchmark's slice, the Hub, or a user's own file."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import DataError
from datagen.contracts.licences import join, made_of, of_hub_dataset
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Prompt, Rejection
from datagen.contracts.stage import Run, Stage, load_method, main

DEFAULT_METHOD = "instruction_families"


class Config(Params):
    """Which method makes the prompts, and how many rows may be none."""

    method: str = DEFAULT_METHOD
    max_rejected_share: float = Field(default=0.05, ge=0, le=1)


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's and the method's Config."""
    method = load_method("datagen.prompts", section.get("method", DEFAULT_METHOD))
    return validate(section, Config, method.Config)


def run(run: Run) -> dict[str, Any]:
    """Write a dataset of Prompts; a row that is no prompt is a rejection."""
    name = run.params[Config].method
    method = load_method("datagen.prompts", name)
    config, raw = run.params[method.Config], run.inputs.get("raw")
    manifest = {
        "stage": run.name,
        "method": name,
        "params": run.params.values(),
        **made_of({"raw": raw}, parts={"raw": method.reads(config)} if hasattr(method, "reads") else None),
    }
    families: dict[str, int] = {}
    first: Rejection | None = None
    with DatasetWriter(run.out, Prompt, manifest) as writer, run.progress(None, "prompts") as bar:
        for row in getattr(method, name)(config, raw):
            writer.read()
            writer.put(row)
            if isinstance(row, Prompt):
                families[row.family] = families.get(row.family, 0) + 1
            else:
                first = first or row
            bar.advance()
        if of_hub := [of_hub_dataset(one.dataset) for one in getattr(config, "sources", ())]:
            writer.describe(licences=join(*of_hub))  # the cards came with the rows
        if first:
            _check_rejected(first, writer, run.params[Config].max_rejected_share)
    return {"rows": writer.rows, "rejected": dict(writer.reasons), "families": dict(sorted(families.items()))}


def _check_rejected(first: Rejection, writer: DatasetWriter, max_share: float) -> None:
    n_rejected = writer.reasons.total()
    if n_rejected > max_share * writer.rows_in:
        reasons = ", ".join(f"{reason} {n}" for reason, n in writer.reasons.most_common())
        raise DataError(
            f"{first.detail} ({n_rejected} of {writer.rows_in} rows are no prompts: {reasons}; mend them, or allow "
            f"them by max_rejected_share={min(1.0, n_rejected / writer.rows_in + 0.005):.2f})"
        )


STAGE = Stage(
    name="prompts",
    parse=parse,
    inputs={},
    optional_inputs={"raw": "folder of raw material, or a user's .jsonl or .parquet file"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
