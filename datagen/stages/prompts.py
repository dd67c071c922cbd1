"""Make prompts: from real raw material, a benchmark's slice, the Hub, or a user's own file."""

from collections.abc import Mapping
from typing import Any

from datagen.contracts.dataset import DatasetWriter, content_hash
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.records import Prompt
from datagen.contracts.stage import Run, Stage, load_method, main

DEFAULT_METHOD = "instruction_families"


class Config(Params):
    """Which method makes the prompts."""

    method: str = DEFAULT_METHOD


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's and the method's Config."""
    method = load_method("datagen.prompts", section.get("method", DEFAULT_METHOD))
    return validate(section, Config, method.Config)


def run(run: Run) -> dict[str, Any]:
    """Write a dataset of Prompts; a row that is no prompt is a rejection."""
    name = run.params[Config].method
    method = load_method("datagen.prompts", name)
    raw = run.inputs.get("raw")
    manifest = {
        "stage": run.name,
        "method": name,
        "params": run.params.values(),
        "inputs": {"raw": content_hash(raw)} if raw else {},
    }
    families: dict[str, int] = {}
    with DatasetWriter(run.out, Prompt, manifest) as writer, run.progress(None, "prompts") as bar:
        for row in getattr(method, name)(run.params[method.Config], raw):
            writer.read()
            writer.put(row)
            if isinstance(row, Prompt):
                families[row.family] = families.get(row.family, 0) + 1
            bar.advance()
    return {"rows": writer.rows, "rejected": dict(writer.reasons), "families": dict(sorted(families.items()))}


STAGE = Stage(
    name="prompts",
    parse=parse,
    inputs={},
    optional_inputs={"raw": "folder of raw material, or a user's .jsonl or .parquet file"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
