"""A label for each text and the reason for it, as two tasks that a language model learns together.

Hsieh et al. Distilling Step-by-Step! Outperforming Larger Language Models with Less Training Data and Smaller Model
Sizes. 2023. arXiv:2305.02301, section 3: the teacher writes a rationale with each label, and the student learns both
from the same text, told apart by a prefix. Departures: the teacher answers with a JSON object, without examples of a
reasoning; each task is a Trace, so the weight between the two is how many rows of each are trained on. The reason
comes before the label, so that the label follows from it.

The dataset holds two Traces a text, which `train_lm` takes: family `label` with the label as completion and reference,
and family `rationale` with the reason. A student that is to give labels is evaluated on the first.
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from datagen.contracts.params import Params
from datagen.contracts.records import Document, Prompt, Trace, content_id
from datagen.synthesis._templates import Templates
from datagen.synthesis.flow import Dropped, Flow
from datagen.synthesis.structured import ask_for
from datagen.synthesis.taxonomy import Taxonomy, read_taxonomy

RECORD = Trace
TABLES: dict[str, Any] = {}
MAX_REASON_CHARS = 600


class Config(Params):
    """Which labels; whether their definitions stand in the question; prompts in place of the packaged ones."""

    method: Literal["rationale"]
    taxonomy: str = "goemotions"
    define_labels: bool = True
    templates: Path | None = None


class _Answer(BaseModel):
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_REASON_CHARS)]
    label: Annotated[str, Field(max_length=100)]


def identity(config: Config) -> dict[str, str]:
    """Of the taxonomy and the prompts."""
    taxonomy, templates = _shared(config.taxonomy, config.templates)
    return {"taxonomy": taxonomy.revision, "templates": templates.revision}


async def rationale(config: Config, source: Document, flow: Flow) -> list[Trace]:
    """The text's two tasks; a label that the taxonomy lacks drops it (`no_label_of_the_taxonomy`)."""
    taxonomy, templates = _shared(config.taxonomy, config.templates)
    labels = "\n".join(f"- {one.described if config.define_labels else one.name}" for one in taxonomy.labels)
    asked = templates.ask("label", {"text": source.text}, labels=labels)
    answer = await ask_for(_Answer, flow, "label", source.id, asked)
    label = taxonomy.find(answer.label)
    if label is None:
        raise Dropped("no_label_of_the_taxonomy", f"the teacher proposed {answer.label[:100]!r}")
    names = ", ".join(taxonomy.names)
    return [
        _task(source, flow, "label", f"[label] Which one of {names} fits this text best?", label, label),
        _task(source, flow, "rationale", "[rationale] What in this text says how it is to be labelled?", answer.reason),
    ]


def _task(
    source: Document, flow: Flow, family: str, question: str, completion: str, reference: str | None = None
) -> Trace:
    prompt = Prompt(
        id=f"{source.id}/{family}",
        messages=[{"role": "user", "content": f"{question}\n\n{source.text}"}],
        family=family,
        reference=reference,
        source=source.id,
    )
    id = f"{prompt.id}#0.{content_id(prompt.messages, completion)[:8]}"
    return Trace(id=id, prompt=prompt, completion=completion, finish_reason="stop", teacher=flow.teacher)


@cache
def _shared(taxonomy: str, templates: Path | None) -> tuple[Taxonomy, Templates]:
    return read_taxonomy(taxonomy), Templates("rationale", templates)
