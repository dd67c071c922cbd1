"""Teacher hacking: does a student that comes nearer to its teacher leave what the teacher stands for, and who sees it?

An oracle, a teacher that errs and a student, in a world of a few tokens where distances are exact (trainers/hacking).
The defaults make the student hack; `n_prompts=1000`, or `fresh=prompts` with `n_prompts=200`, do not. The dataset holds
a HackingPoint for each seed and step, curves.json what is plotted; the detector sees no golden distance.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.params import Parts, validate
from datagen.contracts.seeding import derive_seed
from datagen.contracts.stage import Run, Stage, main
from trainers.hacking.setting import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class HackingPoint:
    """Distances of one student after some steps, in nats per token.

    Attributes:
        id: seed and step.
        seed: number of the world, from 0.
        step: updates so far.
        train_proxy: KL(teacher || student) on the responses that are learned.
        proxy: likewise, over the teacher's responses to held-out prompts.
        golden: KL(oracle || student) over the oracle's responses to held-out prompts.
    """

    id: str
    seed: int
    step: int
    train_proxy: float
    proxy: float
    golden: float

    SCHEMA: ClassVar[dict[str, Any]] = {
        "id": pl.String,
        "seed": pl.Int64,
        "step": pl.Int64,
        "train_proxy": pl.Float64,
        "proxy": pl.Float64,
        "golden": pl.Float64,
    }


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against the setting's Config."""
    return validate(section, Config)


def run(run: Run) -> dict[str, Any]:
    """Write the curves; the figures are in the manifest too."""
    import json

    from trainers.hacking.figures import of_run, of_runs, plot_rows
    from trainers.hacking.tabular import Point, curve

    config = run.params[Config]
    curves: list[list[Point]] = []
    with run.progress(config.seeds, "seeds") as bar:
        for i in range(config.seeds):
            curves.append(curve(config, derive_seed(config.seed, "world", i)))
            bar.advance(1, note=f"golden distance {curves[-1][-1].golden:.3f}")
    runs = [of_run(points, config.threshold) for points in curves]
    figures = of_runs(runs)
    manifest = {"stage": run.name, "params": run.params.values(), "inputs": {}, "figures": figures, "by_seed": runs}
    with DatasetWriter(run.out, HackingPoint, manifest) as writer:
        for seed, points in enumerate(curves):
            for point in points:
                writer.read()
                writer.write(HackingPoint(id=f"{seed}-{point.step}", seed=seed, **point._asdict()))
        writer.attach("curves.json", json.dumps(plot_rows(curves), indent=1) + "\n")
    return figures | {"rows": writer.rows}


STAGE = Stage(name="teacher_hacking", parse=parse, inputs={}, run=run)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
