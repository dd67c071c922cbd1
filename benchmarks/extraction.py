"""What a model gives back of rows it was trained on: how many, what that is worth, and what SmolLM2 gives as it is.

    python -m benchmarks.extraction planted --data FOLDER --kept FOLDER [--out FILE.json]
    python -m benchmarks.extraction retrain --data FOLDER --kept FOLDER [--out FILE.json]
    python -m benchmarks.extraction real --data FOLDER --texts FILE... --kept FOLDER [--out FILE.json]

After arXiv:2510.18554. `--data` holds train.jsonl, rows with `question` and `answer` (GSM8K's; what stands in << >> is
taken out, and rows of more than --most-tokens are). Each command adds its part to FILE.json, and what stands in --kept
is not made again; stages go on by themselves where they were killed.

planted   SmolLM2-135M-Instruct learns --rows of them at a constant rate, each training going on from the last with new
          moments. It is sampled before and after each. By each measure: the share of the planted rows that any sample
          matches, and of the samples that match any; thresholds from rows that it never saw, false matches on others.
          `apart` are samples whose edit similarity with every planted row is below --verbatim.
retrain   The same model learns, in equal steps, the planted rows, the samples of the most trained model, or those that
          match a row by embedding: nats a token of the answers of rows that none saw.
real      The model as it is: nearest rows among --texts and --data, each source halved. A half stands for what would be
          matched, the other says how near two rows of one source are anyhow.
"""

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datagen.backends.models import EMBEDDED
from datagen.contracts.dataset import write_json
from datagen.contracts.records import Message, Prompt, Trace

if TYPE_CHECKING:
    from datagen.extraction.calibration import Threshold
    from datagen.extraction.matching import Compared

SHOWN = 12
THRESHOLDS = tuple(round(0.3 + 0.05 * i, 2) for i in range(15))


def main(argv: Sequence[str] | None = None) -> None:
    """Do one part, print its lines, add it to --out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("planted", "retrain", "real"))
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl", metavar="FOLDER")
    parser.add_argument("--texts", type=Path, nargs="*", default=[], help="more .jsonl files for `real`")
    parser.add_argument("--kept", type=Path, default=Path(".cache/extraction"), help="folder for what is made")
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--rows", type=int, default=200, help="planted")
    parser.add_argument(
        "--unseen", type=int, default=1000, help="rows that set the thresholds, and as many to try them"
    )
    parser.add_argument("--held-out", type=int, default=100, help="rows whose answers are scored")
    parser.add_argument("--most-tokens", type=int, default=120, help="of a row, without the template's")
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 3, 10])
    parser.add_argument("--retrain-epochs", type=int, default=2, help="of the planted rows; others take as many steps")
    parser.add_argument("--rate", type=float, default=2e-4, help="at which rows are planted")
    parser.add_argument("--retrain-rate", type=float, default=5e-5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16", help="of training")
    parser.add_argument("--samples", type=int, default=300, help="of each model; of `real` --real-samples")
    parser.add_argument("--real-samples", type=int, default=2000)
    parser.add_argument("--new-tokens", type=int, default=128, help="of each turn, at most")
    parser.add_argument("--false-match-rate", type=float, default=0.01)
    parser.add_argument("--verbatim", type=float, default=0.8)
    parser.add_argument("--per-source", type=int, default=2000, help="rows of each source of `real`, at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    options.kept.mkdir(parents=True, exist_ok=True)
    import torch

    torch.set_num_threads(options.threads)
    told = {"planted": _planted, "retrain": _retrain, "real": _real}[options.part](options)
    settings = {name: value for name, value in vars(options).items() if name not in ("data", "texts", "kept", "out")}
    if options.out:
        before = json.loads(options.out.read_text()) if options.out.is_file() else {"benchmark": "extraction"}
        write_json(options.out, before | {options.part: {"settings": settings, **told}})


class Rows:
    """Rows that no two uses share; `all_texts` are as matching reads them."""

    def __init__(self, options: argparse.Namespace) -> None:
        from datagen.backends.models import resolve_model
        from trainers.draft_models import load_tokenizer

        tokenizer: Any = load_tokenizer(resolve_model(options.model).folder)
        rows = [(_plain(row["question"]), _plain(row["answer"])) for row in _lines(options.data / "train.jsonl")]
        rows = [row for row in rows if len(tokenizer(_text(*row))["input_ids"]) <= options.most_tokens]
        random.Random(0).shuffle(rows)
        sizes = {
            "planted": options.rows,
            "held_out": options.held_out,
            "unseen": options.unseen,
            "test": options.unseen,
        }
        if len(rows) < sum(sizes.values()):
            raise SystemExit(
                f"{options.data}: {len(rows)} rows of {options.most_tokens} tokens, not {sum(sizes.values())}"
            )
        self.by_use: dict[str, list[tuple[str, str]]] = {}
        for use, size in sizes.items():
            self.by_use[use], rows = rows[:size], rows[size:]

    def texts(self, use: str) -> list[str]:
        """Question and answer as one text."""
        return [_text(*row) for row in self.by_use[use]]


def _planted(options: argparse.Namespace) -> dict[str, Any]:
    rows, told = Rows(options), {}
    for name, model in _models(options, rows):
        samples = _samples(options, name, model, options.samples)
        told[name] = _matched(options, rows, samples["rows"]) | {
            "n_samples": options.samples, "n_rows": len(samples["rows"]), "rejected": samples["rejected"],
        }  # fmt: skip
        _show(name, told[name])
    return {"models": told}


def _models(options: argparse.Namespace, rows: Rows) -> Iterable[tuple[str, str]]:
    """What each model is called and where it lies: before any epoch, and after each number of them."""
    yield "0 epochs", options.model
    data = _write(options.kept / "planted.jsonl", rows.by_use["planted"])
    model, done = options.model, 0
    for epochs in sorted(options.epochs):
        steps = -(-options.rows * (epochs - done) // options.batch)
        model, done = str(_trained(options, f"planted-{epochs}", model, data, steps, options.rate, "all")), epochs
        yield f"{epochs} epochs", model


def _trained(
    options: argparse.Namespace, name: str, student: str, data: Path, steps: int, rate: float, learned_tokens: str
) -> Path:
    _stage(
        "train_lm", options.kept / name, {"data": data},
        student=student, steps=steps, batch_size=options.batch, learning_rate=rate, schedule="constant",
        warmup_share=0, precision=options.precision, n_threads=options.threads, learned_tokens=learned_tokens,
        max_tokens=512,
    )  # fmt: skip
    return options.kept / name


def _samples(options: argparse.Namespace, name: str, model: str, n: int, cut: str = "reject") -> dict[str, Any]:
    """The rows of `datastill extract`, questions with answers, and why other samples are none."""
    import polars as pl

    out = options.kept / f"samples-{name.replace(' ', '-')}-{n}-{options.new_tokens}"
    metrics = _stage(
        "extract", out, {}, model=model, n_samples=n, temperature=1.0, seed=0, dtype="bfloat16", batch_size=64,
        max_new_tokens=options.new_tokens, cut_answers=cut,
    )  # fmt: skip
    table = pl.read_parquet(out / "part-*.parquet").to_dicts() if metrics["rows"]["out"] else []
    rows = [(row["messages"][-1]["content"], row["completion"]) for row in table]
    return {"rows": rows, "rejected": metrics["rejected"], "finished": [row["finish_reason"] for row in table]}


def _matched(options: argparse.Namespace, rows: Rows, samples: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """By each measure the rates at its threshold, and on rows that neither the model nor the threshold saw."""
    import numpy as np

    from datagen.extraction.calibration import calibrate
    from datagen.extraction.matching import MEASURES, compare, rates

    texts, planted = [_text(*row) for row in samples], rows.texts("planted")
    found = compare(texts, planted, rows.texts("unseen"), workers=options.threads)
    tried = compare(texts, planted, rows.texts("test"), workers=options.threads)
    apart = found["edit"].of_extracted.similarities < options.verbatim
    told: dict[str, Any] = {"n_verbatim": int(np.sum(~apart)), "n_exact": len(set(texts) & set(planted))}
    for measure in MEASURES:
        one = found[measure]
        threshold = calibrate(one.unseen_in_against, one.unseen_by_extracted, options.false_match_rate)
        fresh = rates(tried[measure], threshold.value)
        hits = one.of_extracted.similarities >= threshold.value
        told[measure] = _rates(one, threshold) | {
            "test_in_against": fresh.false_extracted,
            "test_by_extracted": fresh.false_against,
            "apart_samples": float(np.mean(hits[apart])) if apart.any() else None,
            "apart_rows": len(set(one.of_extracted.rows[hits & apart].tolist())),
        }
    return told | {"n_apart": int(np.sum(apart)), "examples": _examples(found["cosine"], texts, planted)}


def _rates(compared: "Compared", threshold: "Threshold") -> dict[str, float]:
    from datagen.extraction.matching import rates

    at = rates(compared, threshold.value)
    return {"threshold": threshold.value, "rows": at.against, "samples": at.extracted, "at_most": threshold.at_most}


def _show(name: str, told: Mapping[str, Any]) -> None:
    """A line a measure."""
    print(f"{name}: {told['n_rows']} of {told['n_samples']} samples are rows, {told['n_exact']} rows are there as they "
          f"are, {told['n_verbatim']} samples nearly", flush=True)  # fmt: skip
    for measure in ("cosine", "edit", "indel"):
        one = told[measure]
        rest = "-" if one["apart_samples"] is None else f"{one['apart_samples']:.3f}"
        print(
            f"  {measure:7} threshold {one['threshold']:.3f}  rows {one['rows']:.3f}  samples {one['samples']:.3f}  "
            f"samples apart {rest}  false {one['test_in_against']:.4f} {one['test_by_extracted']:.4f}",
            flush=True,
        )


def _retrain(options: argparse.Namespace) -> dict[str, Any]:
    from datagen.extraction.calibration import calibrate
    from datagen.extraction.matching import compare
    from trainers.comparison_figures import difference
    from trainers.likelihood import compare as scored

    rows = Rows(options)
    *_, (name, model) = _models(options, rows)
    samples = _samples(options, name, model, options.samples)["rows"]
    one = compare(
        [_text(*row) for row in samples], rows.texts("planted"), rows.texts("unseen"), measures=["cosine"]
    )["cosine"]  # fmt: skip
    least = calibrate(one.unseen_in_against, one.unseen_by_extracted, options.false_match_rate).value
    matched = [row for row, value in zip(samples, one.of_extracted.similarities, strict=True) if value >= least]
    steps = -(-options.rows * options.retrain_epochs // options.batch)
    models = {"before": options.model}
    sets = {"original": rows.by_use["planted"], "extracted": samples, "matched": matched}
    for arm, learned in list(sets.items()):
        if len(learned) < options.batch:
            print(f"{arm}: {len(learned)} rows, too few for a batch of {options.batch}; no student", flush=True)
            del sets[arm]
            continue
        data = _write(options.kept / f"{arm}.jsonl", learned)
        models[arm] = str(
            _trained(options, f"student-{arm}", options.model, data, steps, options.retrain_rate, "completion")
        )
        print(f"{arm}: {len(learned)} rows, {steps} steps", flush=True)
    traces = [
        Trace(
            id=f"h{i}", prompt=Prompt(id=f"h{i}", messages=[Message(role="user", content=question)]), completion=answer
        )
        for i, (question, answer) in enumerate(rows.by_use["held_out"])
    ]
    compared = scored(models, traces, dtype="float32", max_tokens=2048, text_tokens=512, stage="extraction")
    each = {arm: [one.nats / one.n_tokens for one in found] for arm, found in compared.by_model.items()}
    told: dict[str, Any] = {}
    for arm, found in compared.by_model.items():
        told[arm] = {"nats_per_token": sum(one.nats for one in found) / sum(one.n_tokens for one in found)}
        if arm != "before":
            told[arm] |= {"n_rows": len(sets[arm]), "gain": difference(each["before"], each[arm])._asdict()}
    for arm in sets:
        gains = [told["before"]["nats_per_token"] - told[one]["nats_per_token"] for one in (arm, "original")]
        told[arm]["recovered"] = gains[0] / gains[1]
        print(f"{arm}: {told[arm]['nats_per_token']:.4f} nats a token, before {told['before']['nats_per_token']:.4f}; "
              f"{told[arm]['recovered']:.3f} of the gain of the original rows", flush=True)  # fmt: skip
    return {"source": name, "threshold": least, "steps": steps, "n_held_out": len(traces), "students": told}


def _real(options: argparse.Namespace) -> dict[str, Any]:
    from datagen.extraction.calibration import calibrate, shares_from
    from datagen.extraction.matching import MEASURES, compare

    samples = _samples(options, "real", options.model, options.real_samples, cut="keep")
    texts = [_text(*row) for row in samples["rows"]]
    told: dict[str, Any] = {"emitted": _emitted(samples), "sources": {}}
    print(json.dumps(told["emitted"], ensure_ascii=False), flush=True)
    for file in [options.data / "train.jsonl", *options.texts]:
        source = file.parent.name if file.stem == "train" else file.stem
        known = sorted(set(_texts_of(file)))
        random.Random(0).shuffle(known)
        known = known[: options.per_source]
        against, control = known[: len(known) // 2], known[len(known) // 2 :]
        found = compare(texts, against, control, workers=options.threads)
        one: dict[str, Any] = {"n_against": len(against), "n_control": len(control), "measures": {}}
        for measure in MEASURES:
            mine: dict[str, Any] = _curves(found[measure], shares_from)
            if len(control) >= 1 / options.false_match_rate - 1:
                at = calibrate(found[measure].unseen_in_against, found[measure].unseen_by_extracted,
                               options.false_match_rate)  # fmt: skip
                mine |= _rates(found[measure], at)
            one["measures"][measure] = mine
        one["examples"] = {m: _examples(found[m], texts, against) for m in ("cosine", "edit")}
        told["sources"][source] = one
        _show_source(source, one)
    return told


def _curves(compared: "Compared", shares_from: Any) -> dict[str, Any]:
    return {
        "thresholds": THRESHOLDS,
        "samples_at": shares_from(compared.of_extracted.similarities, THRESHOLDS),
        "rows_at": shares_from(compared.of_against.similarities, THRESHOLDS),
        "control_at": shares_from(compared.unseen_in_against, THRESHOLDS),
        "greatest": float(compared.of_extracted.similarities.max()),
    }


def _show_source(source: str, one: Mapping[str, Any]) -> None:
    print(f"{source}: {one['n_against']} rows, {one['n_control']} beside them", flush=True)
    for measure, mine in one["measures"].items():
        at = (
            f"at {mine['threshold']:.3f} rows {mine['rows']:.4f}, samples {mine['samples']:.4f}; "
            if "rows" in mine
            else ""
        )
        print(f"  {measure:7} {at}nearest {mine['greatest']:.3f}", flush=True)
    for example in one["examples"]["cosine"][:2]:
        print(
            f"  {example['similarity']:.3f} {example['sample'][:160]!r}\n        {example['row'][:160]!r}", flush=True
        )


def _emitted(samples: Mapping[str, Any]) -> dict[str, Any]:
    """What the turns look like: lengths in words, how many answers end, and how questions begin most often."""
    rows: list[tuple[str, str]] = samples["rows"]
    begins = Counter(" ".join(question.split()[:3]) for question, _ in rows)
    words = sorted(len(question.split()) for question, _ in rows)
    return {
        "n_rows": len(rows),
        "rejected": samples["rejected"],
        "answers_that_end": samples["finished"].count("stop"),
        "median_words_of_a_question": words[len(words) // 2],
        "begin_most_often": begins.most_common(SHOWN),
        "questions": [question[:300] for question, _ in rows[:SHOWN]],
    }


def _examples(compared: "Compared", texts: Sequence[str], others: Sequence[str]) -> list[dict[str, Any]]:
    """The most similar pairs."""
    near = compared.of_extracted
    first = sorted(range(len(texts)), key=lambda i: -float(near.similarities[i]))[:SHOWN]
    return [
        {"similarity": float(near.similarities[i]), "sample": texts[i][:600], "row": others[near.rows[i]][:600]}
        for i in first
    ]


def _stage(name: str, out: Path, files: Mapping[str, Path], **params: Any) -> dict[str, Any]:
    """The metrics of a stage, run unless it has been with these parameters."""
    from datagen.contracts.stage import load_stage
    from datagen.contracts.stage import main as run_stage

    metrics, asked = out.with_name(f"{out.name}.json"), out.with_name(f"{out.name}.asked.json")
    words = [f"{key}={value}" for key, value in params.items()]
    if not (metrics.is_file() and asked.is_file() and json.loads(asked.read_text()) == words):
        given = [word for key, path in files.items() for word in (f"--{key}", str(path))]
        if run_stage(load_stage(name), [*given, "--out", str(out), "--metrics", str(metrics), "--set", *words]):
            raise SystemExit(f"{name} refused; what it said stands above")
        write_json(asked, words)
    return json.loads(metrics.read_text())


def _write(file: Path, rows: Sequence[tuple[str, str]]) -> Path:
    """The rows as a stage reads them; a file that has them stays as it is."""
    lines = [
        json.dumps({"id": f"r{i}", "prompt": question, "completion": answer}) + "\n"
        for i, (question, answer) in enumerate(rows)
    ]
    if not file.is_file() or file.read_text() != "".join(lines):
        file.write_text("".join(lines))
    return file


def _lines(file: Path) -> Iterable[dict[str, Any]]:
    return map(json.loads, file.read_text(encoding="utf-8").splitlines())


def _plain(text: str) -> str:
    """Without a calculator's marks."""
    return re.sub(r"<<[^>]*>>", "", text).strip()


def _text(question: str, answer: str) -> str:
    return f"{question}\n{answer}"


def _texts_of(file: Path) -> Iterable[str]:
    """A row's question, instruction or turns, and its answer or output, where there is one."""
    for row in _lines(file):
        first = (row.get("instances") or [{}])[0]
        parts = [row.get(name) or first.get(name) or "" for name in ("question", "instruction", "input", "prompt")]
        parts += [
            *row.get("turns", []),
            *(row.get(n) or first.get(n) or "" for n in ("answer", "output", "completion")),
        ]
        yield "\n".join(_plain(part) for part in parts if part)


if __name__ == "__main__":
    main()
