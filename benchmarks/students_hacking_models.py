"""Teacher hacking among small language models of bytes: who leaves the oracle, and whether the detector sees it.

    python -m benchmarks.students_hacking_models --data FOLDER [--seeds 3] [--steps 1500] [--out FILE.json]

FOLDER holds NAME.jsonl.gz, rows `{"text": ...}`. An oracle (Llama of 2 layers) learns the texts' bytes; a teacher, half
as wide, learns texts that the oracle wrote; a student as wide as the teacher learns the teacher's distributions over
responses that the teacher wrote to prompts, which are the beginnings of texts (Tiapkin et al. 2025, arXiv:2502.02671).
Distances are KL divergences in nats a byte, over all 256 at each place of responses to held-out prompts that the judge
wrote itself: golden of the oracle, proxy of the teacher. The table has the columns of benchmarks.students_hacking.
A seed has its own teacher, students and draws; the oracle and the held-out prompts are the same for all.
"""

import argparse
import gzip
import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.students_hacking import HEAD, row
from datagen.contracts.dataset import write_json
from datagen.contracts.seeding import derive_seed
from trainers.hacking.figures import of_run, of_runs
from trainers.hacking.setting import THRESHOLD
from trainers.hacking.tabular import Point

PROMPT, RESPONSE, VOCABULARY = 16, 32, 256  # bytes
BATCH = 32
SETTINGS: Mapping[str, Mapping[str, int]] = {  # prompts, and steps between two draws of the kind named; 0: never
    "20 prompts": {"n_prompts": 20},
    "20 prompts, fresh responses": {"n_prompts": 20, "responses_every": 5},
    "1000 prompts": {"n_prompts": 1000},
    "20 fresh prompts every 5 steps": {"n_prompts": 20, "prompts_every": 5},
}
N_POINTS = 40  # of a curve, evenly spaced in the logarithm of the step


def main(argv: Sequence[str] | None = None) -> None:
    """Train every setting's students, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of *.jsonl.gz")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500, help="of a student")
    parser.add_argument("--oracle-steps", type=int, default=3000)
    parser.add_argument("--teacher-steps", type=int, default=600)
    parser.add_argument("--teacher-texts", type=int, default=2000, help="of the oracle, that a teacher learns")
    parser.add_argument("--width", type=int, default=64, help="of student and teacher; the oracle's is twice that")
    parser.add_argument("--held-out", type=int, default=200, help="prompts")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    texts = read(options.data)
    oracle = network(2 * options.width, seed=0)
    loss = learn(oracle, batches(texts, seed=0), options.oracle_steps, options.learning_rate)
    print(f"oracle: {loss:.3f} nats a byte after {options.oracle_steps} steps")
    prompts = torch.stack(texts)[:, :PROMPT].unique(dim=0)
    prompts = prompts[torch.randperm(len(prompts), generator=torch.Generator().manual_seed(0))]
    held_out, prompts = prompts[: options.held_out], prompts[options.held_out :]
    curves: dict[str, list[list[Point]]] = {name: [] for name in SETTINGS}
    seconds = dict.fromkeys(SETTINGS, 0.0)
    for seed in range(options.seeds):
        teacher = network(options.width, seed=derive_seed(seed, "teacher"))
        begun = torch.Generator().manual_seed(derive_seed(seed, "texts of the teacher"))
        chosen = prompts[torch.randint(len(prompts), (options.teacher_texts,), generator=begun)]
        loss = learn(
            teacher, batches(list(respond(oracle, chosen, begun)), seed), options.teacher_steps, options.learning_rate
        )
        judges = [(one, respond(one, held_out, begun)) for one in (teacher, oracle)]
        print(f"teacher {seed}: {loss:.3f} nats a byte of the oracle's texts", flush=True)
        for name, setting in SETTINGS.items():
            start = time.process_time()
            student = network(options.width, seed=derive_seed(seed, "student"))
            curves[name].append(curve(student, teacher, judges, prompts, options, seed, **setting))
            seconds[name] += time.process_time() - start
    print(HEAD)
    settings: dict[str, Any] = {}
    for name, mine in curves.items():
        runs = [of_run(one, THRESHOLD) for one in mine]
        settings[name] = {"params": SETTINGS[name], **of_runs(runs), "cpu_s": round(seconds[name], 1), "runs": runs}
        print(row(name, settings[name]), flush=True)
    if options.out:
        stated = {name: value for name, value in vars(options).items() if name not in ("data", "out")}
        write_json(options.out, {
            "benchmark": "students_hacking_models", "params": stated, "threshold": THRESHOLD, "settings": settings,
            "curves": {name: [[point._asdict() for point in one] for one in mine] for name, mine in curves.items()},
        })  # fmt: skip


def read(folder: Path) -> list[torch.Tensor]:
    """(48,) bytes each: pieces of all texts, in an order of seed 0."""
    found: list[torch.Tensor] = []
    size = PROMPT + RESPONSE
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                text = json.loads(line)["text"].encode()
                found += [torch.tensor(list(text[at : at + size])) for at in range(0, len(text) - size, size)]
    random.Random(0).shuffle(found)
    return found


def network(width: int, seed: int) -> LlamaForCausalLM:
    """Two layers with random weights."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=PROMPT + RESPONSE,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=None,
    ))  # fmt: skip


def batches(texts: Sequence[torch.Tensor], seed: int) -> Iterator[torch.Tensor]:
    """(32, 48) of texts, pass after pass."""
    order = random.Random(derive_seed(seed, "batches"))
    while True:
        mine = list(range(len(texts)))
        order.shuffle(mine)
        for at in range(0, len(mine) - BATCH + 1, BATCH):
            yield torch.stack([texts[i] for i in mine[at : at + BATCH]])


def learn(model: LlamaForCausalLM, texts: Iterator[torch.Tensor], n_steps: int, rate: float) -> float:
    """Train on bytes; the mean loss of the last 50 steps, in nats a byte."""
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.0)
    losses: list[float] = []
    for _ in range(n_steps):
        batch = next(texts)
        loss = cross_entropy(model(batch[:, :-1]).logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return sum(losses[-50:]) / len(losses[-50:])


@torch.no_grad()
def respond(model: LlamaForCausalLM, prompts: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(P, 48): each of (P, 16) prompts with a response of the model's at temperature 1."""
    found = prompts
    cache: Any = None
    for _ in range(RESPONSE):
        said: Any = model(found if cache is None else found[:, -1:], past_key_values=cache, use_cache=True)
        cache = said.past_key_values
        following = torch.multinomial(said.logits[:, -1].softmax(-1), 1, generator=generator)
        found = torch.cat([found, following], dim=1)
    return found


def log_probs(model: LlamaForCausalLM, texts: torch.Tensor) -> torch.Tensor:
    """(P, 32, 256): of each byte of the responses."""
    return model(texts[:, :-1]).logits[:, PROMPT - 1 :].log_softmax(-1)


def divergence(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """KL(p || q) in nats a byte, the mean over all places."""
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


def curve(
    student: LlamaForCausalLM,
    teacher: LlamaForCausalLM,
    judges: Sequence[tuple[LlamaForCausalLM, torch.Tensor]],
    prompts: torch.Tensor,
    options: argparse.Namespace,
    seed: int,
    n_prompts: int,
    responses_every: int = 0,
    prompts_every: int = 0,
) -> list[Point]:
    """Distill; distances at step 0 and at steps evenly spaced in their logarithm."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "data"))
    prompts = prompts[torch.randperm(len(prompts), generator=generator)]
    queue = iter(prompts.split(n_prompts))
    chosen = next(queue)
    texts = respond(teacher, chosen, generator)
    optimizer = torch.optim.AdamW(student.parameters(), options.learning_rate, weight_decay=0.0)
    with torch.no_grad():
        sides = [(log_probs(judge, held), held) for judge, held in judges]
    shown = {0, *(round(options.steps ** (i / (N_POINTS - 1))) for i in range(N_POINTS))}
    points: list[Point] = []
    for step in range(options.steps + 1):
        if step and responses_every and step % responses_every == 0:
            texts = respond(teacher, chosen, generator)
        if step and prompts_every and step % prompts_every == 0:
            texts = respond(teacher, next(queue), generator)
        batch = texts[torch.randperm(len(texts), generator=generator)[:BATCH]]
        with torch.no_grad():
            log_p = log_probs(teacher, batch)
        loss = divergence(log_p, log_probs(student, batch))
        if step in shown:
            with torch.no_grad():
                proxy, golden = (float(divergence(said, log_probs(student, held))) for said, held in sides)
                learned = float(divergence(log_probs(teacher, texts[:200]), log_probs(student, texts[:200])))
            points.append(Point(step, learned, proxy, golden))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return points


if __name__ == "__main__":
    main()
