"""Utterances of a narrative's characters, softly labelled; for each a version that needs its context.

Shvets. Emo Pillars: Knowledge Distillation to Support Fine-Grained Context-Aware and Context-Less Emotion
Classification. 2025. arXiv:2504.16856. Its six steps: the actors of a narrative; for each actor, utterances asked for
several at once, and neutral ones; soft labels of each utterance; its context; the context without what gives the label
away; the utterance in words that need the context. The prompts are ours, as the authors published none, in
templates/emo_pillars; any taxonomy takes the place of the 28 emotions.

Departures, each of which a parameter takes back: a label that the taxonomy lacks is mapped or dropped by meaning, with
a calibrated threshold (`unknown_labels`); an utterance too near an earlier one is dropped before anything else is asked
about it (`max_cosine=1`); the teacher is asked for the labels that are rarest so far (`n_wanted=0`). Sentences of the
context with a label's name, or a synonym of its own labels, are dropped by rule, before the teacher is asked for those
that give it away.

The dataset holds two rows an utterance: family `contextless` with the utterance, and `contextual` with its rewriting,
context and character.
"""

import hashlib
import heapq
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from datagen.backends.languages import known_languages, ranked_languages
from datagen.contracts.params import Params
from datagen.contracts.records import Document, Example, Label
from datagen.contracts.words import UNSPACED
from datagen.synthesis import _steps
from datagen.synthesis._label_words import LabelWords, split_sentences
from datagen.synthesis._templates import Templates
from datagen.synthesis.diversity import Accepted, Budget, measure
from datagen.synthesis.flow import Dropped, Flow
from datagen.synthesis.label_map import LabelMap, LabelMapping, Tally, summarise
from datagen.synthesis.structured import ask_for
from datagen.synthesis.taxonomy import read_taxonomy

RECORD = Example
_WORD = re.compile(rf"[{UNSPACED}]|[^\W\d_{UNSPACED}]{{2,}}")
TABLES = _steps.TABLES | {"label_map": LabelMapping}
NOBODY = "Somebody"
MIN_LETTERS = 20  # of a text whose language is told


class Config(Params):
    """How much is asked for, and what is kept.

    Attributes:
        taxonomy: `goemotions`, or a YAML file.
        noun: what the prompts call a label of it.
        grounded: whether utterances are asked for with the narrative and by an actor of it; the baseline is not.
        n_actors: of a narrative, at most.
        n_utterances: that let a label be heard, asked for at once.
        n_neutral: beside them, that do not.
        n_wanted: of the labels that are rarest so far, named in the question; 0 names none. Above 0 what one narrative
            asks for depends on the labels of those a window before it, and is asked anew where these change.
        labelled: whether the teacher labels the utterances; without it they have no labels and no contexts.
        n_labels: of an utterance, at most.
        positive_from: an expressiveness that counts as the label being there.
        unknown_labels: a label that the taxonomy lacks is mapped where its meaning is near, or dropped.
        max_cosine: between an utterance and an accepted one of the same kind, felt or neutral; 1 compares nothing.
        embedder: whose vectors these and label meanings are compared by.
        define_labels: whether the labels' definitions stand in the question.
        n_measured: utterances, chosen by the hash of their ids, whose diversity is measured at the end; 0 for none.
        contextual: whether contexts and rewritings are asked for.
        min_words: of two letters or more, or characters of a script without spaces; a weak teacher fills lists with
            signs and single words.
        language: ISO 639-1 code of what may be kept; None keeps all. The words of labels are looked for by English
            stems, whatever it is.
        templates: folder with prompts in place of the packaged ones, each of which it may replace.
    """

    method: Literal["emo_pillars"]
    taxonomy: str = "goemotions"
    noun: str = "feeling"
    grounded: bool = True
    n_actors: int = Field(15, ge=1)
    n_utterances: int = Field(8, ge=1)
    n_neutral: int = Field(2, ge=0)
    n_wanted: int = Field(5, ge=0)
    labelled: bool = True
    n_labels: int = Field(5, ge=1)
    positive_from: float = Field(0.3, gt=0, le=1)
    unknown_labels: Literal["map", "drop"] = "map"
    max_cosine: float = Field(0.9, gt=0, le=1)
    embedder: str = "all-minilm-l6-v2"
    define_labels: bool = True
    n_measured: int = Field(2000, ge=0)
    contextual: bool = True
    min_words: int = Field(3, ge=0)
    language: str | None = "en"
    max_narrative_chars: int = Field(20_000, ge=1)
    max_description_chars: int = Field(300, ge=20)
    max_utterance_chars: int = Field(400, ge=20)
    max_context_chars: int = Field(1000, ge=20)
    templates: Path | None = None

    @field_validator("language")
    @classmethod
    def _check_language(cls, value: str | None) -> str | None:
        if value is not None and value not in (known := known_languages()):
            raise ValueError(f"must be one of {', '.join(sorted(known))}, or null")
        return value


class Memory:
    """What the narratives share: the taxonomy, accepted utterances, and how often each label was written so far."""

    def __init__(self, config: Config) -> None:
        """Read the taxonomy and the templates, so that what is wrong with them is said before anything is asked."""
        self._embedder = config.embedder
        self.taxonomy = read_taxonomy(config.taxonomy)
        self.label_map = LabelMap(self.taxonomy, self.embed if config.unknown_labels == "map" else None)
        if config.unknown_labels == "map":
            _ = self.label_map.threshold  # what is wrong with it is said before anything is asked
        self.tally = Tally()
        self.accepted = {neutral: Accepted(config.max_cosine) for neutral in (False, True)}
        n_actors = config.n_actors if config.grounded else 1
        self.budget = Budget(self.taxonomy, config.n_wanted, n_actors * config.n_utterances)
        self.words = LabelWords(self.taxonomy)
        self.templates = Templates("emo_pillars", config.templates)
        self._positive_from = config.positive_from
        self._n_measured = config.n_measured
        self._measured: list[tuple[str, Example]] = []  # those with the least hashes, so that order says nothing

    def observe(self, rows: Sequence[Example]) -> None:
        """Count the labels of a narrative's utterances, and keep some of them to measure."""
        plain = [row for row in rows if row.family == "contextless"]
        self.budget.observe(name for row in plain for name in self._names(row))
        hashed = [(hashlib.sha256(row.id.encode()).hexdigest(), row) for row in plain]
        self._measured = heapq.nsmallest(self._n_measured, [*self._measured, *hashed], key=lambda one: one[0])

    def diversity(self) -> dict[str, Any] | None:
        """What `measure` says of `n_measured` utterances; None of fewer than two."""
        rows = [row for _, row in self._measured]
        if len(rows) < 2:
            return None
        texts = [row.text for row in rows]
        figures = measure(texts, list(map(self._names, rows)), self.embed(texts), taxonomy=self.taxonomy)
        return _rounded(figures)

    def _names(self, row: Example) -> list[str]:
        return [one["name"] for one in row.labels if one["weight"] >= self._positive_from]

    def embed(self, texts: Sequence[str]) -> Any:
        """(len(texts), E) float32 array of rows of length one."""
        from datagen.backends.embeddings import embed

        return embed(texts, self._embedder).numpy()

    def find_label(self, proposed: str) -> str | None:
        """The taxonomy's label that the proposed one is or, where such are mapped, is near to; noted for the table."""
        self.tally.add(found := self.label_map.match(proposed))
        return found.mapped_to


def identity(config: Config) -> dict[str, str]:
    """Of the taxonomy and the prompts."""
    templates = Templates("emo_pillars", config.templates)
    return {"taxonomy": read_taxonomy(config.taxonomy).revision, "templates": templates.revision}


def memory(config: Config) -> Memory:
    """What the narratives of a run share."""
    return Memory(config)


def closing(memory: Memory) -> tuple[dict[str, Sequence[LabelMapping]], dict[str, Any]]:
    """The table of what was proposed and how it was mapped; its figures, and how diverse the utterances are."""
    table = memory.tally.table()
    figures = {"label_map": summarise(memory.label_map, table), "labels": dict(sorted(memory.budget.counts.items()))}
    return {"label_map": table}, figures | {"diversity": memory.diversity()}


def _rounded(figures: Any) -> Any:
    """To four digits: what follows depends on the machine."""
    if isinstance(figures, dict):
        return {key: _rounded(value) for key, value in figures.items()}
    return round(figures, 4) if isinstance(figures, float) else figures


async def emo_pillars(config: Config, source: Document, flow: Flow) -> list[Example]:
    """Both rows of every utterance that is kept, in the order of actors and utterances."""
    shared: Memory = flow.memory
    wanted = shared.budget.ask()
    if len(source.text) > config.max_narrative_chars:
        raise Dropped(
            "narrative_too_long",
            f"{len(source.text)} characters, max_narrative_chars is {config.max_narrative_chars}; "
            "`datastill narratives --set cut=sections` cuts it",
        )
    actors = await _actors(config, source, flow) if config.grounded else [_nobody(source)]

    async def speak(actor: _steps.Actor) -> list[_steps.Utterance]:
        return await _utterances(config, source, actor, wanted, flow)

    spoken = await flow.each(actors, speak, id=lambda actor: actor.id)
    async with flow.turn():
        kept = _accept(config, [one for of_actor in spoken for one in of_actor], flow)
    by_id = {actor.id: actor for actor in actors}

    async def finish(utterance: _steps.Utterance) -> list[Example]:
        return await _examples(config, source, by_id[utterance.parent], utterance, flow)

    return [row for rows in await flow.each(kept, finish, id=lambda one: one.id) for row in rows]


async def _actors(config: Config, source: Document, flow: Flow) -> list[_steps.Actor]:
    asked = flow.memory.templates.ask("actors", {"story": source.text}, n_actors=config.n_actors)
    shape = _steps.actors_shape(config.n_actors, config.max_description_chars)
    answer: Any = await ask_for(shape, flow, "actors", source.id, asked)
    if not answer.actors:
        raise Dropped("no_actors", "the teacher named nobody who could speak")
    actors = [
        _steps.Actor(
            id=f"{source.id}/{i}",
            parent=source.id,
            name=" ".join(one.name.split()),
            description=" ".join(one.description.split()),
        )
        for i, one in enumerate(answer.actors)
    ]
    for actor in actors:
        flow.put("actors", actor)
    return actors


def _nobody(source: Document) -> _steps.Actor:
    return _steps.Actor(id=f"{source.id}/0", parent=source.id, name=NOBODY, description="")


async def _utterances(
    config: Config, source: Document, actor: _steps.Actor, wanted: Sequence[str], flow: Flow
) -> list[_steps.Utterance]:
    asked = flow.memory.templates.ask(
        "utterances" if config.grounded else "ungrounded",
        {"story": source.text, "description": actor.description},
        character=actor.name,
        n_felt=config.n_utterances,
        n_neutral=config.n_neutral,
        noun=config.noun,
        wanted=f", such as {', '.join(wanted)}" if wanted else "",
    )
    shape = _steps.utterances_shape(config.n_utterances, config.n_neutral, config.max_utterance_chars)
    answer: Any = await ask_for(shape, flow, "utterances", actor.id, asked)
    both = [(text, False) for text in answer.utterances] + [(text, True) for text in answer.neutral]
    flow.count("utterances.missing", config.n_utterances + config.n_neutral - len(both))
    if not both:
        raise Dropped("no_utterances", "the teacher wrote none")
    return [
        _steps.Utterance(id=f"{actor.id}/{i}", parent=actor.id, text=text, neutral=neutral, wanted=list(wanted))
        for i, (text, neutral) in enumerate(both)
    ]


def _accept(config: Config, spoken: Sequence[_steps.Utterance], flow: Flow) -> list[_steps.Utterance]:
    """Those of words, in the language, not too near an accepted one; felt and neutral ones are compared each apart."""
    shared: Memory = flow.memory
    readable: list[_steps.Utterance] = []
    for one in spoken:
        flow.put("utterances", one)
        n_words = len(_WORD.findall(one.text))
        if n_words < config.min_words:
            flow.reject(one.id, "too_few_words", f"{n_words} words, min_words is {config.min_words}: {one.text[:100]}")
        elif fault := _language_fault(config, one.text):
            flow.reject(one.id, "language", fault)
        else:
            readable.append(one)
    too_near: set[str] = set()
    for neutral, accepted in shared.accepted.items():
        of_kind = [one for one in readable if one.neutral == neutral]
        if not of_kind:
            continue
        vectors = shared.embed([one.text for one in of_kind]) if config.max_cosine < 1 else None
        found = accepted.accept_all([(one.id, one.text) for one in of_kind], vectors)
        for one, near in zip(of_kind, found, strict=True):
            if near:
                flow.reject(one.id, "near_duplicate", near)
                too_near.add(one.id)
    return [one for one in readable if one.id not in too_near]


def _language_fault(config: Config, text: str) -> str | None:
    if config.language is None or sum(map(str.isalpha, text)) < MIN_LETTERS:
        return None
    ranked = ranked_languages(text.lower())
    if dict(ranked)[config.language] >= 0.1:
        return None
    return f"{ranked[0][0]} at {ranked[0][1]:.2f}, {config.language} is wanted"


async def _examples(
    config: Config, source: Document, actor: _steps.Actor, utterance: _steps.Utterance, flow: Flow
) -> list[Example]:
    """The utterance, and where that succeeds its rewriting; what fails in that is a rejection of that row alone."""
    labels = await _labels(config, actor, utterance, flow) if config.labelled else []
    common: dict[str, Any] = {"labels": labels, "source": source.id, "teacher": flow.teacher}
    plain = Example(id=utterance.id, text=utterance.text, family="contextless", **common)
    if not (config.contextual and config.grounded and labels):
        return [plain]

    async def contextual(id: str) -> Example:
        context = await _context(config, source, actor, utterance, labels, flow)
        text = await _rewrite(config, actor, utterance, context, labels, flow)
        character = f"{actor.name}: {actor.description}"
        return Example(id=id, text=text, context=context, character=character, family="contextual", **common)

    return [plain, *await flow.each([f"{utterance.id}/contextual"], contextual, id=str)]


async def _labels(config: Config, actor: _steps.Actor, utterance: _steps.Utterance, flow: Flow) -> list[Label]:
    shared: Memory = flow.memory
    listed = [label.described if config.define_labels else label.name for label in shared.taxonomy.labels]
    asked = shared.templates.ask(
        "labels",
        {"utterance": utterance.text},
        character=actor.name,
        noun=config.noun,
        n_labels=config.n_labels,
        labels="\n".join(f"- {one}" for one in listed) if config.define_labels else ", ".join(listed),
    )
    answer: Any = await ask_for(_steps.labels_shape(config.n_labels), flow, "labels", utterance.id, asked)
    proposed = [Label(name=one.label, weight=round(one.expressiveness, 1)) for one in answer.labels]
    strongest: dict[str, float] = {}
    for one in proposed:
        name = shared.find_label(one["name"])
        if name is not None and one["weight"] > 0:
            strongest[name] = max(one["weight"], strongest.get(name, 0.0))
    labels = [Label(name=name, weight=strongest[name]) for name in shared.taxonomy.names if name in strongest]
    id = f"{utterance.id}/labels"
    flow.put("soft_labels", _steps.SoftLabels(id=id, parent=utterance.id, proposed=proposed, labels=labels))
    said = ", ".join(one["name"] for one in proposed)
    if not any(one["weight"] for one in proposed):
        raise Dropped("no_expressiveness", f"the teacher proposed {said}, and none of it expressed")
    if not labels:
        raise Dropped("no_label_of_the_taxonomy", f"the teacher proposed {said}")
    return labels


async def _context(
    config: Config,
    source: Document,
    actor: _steps.Actor,
    utterance: _steps.Utterance,
    labels: Sequence[Label],
    flow: Flow,
) -> str:
    """What happens before the utterance, without the sentences that name a label or give it away."""
    shared: Memory = flow.memory
    asked = shared.templates.ask("context", {"story": source.text, "utterance": utterance.text}, character=actor.name)
    shape = _steps.text_shape("context", config.max_context_chars)
    written: str = (await ask_for(shape, flow, "context", utterance.id, asked)).context  # pyright: ignore[reportAttributeAccessIssue]
    sentences = split_sentences(written)
    own = tuple(one["name"] for one in labels)
    unnamed = [one for one in sentences if not shared.words.named_in(one, own)]
    revealing: set[int] = set()
    if unnamed:
        numbered = "\n".join(f"{i}. {one}" for i, one in enumerate(unnamed, start=1))
        asked = shared.templates.ask("reveal", {"sentences": numbered}, character=actor.name)
        shape = _steps.numbers_shape(len(unnamed))
        answer: Any = await ask_for(shape, flow, "reveal", utterance.id, asked)
        revealing = {i - 1 for i in answer.sentences}
    text = " ".join(one for i, one in enumerate(unnamed) if i not in revealing)
    row = _steps.Context(
        id=f"{utterance.id}/context",
        parent=utterance.id,
        written=written,
        text=text,
        n_named=len(sentences) - len(unnamed),
        n_revealing=len(revealing),
    )
    flow.put("contexts", row)
    if not text:
        detail = f"every sentence names a label or was said to reveal it ({', '.join(own)})"
        raise Dropped("context_gives_label_away", detail)
    return text


async def _rewrite(
    config: Config,
    actor: _steps.Actor,
    utterance: _steps.Utterance,
    context: str,
    labels: Sequence[Label],
    flow: Flow,
) -> str:
    shared: Memory = flow.memory
    asked = shared.templates.ask(
        "rewrite",
        {"context": context, "utterance": utterance.text},
        character=actor.name,
        noun=config.noun,
        named=max(labels, key=lambda one: one["weight"])["name"],
    )
    shape = _steps.text_shape("utterance", config.max_utterance_chars)
    text: str = (await ask_for(shape, flow, "rewrite", utterance.id, asked)).utterance  # pyright: ignore[reportAttributeAccessIssue]
    flow.put("rewrites", _steps.Rewrite(id=f"{utterance.id}/rewrite", parent=utterance.id, text=text))
    if word := shared.words.named_in(text, tuple(one["name"] for one in labels)):
        raise Dropped("rewrite_names_label", f"{word!r} stands in it: {text[:200]}")
    if fault := _language_fault(config, text):
        raise Dropped("language", fault)
    return text
