"""Learn the weights of domains by training proxies: DDK, DoReMi, online mixing, or regression over short runs.

    datastill domain_weights --data texts/train --heldout texts/held_out --out weights --set mixture=doremi steps=200

DATA and HELDOUT are texts with domains, as `datastill domains` writes them. The parameters are train_lm's, of the
proxies, and those of the rule. The dataset holds a DomainWeight for each domain; weights.json is what train_lm and mix
take as --weights; curves.json is what is plotted: weight, held-out loss and gap of each domain over the steps of the
last proxy, or over the runs of regression_mix. `proxy_steps` and `proxy_tokens` count all that was trained, so that
ways to weights are compared at equal total compute.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from datagen.contracts.checkpoint import Checkpoints, checkpoint_key
from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.errors import ParamsError
from datagen.contracts.launch import n_processes
from datagen.contracts.licences import made_of
from datagen.contracts.stage import Run, Stage, main
from trainers import lm_students
from trainers.domain_proxies import Config, Proxies, Proxy, learn, n_proxies, open_bench, parse, plot_rows
from trainers.lora import Config as LoraConfig
from trainers.lora import check_adapter
from trainers.sharded import is_wanted
from trainers.students import check_before_training, facts_of_several

_CODE = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainWeight:
    """What a domain gets.

    Attributes:
        id: name of the domain.
        weight: its share of the sequences, in [0, 1]; over all domains they sum to 1.
        proxy_loss: held-out loss of the last proxy at its end, in nats per token.
        n_tokens: that the domain has to learn from.
    """

    id: str
    weight: float
    proxy_loss: float
    n_tokens: int

    SCHEMA: ClassVar[dict[str, Any]] = {
        "id": pl.String,
        "weight": pl.Float64,
        "proxy_loss": pl.Float64,
        "n_tokens": pl.Int64,
    }


def run(run: Run) -> dict[str, Any]:
    """Write the weights; what is done is kept, so that a run that was killed goes on.

    Raises:
        ParamsError: several processes, or cut weights, are asked for.
    """
    if n_processes() > 1 or is_wanted():
        raise ParamsError("proxies are trained whole, in one process; unset $DATASTILL_PROCESSES and $DATASTILL_SHARD")
    training = lm_students.parse(run.params[Proxies].proxies)
    config, mine = run.params[Config], training[lm_students.Config]
    check_before_training(run, needs_cuda=mine.needs_cuda)
    check_adapter(training[LoraConfig])

    models = {mine.student, *lm_students.teachers_of(training), *([config.reference] if config.reference else [])}
    params = run.params.values() | {"proxies": training.values()}
    facts = facts_of_several(run, params, models)
    with Checkpoints.open(checkpoint_key(facts)) as checkpoints:
        bench = open_bench(run.params, run.inputs["data"], run.inputs["heldout"], checkpoints.folder)
        names = bench.names
        with run.progress(n_proxies(run.params, len(names)), "proxies") as bar:

            def advance(proxy: Proxy) -> None:
                bar.advance(1, note=f"{proxy.name}, {sum(proxy.losses) / len(names):.3f} nats per token")

            mix, proxies, reference = learn(bench, checkpoints.folder, advance)
        weights = dict(zip(names, mix.weights, strict=True))
        per_measurement = sum(row.example.n_completion_tokens for rows in bench.held_out.values() for row in rows)
        figures: dict[str, Any] = {
            "weights": weights,
            "n_proxies": len(proxies),
            "proxy_steps": sum(proxy.n_steps for proxy in proxies),
            "proxy_tokens": sum(proxy.n_tokens for proxy in proxies),
            "n_tokens_measured": per_measurement * sum(len(proxy.curve) + 1 for proxy in proxies),
            "proxy_losses": dict(zip(names, proxies[-1].losses, strict=True)),
            **({"law_explained": mix.memory["explained"][0]} if "explained" in mix.memory else {}),
        }
        manifest = {
            "stage": run.name,
            "params": params,
            **made_of({name: path for name, path in run.inputs.items() if name != "run_metrics"}),
            "models": facts["models"],
            "figures": figures,
        }
        with DatasetWriter(run.out, DomainWeight, manifest) as writer:
            for name in names:
                writer.read()
                n_tokens = sum(row.example.n_completion_tokens for row in bench.rows[name])
                writer.write(
                    DomainWeight(
                        id=name, weight=weights[name], proxy_loss=figures["proxy_losses"][name], n_tokens=n_tokens
                    )
                )
            writer.attach("weights.json", json.dumps({"weights": weights}, indent=1) + "\n")
            writer.attach("curves.json", json.dumps(plot_rows(names, proxies, reference), indent=1) + "\n")
        checkpoints.clear()
    rows = {name: len(bench.rows[name]) for name in names}
    return figures | {"n_sequences": rows, "rejected": len(bench.rejections)}


STAGE = Stage(
    name="domain_weights",
    parse=parse,
    inputs={
        "data": "texts with domains to learn from: dataset of Documents, .jsonl or .parquet file",
        "heldout": "texts of the same domains that are not learned, to measure on",
    },
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
