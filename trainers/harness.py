"""The same questions by EleutherAI's LM Evaluation Harness, as a check on our own figures.

Gao et al. A framework for few-shot language model evaluation. https://doi.org/10.5281/zenodo.10256836. The task is its
`gsm8k` without examples: chat template, greedy, the last number of the answer (its filter `flexible-extract`).
"""

import json
import re
import tempfile
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from datagen.contracts.errors import MissingError, ParamsError
from datagen.contracts.records import Prompt
from datagen.verify.answers import find_reference

TASK = "datastill_gsm8k"
FILTER = "flexible-extract"
_NUMBER = re.compile(r"-?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")  # what the filter takes whole


def check_harness() -> None:
    """Fail before any work where the harness is not installed.

    Raises:
        MissingError: with the command that installs it.
    """
    if find_spec("lm_eval") is None:
        raise MissingError("harness=lm_eval needs the package lm-eval: `pip install lm-eval`, or set harness=none")


def answerable(prompts: Sequence[Prompt]) -> list[int]:
    """Positions of the prompts that the harness can judge: one user turn whose reference is a number, no constraints.

    Raises:
        ParamsError: there is none.
    """
    positions = [
        i for i, prompt in enumerate(prompts)
        if prompt.reference is not None and _NUMBER.fullmatch(find_reference(prompt.reference))
        and not prompt.constraints and len(prompt.messages) == 1
    ]  # fmt: skip
    if not positions:
        raise ParamsError("harness=lm_eval: no prompt has a number as its reference; add some, or set harness=none")
    return positions


def load(student: Path, *, device: str, dtype: str, batch_size: int) -> Any:
    """The model in the folder `student`, as the harness asks it."""
    models: Any = import_module("lm_eval.models.huggingface")  # optional, and its types are wrong
    return models.HFLM(pretrained=str(student), device=device, dtype=dtype, batch_size=batch_size)


def lm_eval_scores(model: Any, prompts: Sequence[Prompt], *, max_new_tokens: int) -> list[float]:
    """1 or 0 for each of the `answerable` prompts, in order; `model` is any of the harness's models."""
    evaluator: Any = import_module("lm_eval.evaluator")
    with tempfile.TemporaryDirectory(prefix="datastill-harness-") as folder:
        file = Path(folder, "rows.jsonl")
        rows = [{"prompt": prompt.text, "reference": find_reference(prompt.reference or "")} for prompt in prompts]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        results = evaluator.simple_evaluate(
            model=model, tasks=[_task(file, folder, max_new_tokens)], apply_chat_template=True, log_samples=True
        )
    scores = {row["doc_id"]: float(row["exact_match"]) for row in results["samples"][TASK]}
    return [scores[i] for i in range(len(prompts))]


def _task(file: Path, cache: str, max_new_tokens: int) -> dict[str, Any]:
    return {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": cache},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{reference}}",
        "generation_kwargs": {"until": [], "do_sample": False, "temperature": 0.0, "max_gen_toks": max_new_tokens},
        "filter_list": [
            {
                "name": FILTER,
                "filter": [
                    {"function": "regex", "group_select": -1, "regex_pattern": r"(-?[$0-9.,]{2,})|(-?[0-9]+)"},
                    {"function": "take_first"},
                ],
            }
        ],
        "metric_list": [
            {
                "metric": "exact_match",
                "aggregation": "mean",
                "higher_is_better": True,
                "ignore_case": True,
                "ignore_punctuation": False,
                "regexes_to_ignore": [",", r"\$", r"(?s).*#### ", r"\.$"],
            }
        ],
    }
