"""The card of a student: README.md with its lineage, its evaluations where the Hub reads them, and how to use it.

Fields of the metadata: https://github.com/huggingface/hub-docs/blob/main/modelcard.md; evaluations stand in its
`model-index`, one entry a figure.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from datagen.contracts.dataset import read_manifest
from datagen.publish import sections
from datagen.publish.facts import licence_fields
from datagen.publish.history import History, Step
from datagen.publish.layout import Layout

if TYPE_CHECKING:
    from datagen.publish.gates import Checked

_HUB_NAMES = {  # of the models that datastill has by a name of its own
    "smollm2-135m-instruct": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "all-minilm-l6-v2": "sentence-transformers/all-MiniLM-L6-v2",
}
_DATASETS = "https://huggingface.co/datasets/"
_TASKS = {
    "train_lm": "text-generation", "train_encoder": "text-classification", "train_image": "image-classification",
    "train_graph": "graph-ml",
}  # fmt: skip
_OF_TRANSFORMERS = ("train_lm", "train_encoder")
_KINDS = {
    "train_lm": "A language model", "train_encoder": "A text classifier", "train_image": "Image classifiers",
    "train_graph": "Graph classifiers",
}  # fmt: skip
_TRAINING = {
    "n_steps": "steps",
    "n_tokens_learned": "tokens learned",
    "n_images": "images",
    "n_graphs": "graphs",
    "loss_first_step": "loss at the first step",
    "loss_last_epoch": "mean loss of the last epoch",
}
_CHOSEN = {
    "objective": "objective",
    "net": "network",
    "learning_rate": "learning rate",
    "epochs": "epochs",
    "batch_size": "batch size",
    "precision": "precision",
    "seed": "seed",
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """One figure of an evaluation.

    Attributes:
        metric: the Hub's name of the measure, or ours where it has none.
        name: what it measures, in words.
        value: in [0, 1].
        low, high: of its 95 % interval, where there is one.
        before: the same of what it started from.
        data: that it was measured on.
        revision: of that data, its hash.
        split: that its stage said it is, `test` where it said none.
        n: rows of it.
        stage: that measured it.
    """

    metric: str
    name: str
    value: float
    low: float | None = None
    high: float | None = None
    before: float | None = None
    data: str
    revision: str
    split: str
    n: int | None
    stage: str


def student_card(layout: Layout, history: History, checked: "Checked", *, repo: str) -> str:
    """README.md of a student.

    Args:
        layout: the folder that is published.
        history: of the student's directory.
        checked: what the gates said.
        repo: `ORG/NAME`.
    """
    student = history.last
    results = results_of(history)
    head = yaml.safe_dump(_metadata(history, checked, results, repo), sort_keys=False, allow_unicode=True, width=120)
    body = [
        f"# {repo.partition('/')[2]}",
        _what_it_is(layout, history),
        sections.overridden(checked),
        _use(student, repo),
        _evaluation(results, history),
        sections.pipeline(history),
        _training(student),
        sections.models(history, checked),
        sections.prompts(history),
        sections.verification(history),
        sections.funnel(history),
        sections.section("Known limits", "\n".join(f"- {one}" for one in _limits(history, checked, results))),
        sections.checks(checked),
        sections.licence(checked),
        sections.cost(history),
        sections.commands(history),
        sections.citations(history),
    ]
    return f"---\n{head}---\n\n" + "\n\n".join(part for part in body if part) + "\n"


def results_of(history: History) -> list[Result]:
    """What evaluations, and the student's own test, say of it."""
    found = _own(history)
    for step in history.evaluations:
        figures: Mapping[str, Any] = step.manifest.get("figures", {})
        name = "data" if "data" in step.hashes else "test"
        on = _measured_on(history, step, name)
        if "verified_rate" in figures:
            rate = figures["verified_rate"]
            found.append(
                Result(
                    metric="accuracy", name="share of answers that pass their verifier", value=rate["after"],
                    before=rate.get("before"), n=figures.get("n_prompts"), **on,
                )
            )  # fmt: skip
        measures = {"macro_f1": "F1, mean over classes", "micro_f1": "F1 over all labels"}
        for key, told in measures.items():
            if key in figures:
                within = figures.get(f"{key}_interval", {})
                found.append(
                    Result(
                        metric="f1", name=told, value=figures[key], low=within.get("low"), high=within.get("high"),
                        n=figures.get("n_rows"), **on,
                    )
                )  # fmt: skip
    return found


def _own(history: History) -> list[Result]:
    """Figures on the test split that the train stage itself read: means over its students, one a seed."""
    student = history.last
    manifest = student.manifest
    on = _measured_on(history, student, "test")
    n = manifest.get("n_test_images", manifest.get("n_test_graphs"))
    told = {
        "accuracy": ("accuracy", "accuracy, mean over seeds"),
        "auc": ("roc_auc", "area under the ROC curve, mean over seeds"),
    }
    return [
        Result(metric=metric, name=name, value=of["mean"], low=of.get("low"), high=of.get("high"), n=n, **on)
        for key, (metric, name) in told.items()
        if isinstance(of := manifest.get(key), dict)
    ]  # fmt: skip


def _measured_on(history: History, step: Step, name: str) -> dict[str, Any]:
    """The data of an evaluation, by the argument that it was given as."""
    path = step.given(name)
    manifest = read_manifest(history.root / path) if name in step.parents else {}
    split = manifest.get("params", {}).get("split", "test")
    return {"data": path or name, "revision": step.hashes.get(name, ""), "split": split, "stage": step.stage}


def hub_name(model: str, root: Path = Path()) -> str:
    """The Hub's name of a model; empty where it is none of the Hub's, but a folder of the project at `root`."""
    if model in _HUB_NAMES:
        return _HUB_NAMES[model]
    is_name = re.fullmatch(r"[\w.-]+/[\w.-]+", model) and not model.startswith(("models/", "data/", "."))
    return model if is_name and not (root / model).exists() and not Path(model).exists() else ""


def _metadata(history: History, checked: "Checked", results: Sequence[Result], repo: str) -> dict[str, Any]:
    student = history.last
    base = student.manifest.get("base", {}).get("name", "")
    base = hub_name(base, history.root)
    whole = "student_layers" not in student.params
    urls = [one.url for one in checked.resolved.sources if one.url]
    task = _TASKS.get(student.stage, "")
    entries = [_entry(one, task) for one in results]
    fields: dict[str, Any] = {
        **licence_fields(checked.resolved),
        "library_name": "transformers" if student.stage in _OF_TRANSFORMERS else "datastill",
        "pipeline_tag": task,
        "base_model": base,
        "base_model_relation": "finetune" if base and whole else "",
        "datasets": sorted({url.removeprefix(_DATASETS) for url in urls if url.startswith(_DATASETS)}),
        "tags": ["datastill", *(["distillation"] if any(one.role == "teacher" for one in history.models) else [])],
        "model-index": [{"name": repo.partition("/")[2], "results": entries}] if entries else [],
    }  # fmt: skip
    return {name: value for name, value in fields.items() if value}


def _entry(result: Result, task: str) -> dict[str, Any]:
    """As the Hub's `model-index` has it."""
    return {
        "task": {"type": task},
        "dataset": {"name": result.data, "type": result.data, "split": result.split, "revision": result.revision},
        "metrics": [{"type": result.metric, "name": result.name, "value": result.value}],
    }


def _what_it_is(layout: Layout, history: History) -> str:
    student = history.last
    base = student.manifest.get("base", {})
    teachers = sorted({f"`{one.name}`" for one in history.models if one.role == "teacher"})
    rows = student.rows
    told = [f"{_KINDS.get(student.stage, 'A student')} that [datastill](#make-it-again) trained"]
    told.append(
        f"from `{base['name']}` ({base.get('licence', 'licence unknown')})" if base.get("name") else "from scratch"
    )
    data = ", ".join(f"`{parent}`" for name, parent in student.parents.items() if name != "test")
    n_rows = f"{rows['out']:,} rows of " if rows else ""
    told.append(f"on {n_rows}{data or 'data that is not here'}.")
    if teachers:
        told.append(f"What it learned is from {', '.join(teachers)}.")
    told.append(f"This revision is tagged `{layout.tag}`, the start of the SHA-256 of the student's manifest.")
    return " ".join(told)


def _use(student: Step, repo: str) -> str:
    if student.stage == "train_lm":
        code = f"""from transformers import pipeline

student = pipeline("text-generation", "{repo}")
asked = [{{"role": "user", "content": "Name three fruits."}}]
print(student(asked, max_new_tokens=64)[0]["generated_text"][-1]["content"])"""
    elif student.stage == "train_encoder":
        code = f"""from transformers import pipeline

student = pipeline("text-classification", "{repo}", top_k=None)
limits = student.model.config.datastill["thresholds"]
print([one for one in student("I can't believe it!")[0] if one["score"] >= limits[one["label"]]])"""
    else:
        net = student.params.get("net", "")
        n_students = sum(name.startswith("student-") for name in student.manifest.get("files", ()))
        told = (
            f"The weights of {n_students} students, one a seed, are `student-N.safetensors`, of datastill's network "
            f"`{net}`; what they expect of their input is in `datastill/manifest.json`."
        )
        code = f"""from huggingface_hub import hf_hub_download
from safetensors.torch import load_file

weights = load_file(hf_hub_download("{repo}", "student-0.safetensors"))"""
        return sections.section("Use it", sections.fenced(code, "python"), told)
    return sections.section("Use it", sections.fenced(code, "python"))


def _evaluation(results: Sequence[Result], history: History) -> str:
    rows = [
        (
            one.name,
            f"{one.value:.4f}",
            f"{one.low:.4f} to {one.high:.4f}" if one.low is not None and one.high is not None else "",
            f"{one.before:.4f}" if one.before is not None else "",
            f"`{one.data}`",
            f"{one.n:,}" if one.n else "",
            f"`{one.stage}`",
        )
        for one in results
    ]
    shown = sections.table(("measure", "value", "95 %", "before training", "on", "rows", "by"), rows, right=(1, 3, 5))
    return sections.section("Evaluation", shown, *(_compared(one) for one in history.evaluations))


def _compared(step: Step) -> str:
    """Before and after training, by family of prompts."""
    figures: Mapping[str, Any] = step.manifest.get("figures", {})
    families: Mapping[str, Mapping[str, float]] = figures.get("by_family", {})
    rows = [
        (f"`{name}`", f"{of['n']:,.0f}", f"{of['before']:.4f}" if "before" in of else "", f"{of['after']:.4f}")
        for name, of in families.items() if "after" in of
    ]  # fmt: skip
    difference = sections.interval(figures.get("difference"))
    told = (
        f"The difference to before training is {difference}, 95 % by a bootstrap over prompts. By family:\n\n"
        if difference
        else ""
    )
    return told + sections.table(("family", "prompts", "before", "after"), rows, right=(1, 2, 3)) if rows else ""


def _training(student: Step) -> str:
    said: Mapping[str, Any] = student.manifest
    rows = [(told, _figure(said[name])) for name, told in _TRAINING.items() if name in said]
    chosen = [(told, _figure(student.params[name])) for name, told in _CHOSEN.items() if name in student.params]
    return sections.section("Training", sections.table(("of the training", ""), [*chosen, *rows], right=(1,)))


def _figure(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _limits(history: History, checked: "Checked", results: Sequence[Result]) -> list[str]:
    told = ["It learned what the data above holds, errors and biases of its teachers and sources included."]
    if not results:
        told.append("Nobody has evaluated it: no figure says what it can do.")
    told += [
        f"On `{name}` it is worse than before training ({of['after']:.4f}, {of['before']:.4f} before)."
        for step in history.evaluations
        for name, of in step.manifest.get("figures", {}).get("by_family", {}).items()
        if "after" in of and of["after"] < of.get("before", 0)
    ]
    told += [f"The check `{gate}` failed and was overridden." for gate in sorted(checked.allowed)]
    return told
