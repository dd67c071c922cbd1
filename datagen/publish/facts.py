"""What a dataset is, in the words of its card and of its Croissant metadata, told from its history and its rows."""

from itertools import pairwise
from typing import TYPE_CHECKING

from datagen.publish.history import ASKING, WRITERS, History
from datagen.publish.layout import ROWS, Layout
from datagen.publish.sections import share
from datagen.publish.statistics import Column, Languages

if TYPE_CHECKING:
    from datagen.publish.gates import Checked
    from datagen.publish.licences import Resolved

TASKS = {  # of the Hub, by the record of the rows
    "Prompt": "text-generation",
    "Trace": "text-generation",
    "Document": "text-generation",
    "Example": "text-classification",
    "ImageRow": "image-classification",
    "GraphRow": "graph-ml",
}
_SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")  # of the Hub
_WRITTEN = {
    "traces": "answers of {teacher}",
    "corpus": "texts written by {teacher}",
    "extract": "text extracted from {teacher}",
    "condense_images": "images condensed by {method}",
    "condense_graphs": "graphs condensed by {method}",
    "prompts": "prompts by {method}",
    "narratives": "narratives",
    "images": "images of {method}",
    "graphs": "graphs by {method}",
    "domains": "texts of several domains",
    "evaluate_lm": "answers of {teacher} and of what it was before training",
}
_AFTERWARDS = {
    "verify": "verified",
    "filter": "filtered",
    "select": "selected",
    "label_quality": "judged",
    "mix": "mixed",
}
_FEW_ROWS = 1000


def title_of(history: History) -> str:
    """What it is, such as `Verified answers of smollm2-135m-instruct`."""
    last = history.last
    behind = [step for step in history.steps if step in history.behind_rows]
    stages = [step.stage for step in behind]
    at = max((i for i, stage in enumerate(stages) if stage in _WRITTEN), default=-1)
    if at < 0 or not {last.stage} <= _WRITTEN.keys() | _AFTERWARDS.keys():
        return f"Output of {last.stage}"
    step = behind[at]
    who = next((one.name for one in step.models if one.role in WRITERS), "a teacher")
    noun = _WRITTEN[step.stage].format(teacher=who, method=step.method)
    after = [_AFTERWARDS[stage] for stage in dict.fromkeys(stages[at + 1 :]) if stage in _AFTERWARDS]
    title = " and ".join([", ".join(after[:-1]), after[-1]] if after[1:] else after) + f" {noun}"
    return title.strip()[:1].upper() + title.strip()[1:]


def size_category(n_rows: int) -> str:
    """The Hub's class of a number of rows, such as `1K<n<10K`."""
    below = next((i for i in range(len(_SIZES)) if n_rows < 10 ** (3 + i)), len(_SIZES))
    names = [f"n<{_SIZES[0]}", *(f"{low}<n<{high}" for low, high in pairwise(_SIZES)), f"n>{_SIZES[-1]}"]
    return names[below]


def licence_fields(resolved: "Resolved") -> dict[str, str]:
    """`license` as the Hub has it, and name and link where its list lacks the licence."""
    if resolved.licence != "other":
        return {"license": resolved.licence or "unknown"}
    fields = {"license": "other", "license_name": resolved.name, "license_link": resolved.url}
    return {name: value for name, value in fields.items() if value}


def limits(
    layout: Layout, history: History, checked: "Checked", columns: list[Column], languages: Languages
) -> list[str]:
    """What one has to know before using it, as far as the manifests and rows say it."""
    n = sum(layout.n_rows[ROWS].values())
    counted = {one.name: one for one in columns}
    behind, told = history.behind_rows, list[str]()
    asked = [one for step in behind if step.stage in ASKING for one in step.models if one.role in WRITERS]
    writers = sorted({f"`{one.name}`" for one in asked})
    if history.is_synthetic and writers:
        told.append(f"A model wrote it ({', '.join(writers)}): errors, habits and biases of that model are in it.")
    if history.extracted_from:
        told.append("What a model gives back may be its training data, or made up in its manner; no row says which.")
    for step in (one for one in behind if one.judged):
        passed, of = sum(one.n_passed for one in step.judged), sum(one.n for one in step.judged)
        told.append(
            f"A row that passed did what its verifier can check, no more: {share(passed, of)} of {of:,} did. "
            "Tasks at which the teacher mostly fails are rarer here than among the prompts."
        )
    prompts = [step for step in behind if step.stage == "prompts" and step.rows]
    if prompts and (column := counted.get("prompt_id")) and column.n_distinct is not None and len(prompts) == 1:
        n_prompts = (prompts[0].rows or {})["out"]
        told.append(f"{column.n_distinct:,} of {n_prompts:,} prompts have a row here.")
    if (ends := counted.get("finish_reason")) and (cut := ends.values.get("length")):
        told.append(f"{cut:,} of {n:,} answers ended because they reached their greatest length, not their end.")
    is_condensed = any(step.manifest.get("images_are", step.manifest.get("graphs_are")) == "made" for step in behind)
    if is_condensed:
        told.append(
            "The rows were made to train networks, not to be looked at: they are no samples of the data that they "
            "stand for, and other networks than those they were made with may learn less from them."
        )
    others = [name for name in languages.shares if name != next(iter(languages.shares))]
    if others:
        told.append(f"Not all of it is in one language: {', '.join(others)} too.")
    if n < _FEW_ROWS and not is_condensed:
        told.append(f"{n:,} rows are few: enough to see what the pipeline does, not to learn a task from.")
    told += [f"The check `{gate}` failed and was overridden." for gate in sorted(checked.allowed)]
    return told or ["None is known beyond what the sections above say."]
