"""The local backend's decoding beside transformers' own `generate`: tokens a CPU second, in alternating pairs.

    python -m benchmarks.local [--out FILE.json] [--pairs N] [--prompts N] [--samples N]

Both decode the same prompts of the default profile with the default model in float32, one batch, one thread, at most
40 new tokens at temperature 0.5. Only tokens up to each answer's end count.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from datagen.backends.base import Sampling
from datagen.backends.decoding import decode_batch
from datagen.backends.models import EMBEDDED, resolve_model
from datagen.contracts.dataset import write_json
from datagen.prompts.instruction_families import Config, instruction_families

TEMPERATURE, MAX_NEW_TOKENS = 0.5, 40


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--samples", type=int, default=4)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    folder = resolve_model(EMBEDDED).folder
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    config = Config(method="instruction_families", n_prompts=options.prompts)
    rows = [
        tokenizer.apply_chat_template(prompt.messages, add_generation_prompt=True, return_dict=False)
        for prompt in instruction_families(config, Path("data/raw"))
        for _ in range(options.samples)
    ]
    end = tokenizer.eos_token_id
    decoders = {
        "datastill": lambda seed: _ours(model, rows, end, seed),
        "model.generate": lambda seed: _transformers(model, tokenizer, rows, end, seed),
    }
    rates: dict[str, list[float]] = {name: [] for name in decoders}
    for pair in range(options.pairs):
        for name, decode in decoders.items():
            rates[name].append(_rate(decode, pair))
    ours, theirs = (statistics.median(rates[name]) for name in decoders)
    ratio = statistics.median(a / b for a, b in zip(rates["datastill"], rates["model.generate"], strict=True))
    sys.stdout.write(f"tokens a CPU second, {len(rows)} rows, median of {options.pairs} pairs\n")
    sys.stdout.write(f"datastill {ours:.0f}, model.generate {theirs:.0f}, ratio {ratio:.2f}\n")
    if options.out:
        write_json(options.out, {"benchmark": "local", "rows": len(rows), "rates": rates, "ratio": ratio})


def _rate(decode: Callable[[int], int], seed: int) -> float:
    start = time.process_time()
    n_tokens = decode(seed)
    return n_tokens / (time.process_time() - start)


def _ours(model: Any, rows: Sequence[list[int]], end: int, seed: int) -> int:
    samplings = [
        Sampling(temperature=TEMPERATURE, max_new_tokens=MAX_NEW_TOKENS, seed=seed * len(rows) + i)
        for i in range(len(rows))
    ]
    found = decode_batch(model, rows, samplings, end_tokens={end}, is_stopped=lambda row, tokens: False)
    return sum(map(len, found))


def _transformers(model: Any, tokenizer: Any, rows: Sequence[list[int]], end: int, seed: int) -> int:
    torch.manual_seed(seed)
    batch = tokenizer.pad({"input_ids": list(rows)}, return_tensors="pt")
    output = model.generate(**batch, do_sample=True, temperature=TEMPERATURE, top_k=0, max_new_tokens=MAX_NEW_TOKENS)[
        :, batch.input_ids.shape[1] :
    ]
    return sum(row.index(end) + 1 if end in row else len(row) for row in output.tolist())


if __name__ == "__main__":
    main()
