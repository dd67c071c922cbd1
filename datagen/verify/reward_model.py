"""A reward model scores each answer: any transformers sequence classifier, by the chance that its logits stand for.

Ouyang et al. Training language models to follow instructions with human feedback. 2022. arXiv:2203.02155, section 3.5,
equation 1: of two answers the one with reward r is preferred to the one with r' with the chance sigmoid(r - r'), as in
Bradley and Terry (1952). Such models, e.g. Skywork-Reward (Liu et al. 2024, arXiv:2410.18451), have one logit, the
reward; the score here is sigmoid(r), the chance to be preferred to an answer of reward 0. Of a classifier with several
logits it is the softmax at `label`, or, where its config says multi_label_classification, the sigmoid there. A reward
is known up to a constant, so a sensible `threshold` belongs to the model and has no default.

A row is read in the tokenizer's chat template, or as a pair of texts. It is never cut: what is longer than `max_tokens`
is `unparsed`. Rows are taken in blocks, sorted by length and padded on the right behind a mask; where the model knows
no padding token, each is a batch of its own. In float32 a score depends on the batch by less than 1e-5.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal

from pydantic import Field

from datagen.backends.models import resolve_model
from datagen.backends.sequence_classifiers import load_classifier
from datagen.backends.transformers_models import TemplateError, chat_tokens, device_type, template_message
from datagen.contracts.errors import MissingError, ParamsError
from datagen.contracts.params import Params
from datagen.contracts.records import Status, Trace, Verdict

NAME = "reward_model"
BLOCK = 512  # rows that are sorted by length together


class Config(Params):
    """Which model, how it reads a row, and from which score on a row passes.

    Attributes:
        reward_model: a folder that transformers loads, or a hub name.
        revision: the Hub's commit, branch or tag; of a folder the hash of its files, or the start of it.
        layout: chat is the tokenizer's chat template, pair the prompt's and the answer's text as two segments.
        label: of several outputs the one whose chance is the score, as the model's config calls it.
        dtype: of the weights; scores are computed from the logits in float32.
        batch_size: rows at a time.
        max_tokens: of a row that is read.
        threshold: the score from which an answer passes, as of the stage.
    """

    method: Literal["reward_model"]
    reward_model: str
    revision: str = ""
    layout: Literal["chat", "pair"] = "chat"
    label: str = ""
    dtype: Literal["float32", "bfloat16"] = "float32"
    batch_size: int = Field(default=16, ge=1)
    max_tokens: int = Field(default=4096, ge=1)
    threshold: float = Field(ge=0, le=1)


def identity(config: Config) -> dict[str, Any]:
    """For the manifest: which model it was."""
    model = resolve_model(config.reward_model, config.revision)
    return {"model": model.name, "revision": model.revision}


def reward_model(config: Config, traces: Iterable[Trace]) -> Iterator[Verdict]:
    """Score each trace; `fail` is a `low_reward`.

    `unparsed` is an empty answer (`no_answer`) and a row of too many tokens (`too_long`); `error` a row without a
    prompt (`no_prompt`), one that the chat template refuses (`template`), and logits that are no numbers
    (`not_a_number`).

    Raises:
        MissingError: the model, its classification head, a chat template or the device is not there.
        ParamsError: `label` is none of the model's, or it has one output alone.
    """
    return _Classifier(config).judge(traces)


class _Classifier:
    """The loaded model."""

    def __init__(self, config: Config) -> None:
        model = resolve_model(config.reward_model, config.revision)
        network, self._tokenizer = load_classifier(f"reward_model {config.reward_model!r}", model.folder, config.dtype)
        if config.layout == "chat" and not self._tokenizer.chat_template:
            raise MissingError(f"reward_model {config.reward_model!r} has no chat template; set layout=pair")
        self._network = network.to(device_type()).eval()
        self._config = config
        self._label = _find_label(network.config, config.label)

    def judge(self, traces: Iterable[Trace]) -> Iterator[Verdict]:
        """One verdict a trace, in order, a block in memory at a time."""
        left = iter(traces)
        while block := list(islice(left, BLOCK)):
            read = [self._read(trace) for trace in block]
            scores = self._scores([one for one in read if isinstance(one, dict)])
            for trace, one in zip(block, read, strict=True):
                yield one if isinstance(one, Verdict) else self._verdict(trace, next(scores))

    def _read(self, trace: Trace) -> dict[str, list[int]] | Verdict:
        """The row's tokens, or why it has no score."""
        messages, config = trace.prompt.messages, self._config
        if not trace.completion.strip():
            return _without_score(trace, "unparsed", "no_answer", "the completion is empty")
        if not messages:
            return _without_score(trace, "error", "no_prompt", "the row has no prompt that its answer belongs to")
        if config.layout == "pair":
            texts = [message.get("content") or "" for message in messages]
            inputs = dict(self._tokenizer("\n\n".join(texts), trace.completion))
        else:
            turns = [*map(template_message, messages), {"role": "assistant", "content": trace.completion}]
            try:
                ids = chat_tokens(self._tokenizer, turns, None, add_generation_prompt=False)
            except TemplateError as error:
                return _without_score(trace, "error", "template", str(error))
            inputs = {"input_ids": ids, "attention_mask": [1] * len(ids)}
        if (n := len(inputs["input_ids"])) > config.max_tokens:
            return _without_score(trace, "unparsed", "too_long", f"{n} tokens, max_tokens is {config.max_tokens}")
        return inputs

    def _scores(self, rows: Sequence[dict[str, list[int]]]) -> Iterator[float]:
        """Of each row, in order."""
        scores = [0.0] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
        can_pad = self._network.config.get_text_config().pad_token_id is not None
        batch_size = self._config.batch_size if can_pad else 1
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            for i, score in zip(batch, self._batch_scores([rows[i] for i in batch]), strict=True):
                scores[i] = score
        return iter(scores)

    def _batch_scores(self, rows: Sequence[dict[str, list[int]]]) -> list[float]:
        import torch

        longest = max(len(row["input_ids"]) for row in rows)
        paddings = {"input_ids": self._network.config.get_text_config().pad_token_id or 0}
        inputs = {
            name: torch.tensor([row[name] + [paddings.get(name, 0)] * (longest - len(row[name])) for row in rows])
            for name in rows[0]
        }
        with torch.inference_mode():
            logits = self._network(**{name: ids.to(self._network.device) for name, ids in inputs.items()}).logits
        is_apart = logits.shape[1] == 1 or self._network.config.problem_type == "multi_label_classification"
        logits = logits.float()
        return (logits.sigmoid() if is_apart else logits.softmax(dim=-1))[:, self._label].tolist()

    def _verdict(self, trace: Trace, score: float) -> Verdict:
        if math.isnan(score):
            return _without_score(trace, "error", "not_a_number", "the model's logits are no numbers")
        passed = score >= self._config.threshold
        return Verdict(
            id=trace.id, method=NAME, status="pass" if passed else "fail", score=score,
            reason=None if passed else "low_reward", detail=f"score {score:.4g}, threshold {self._config.threshold:g}",
        )  # fmt: skip


def _find_label(config: Any, label: str) -> int:
    """Which output is the score."""
    names: dict[int, str] = config.id2label
    if len(names) == 1:
        if label:
            raise ParamsError(f"label: the reward model has one output, and none to name; leave it out (got {label!r})")
        return 0
    if label not in names.values():
        raise ParamsError(
            f"label: the reward model has the outputs {', '.join(names.values())}; name the one whose chance is the "
            f"score (got {label!r})"
        )
    return next(i for i, name in names.items() if name == label)


def _without_score(trace: Trace, status: Status, reason: str, detail: str) -> Verdict:
    return Verdict(id=trace.id, method=NAME, status=status, score=0.0, reason=reason, detail=detail)
