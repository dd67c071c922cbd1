"""Encoder students: macro-F1 on GoEmotions, speed beside transformers' Trainer, context, transfer.

    python -m benchmarks.encoder --goemotions FOLDER [--only PART ...] [--out FILE.json]

FOLDER holds train.tsv, dev.tsv and labels.txt of GoEmotions (Demszky et al. 2020, arXiv:2005.00547; CC BY 4.0, not
part of this repository). Every student is trained and evaluated by the stages.

    goemotions  trained on nine tenths of train.tsv, thresholds chosen on the other tenth, tested on dev.tsv
    speed       rows a second of our loop and of transformers' Trainer on the same network, batches, lengths, by turns
    context     rows whose texts stand with all C labels equally often, so that no student of the text alone can be
                above 2 / (C + 1) in macro-F1; tested on new texts after contexts of the training rows and after others
    transfer    with --synthetic DATA, any file or dataset of Examples: trained on that and then on a tenth of
                GoEmotions, beside the tenth alone, by seed; intervals over the same resampled rows
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.state import AcceleratorState

from benchmarks.encoder_contexts import context_rows
from datagen.contracts.dataset import iterate, write_json
from datagen.contracts.inputs import InputParams, Rows
from datagen.contracts.records import Example, Rejection
from datagen.contracts.stage import Stage
from datagen.contracts.stage import main as run_stage
from trainers.bootstrap import bootstrap
from trainers.class_figures import class_f1, macro_f1_difference
from trainers.stages.evaluate_encoder import STAGE as EVALUATE
from trainers.stages.train_encoder import STAGE as TRAIN

N_RESAMPLES = 2000
N_CLASSES = 28  # of speed, as GoEmotions has
SETTINGS = ("precision=bfloat16", "max_tokens=64", "micro_batch_tokens=512", "learning_rate=4e-4")


def goemotions(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Macro-F1 on dev.tsv at thresholds of validation, and what it cost."""
    data = _goemotions_files(options.goemotions, work)
    found: dict[str, Any] = {}
    settings = (*SETTINGS, f"epochs={options.epochs}", *options.set)
    trained = _train(options, work / "student", data["train"], data["validation"], *settings)
    for name, threshold in (("one_threshold", trained["validation"]["threshold"]), ("stored_thresholds", "of_model")):
        evaluated = _evaluate(work / "student", data["test"], work / name, f"threshold={threshold}")
        found[name] = {
            key: evaluated[key] for key in ("macro_f1", "macro_f1_interval", "micro_f1", "calibration_error")
        }
        found[name] |= {"by_class": {label: row["f1"] for label, row in evaluated["by_class"].items()}}
    return {
        "settings": list(settings),
        "n_train": trained["rows"]["out"],
        "n_test": evaluated["n_rows"],
        "seconds": trained["seconds"],
        "cpu_seconds": trained["cpu_seconds"],
        "threshold": trained["validation"]["threshold"],
        "validation_macro_f1": trained["validation"]["macro_f1"],
        **found,
    }


def speed(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Rows a second, ours over Trainer's, for rows of one length and of GoEmotions' own lengths."""
    import torch
    from transformers import AutoTokenizer

    from datagen.backends.embeddings import resolve_encoder
    from trainers.text_pairs import TextPair, encode

    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(options.n_threads)
    folder = resolve_encoder(options.model).folder
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    generator = random.Random(0)
    texts = [Example(id=row["id"], text=row["text"]) for row in _read_goemotions(options.goemotions, "dev.tsv")]
    targets = [[float(generator.random() < 0.05) for _ in range(N_CLASSES)] for _ in texts]
    natural = [pair for pair in encode(texts, targets, tokenizer, 64) if isinstance(pair, TextPair)]
    natural = natural[: options.n_rows]
    words = range(4, len(tokenizer))
    equal = [TextPair(generator.choices(words, k=32), [0] * 32, row.targets) for row in natural]
    found: dict[str, Any] = {"n_rows": len(natural), "batch_size": 32, "n_threads": options.n_threads}
    for name, rows in (("32_tokens", equal), ("own_lengths", natural)):
        rates: dict[str, list[float]] = {"ours": [], "trainer": []}
        for turn in range(options.turns + 1):
            for who, run in (("ours", _our_loop), ("trainer", _trainer)):
                seconds = run(folder, rows, work, options.n_threads)
                if turn:  # the first warms up
                    rates[who].append(len(rows) / seconds)
        median = {who: statistics.median(values) for who, values in rates.items()}
        found[name] = {f"{who}_rows_per_s": round(value, 1) for who, value in median.items()}
        found[name]["ratio"] = round(median["ours"] / median["trainer"], 3)
        found[name]["ratio_by_turn"] = [round(a / b, 3) for a, b in zip(*rates.values(), strict=True)]
    return found


def context(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Macro-F1 of a student that reads the context and of one that does not, beside the bound of the text alone."""
    rows = context_rows()
    found: dict[str, Any] = {f"n_{name}": len(some) for name, some in rows.items()}
    bound = 2 / (len({label for row in rows["test"] for label in row["labels"]}) + 1)
    settings = ("epochs=8", "batch_size=16", "learning_rate=3e-4", "max_tokens=64")
    for who in ("with_context", "text_alone"):
        folder = work / who
        folder.mkdir()
        for name, some in rows.items():
            kept = some if who == "with_context" else [row | {"context": None, "character": None} for row in some]
            _write(folder / f"{name}.jsonl", kept)
        _train(options, folder / "student", folder / "train.jsonl", folder / "validation.jsonl", *settings)
        for test in ("test", "test_new_contexts"):
            evaluated = _evaluate(folder / "student", folder / f"{test}.jsonl", folder / f"{test}-evaluation")
            found[f"{test}_{who}"] = {key: evaluated[key] for key in ("macro_f1", "macro_f1_interval")}
    above = {
        f"{test}_above_bound": round(found[f"{test}_with_context"]["macro_f1"] - bound, 4)
        for test in ("test", "test_new_contexts")
    }
    return found | {"bound_of_text_alone": round(bound, 4)} | above


def transfer(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Macro-F1 on dev.tsv after a tenth of GoEmotions, with and without a synthetic set before, by seed."""
    if options.synthetic is None:
        raise SystemExit("transfer needs --synthetic DATA")
    data = _goemotions_files(options.goemotions, work)
    names = (options.goemotions / "labels.txt").read_text().split()
    labels = f"labels=[{', '.join(names)}]"
    usual = (*SETTINGS, labels, *options.set)
    synthetic = _split_examples(options.synthetic, work, options.max_synthetic_rows)
    pretraining = (f"epochs={options.pretraining_epochs}", "max_rejected_share=1")
    pretrained = _train(options, work / "pretrained", *synthetic, *usual, *pretraining)
    zero_shot = _evaluate(work / "pretrained", data["test"], work / "zero_shot")
    truth, before, after = np.zeros(0), [], []
    seeds: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        few = (f"train_share={options.share}", f"seed={seed}", f"epochs={options.few_shot_epochs}")
        for name, base, kept in (("alone", (), before), ("after", (f"model={work / 'pretrained'}",), after)):
            student = work / f"{name}-{seed}"
            _train(options, student, data["train"], data["validation"], *usual, *few, *base)
            _evaluate(student, data["test"], work / f"{name}-{seed}-evaluation")
            predicted, truth = _predictions(work / f"{name}-{seed}-evaluation", names)
            kept.append(predicted)
        difference = macro_f1_difference(before[-1], after[-1], truth, n_resamples=N_RESAMPLES, seed=seed)
        scores = {
            name: float(class_f1(one, truth).mean()) for name, one in (("alone", before[-1]), ("after", after[-1]))
        }
        seeds.append({**_rounded(scores), "difference": _rounded(difference._asdict())})
    mean = bootstrap(_mean_difference(before, after, truth), len(truth), N_RESAMPLES)
    return {
        "n_synthetic": pretrained["rows"]["out"],
        "synthetic_rejected": pretrained["rejected"],
        "few_shot_share": options.share,
        "zero_shot_macro_f1": zero_shot["macro_f1"],
        "by_seed": seeds,
        "mean_difference": _rounded(mean._asdict()),
    }


def _mean_difference(before: Sequence[Any], after: Sequence[Any], truth: Any) -> Callable[[Any], Any]:
    """Of weights (R, N): macro-F1 of `after` less `before`, the mean over their students."""

    def macro(weights: Any, predicted: Any) -> Any:
        hits, n_predicted, n_true = (weights @ one.astype(float) for one in (predicted & truth, predicted, truth))
        return (2 * hits / np.maximum(n_predicted + n_true, 1)).mean(axis=1)

    def difference(weights: Any) -> Any:
        pairs = zip(before, after, strict=True)
        return np.mean([macro(weights, there) - macro(weights, here) for here, there in pairs], axis=0)

    return difference


def _our_loop(folder: Path, rows: Sequence[Any], work: Path, n_threads: int) -> float:
    """Seconds of an epoch of our loop; loading the network is not counted."""
    from datagen.contracts.checkpoint import Checkpoints
    from trainers import loop
    from trainers.classifier import build
    from trainers.encoders import loss_of

    network, _ = build("minilm", folder, [str(i) for i in range(N_CLASSES)], 0)
    config = loop.Config.model_validate(
        {"epochs": 1, "batch_size": 32, "micro_batch_tokens": 1024, "n_threads": n_threads}
    )
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=work) as checkpoints:
        loop.train(network, rows, loss_of(None, pad_token=0), config, Checkpoints(Path(checkpoints)))
    return time.perf_counter() - start


def _trainer(folder: Path, rows: Sequence[Any], work: Path, n_threads: int) -> float:
    """Seconds of an epoch of transformers' Trainer, without logs, checkpoints and evaluation."""
    import torch
    from transformers import Trainer, TrainingArguments

    from trainers.classifier import build
    from trainers.text_pairs import collate, stack_targets

    torch.set_num_threads(n_threads)
    network, _ = build("minilm", folder, [str(i) for i in range(N_CLASSES)], 0)
    cpu = torch.device("cpu")
    with tempfile.TemporaryDirectory(dir=work) as out:
        trainer = Trainer(
            model=network,
            args=TrainingArguments(
                output_dir=out, num_train_epochs=1, per_device_train_batch_size=32, use_cpu=True, save_strategy="no",
                logging_strategy="no", report_to="none", disable_tqdm=True, remove_unused_columns=False,
            ),
            train_dataset=list(rows),  # type: ignore[arg-type]  # any sequence will do
            data_collator=lambda some: collate(some, 0, cpu) | {"labels": stack_targets(some, cpu)},
        )  # fmt: skip
        start = time.perf_counter()
        trainer.train()
        return time.perf_counter() - start


def _train(options: argparse.Namespace, out: Path, train: Path, validation: Path, *settings: str) -> dict[str, Any]:
    inputs = ("--train", str(train), "--validation", str(validation))
    usual = () if any(one.startswith("model=") for one in settings) else (f"model={options.model}",)
    return _stage(TRAIN, out, *inputs, settings=(f"n_threads={options.n_threads}", *usual, *settings))


def _evaluate(model: Path, test: Path, out: Path, *settings: str) -> dict[str, Any]:
    return _stage(EVALUATE, out, "--model", str(model), "--test", str(test), settings=settings)


def _stage(stage: Stage, out: Path, *inputs: str, settings: Sequence[str]) -> dict[str, Any]:
    """A stage's metrics, with the seconds and CPU seconds that it took."""
    AcceleratorState._reset_state(reset_partial_state=True)  # else a process keeps the precision of its first training
    metrics = out.with_suffix(".json")
    given = [*inputs, "--out", str(out), "--metrics", str(metrics)]
    start, cpu_start = time.perf_counter(), time.process_time()
    if code := run_stage(stage, [*given, *(["--set", *settings] if settings else [])]):
        raise SystemExit(code)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return json.loads(metrics.read_text()) | {"seconds": round(seconds, 1), "cpu_seconds": round(cpu_seconds, 1)}


def _read_goemotions(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    labels = (folder / "labels.txt").read_text().split()
    for line in (folder / name).read_text(encoding="utf-8").splitlines():
        text, of_row, id = line.rsplit("\t", 2)
        yield {"id": id, "text": text, "labels": [labels[int(one)] for one in of_row.split(",")]}


def _goemotions_files(folder: Path, work: Path) -> dict[str, Path]:
    """Train, a tenth of it as validation, and dev as test."""
    rows = list(_read_goemotions(folder, "train.tsv"))
    random.Random(0).shuffle(rows)
    n = len(rows) // 10
    parts = {"validation": rows[:n], "train": rows[n:], "test": list(_read_goemotions(folder, "dev.tsv"))}
    return {name: _write(work / f"{name}.jsonl", some) for name, some in parts.items()}


def _split_examples(data: Path, work: Path, n_most: int) -> tuple[Path, Path]:
    """Nine tenths and a tenth of the rows that can be read, at most `n_most` of them."""
    read = [row for row in Rows(data, Example, "benchmark", InputParams(max_rejected_share=1))]
    rows = [
        {"id": row.id, "text": row.text, "context": row.context, "character": row.character, "labels": row.labels}
        for row in read if not isinstance(row, Rejection)
    ]  # fmt: skip
    random.Random(0).shuffle(rows)
    rows = rows[:n_most]
    n = max(1, len(rows) // 10)
    return _write(work / "synthetic.jsonl", rows[n:]), _write(work / "synthetic_validation.jsonl", rows[:n])


def _predictions(evaluation: Path, names: Sequence[str]) -> tuple[Any, Any]:
    """(N, C) bool: predicted, and true."""
    rows = list(iterate(evaluation))
    held = [{label["name"] for label in row["labels"]} for row in rows]
    predicted = np.array([[name in row["predicted"] for name in names] for row in rows])
    return predicted, np.array([[name in some for name in names] for some in held])


def _write(file: Path, rows: Sequence[Any]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


PARTS = {"goemotions": goemotions, "speed": speed, "context": context, "transfer": transfer}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goemotions", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--synthetic", type=Path, help="Examples, for transfer", metavar="DATA")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=["goemotions", "speed", "context"])
    parser.add_argument("--out", type=Path, help="JSON file; parts that are not measured stay as they are in it")
    parser.add_argument("--n-threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--model", default="all-minilm-l6-v2", help="(default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="on all of GoEmotions (default: %(default)s)")
    parser.add_argument("--set", nargs="*", default=["threshold_by=class"], help="more of train_encoder's parameters")
    parser.add_argument("--n-rows", type=int, default=640, help="of speed (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="of speed (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="of transfer (default: %(default)s)")
    parser.add_argument("--share", type=float, default=0.1, help="of GoEmotions, in transfer (default: %(default)s)")
    parser.add_argument("--few-shot-epochs", type=int, default=8, help="on that (default: %(default)s)")
    parser.add_argument("--pretraining-epochs", type=int, default=3, help="on DATA (default: %(default)s)")
    parser.add_argument("--max-synthetic-rows", type=int, default=1_000_000)
    options = parser.parse_args(argv)
    result: dict[str, Any] = {}
    if options.out and options.out.is_file():
        result = json.loads(options.out.read_text())
    result |= {"benchmark": "encoder", "cpus": os.cpu_count()}
    for part in options.only:
        with tempfile.TemporaryDirectory(prefix="datastill-encoder-") as work:
            os.environ["DATASTILL_HOME"] = str(Path(work, "home"))  # no checkpoint of another run
            result[part] = PARTS[part](options, Path(work))
        sys.stdout.write(f"{part}\n" + "".join(f"    {name:22}{value}\n" for name, value in result[part].items()))
        if options.out:
            write_json(options.out, result)


if __name__ == "__main__":
    main()
