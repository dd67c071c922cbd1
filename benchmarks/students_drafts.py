"""A draft for SmolLM2, trained by each objective on equal tokens: how much of what it proposes is kept.

    python -m benchmarks.students_drafts --data FOLDER [--seeds 0 1 2] [--steps 20] [--layers 4] [--out FILE.json]

FOLDER holds train.jsonl, rows with a `question` (GSM8K's). The target, SmolLM2-135M-Instruct, answers some of them at
temperature 1. The draft starts as a few of its layers, evenly spaced, and learns those answers: their tokens alone
(`supervised`), or what the target says at each of them. Every arm of a seed takes the same answers in the same order,
from the same start, at the same rate; a seed draws its answers from the pool and their order.

acceptance   sum min(p, q) at temperature 1, mean over the tokens of answers to other questions, drawn from the target
greedy       the share of those tokens where draft and target agree on the likeliest one

Intervals are Student's t over seeds. At the end `datastill evaluate_draft` runs the loop itself and assisted greedy
generation with the draft of one arm, the plain start beside it. What stays in --work is not made again.
"""

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from datagen.backends.models import EMBEDDED, resolve_model
from datagen.backends.transformers_models import Example, chat_tokens
from datagen.contracts.checkpoint import Checkpoints
from datagen.contracts.dataset import content_hash, write_json
from datagen.contracts.seeding import derive_seed

if TYPE_CHECKING:
    import torch

    from trainers.objectives import SumCount

ARMS = ("supervised", "forward_kl", "total_variation_pp", "negative_log_acceptance")
MOST_PROMPT_TOKENS, BATCH = 90, 40


@dataclass(frozen=True, slots=True)
class Text(Example):
    """A prompt and the target's answer, with the target's states before each token of the answer: (tokens, width)."""

    states: Any = None


class Parts(NamedTuple):
    """The target with its tokenizer; texts to learn from; those to be judged on, their questions and distributions."""

    target: Any
    tokenizer: Any
    pool: list[Text]
    held_out: list[Text]
    questions: list[str]
    p: "list[torch.Tensor]"


def main(argv: Sequence[str] | None = None) -> None:
    """Make texts, train every arm, evaluate, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl", metavar="FOLDER")
    parser.add_argument("--work", type=Path, default=Path(".cache/students_drafts"), help="folder for what is made")
    parser.add_argument("--target", default=EMBEDDED, help="name or folder (default: %(default)s)")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--texts-a-step", type=int, default=4)
    parser.add_argument("--layers", type=int, default=4, help="of the target's that the draft keeps")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16", help="of training alone")
    parser.add_argument("--pool", type=int, default=80, help="answers to learn from")
    parser.add_argument("--held-out", type=int, default=40, help="answers to be judged on")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer, at most")
    parser.add_argument("--loop-prompts", type=int, default=6, help="held-out prompts of evaluate_draft; 0: none")
    parser.add_argument("--loop-tokens", type=int, default=32, help="of each of its texts, at most")
    parser.add_argument("--loop-arm", default="negative_log_acceptance", choices=ARMS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    options.work.mkdir(parents=True, exist_ok=True)
    import torch

    torch.set_num_threads(1)
    parts = _parts(options)
    told = {"before": [_judged(options, parts, None)]}
    for seed in options.seeds:
        for arm in options.arms:
            told.setdefault(arm, []).append(_judged(options, parts, (arm, seed)))
            print(f"{arm} {seed}: acceptance {told[arm][-1]['acceptance']:.4f}", flush=True)
    cells = {name: _cell(name, told) for name in told}
    _show(cells)
    settings = {name: value for name, value in vars(options).items() if name not in ("data", "work", "out")}
    result: dict[str, Any] = {"benchmark": "students_drafts", "settings": settings, "cells": cells, "seeds": told}
    if options.loop_prompts:
        result["loop"] = _loop(options, parts)
        print(json.dumps(result["loop"], indent=1))
    if options.out:
        write_json(options.out, result)


def _parts(options: argparse.Namespace) -> Parts:
    """The pool and then the held-out texts, as the target wrote them, a file for each batch of prompts."""
    import torch

    from trainers.batches import collate
    from trainers.draft_models import load_models, load_tokenizer
    from trainers.language_models import head_of, hidden_states

    folder = resolve_model(options.target).folder
    tokenizer = load_tokenizer(folder)
    target = load_models({"target": folder}, "float32")["target"]
    lines = (options.data / "train.jsonl").read_text(encoding="utf-8").splitlines()
    questions: list[str] = [json.loads(line)["question"] for line in lines]
    random.Random(0).shuffle(questions)
    prompts: list[tuple[str, list[int]]] = []
    for question in questions:
        tokens = chat_tokens(tokenizer, [{"role": "user", "content": question}], None, add_generation_prompt=True)
        if len(tokens) <= MOST_PROMPT_TOKENS:
            prompts.append((question, tokens))
    n_texts = options.pool + options.held_out
    if len(prompts) < n_texts:
        raise SystemExit(
            f"{options.data}: {len(prompts)} questions of {MOST_PROMPT_TOKENS} tokens or fewer, not {n_texts}"
        )
    prompts = prompts[:n_texts]
    texts: list[Text] = []
    for start in range(0, n_texts, BATCH):
        mine = [tokens for _, tokens in prompts[start : start + BATCH]]
        file = options.work / f"texts-{_source(options)}-{options.tokens}-{start}-{len(mine)}.json"
        if not file.is_file():
            write_json(file, _answers(target, mine, options.tokens, derive_seed(0, start)))
        answers: list[list[int]] = json.loads(file.read_text())
        made = [Text([*prompt, *answer], len(prompt)) for prompt, answer in zip(mine, answers, strict=True)]
        kept = file.with_suffix(".pt")
        if not kept.is_file():
            with torch.inference_mode():
                torch.save(hidden_states(target, collate(made), shares_prompts=True), kept)
        states = torch.load(kept).split([len(text) - text.n_prompt_tokens for text in made])
        texts += [replace(text, states=one) for text, one in zip(made, states, strict=True)]
    pool, held_out = texts[: options.pool], texts[options.pool :]
    weight = head_of(target).weight.detach()
    asked = [question for question, _ in prompts[options.pool :]]
    return Parts(target, tokenizer, pool, held_out, asked, [(one.states @ weight.T).softmax(-1) for one in held_out])


def _judged(options: argparse.Namespace, parts: Parts, trained: tuple[str, int] | None) -> dict[str, Any]:
    """Figures of the start, or of what an arm and seed make of it; sums over the tokens of each text are among them."""
    import torch

    from trainers.batches import collate
    from trainers.drafts import acceptance
    from trainers.language_models import head_of, hidden_states

    folder = _folder(options, trained)
    file = folder / "figures.json"
    if file.is_file():
        return json.loads(file.read_text())
    draft = _trained(options, parts, trained)
    sums: list[tuple[int, float, int]] = []
    for text, p in zip(parts.held_out, parts.p, strict=True):
        with torch.inference_mode():
            q = (hidden_states(draft, collate([text])) @ head_of(draft).weight.T).softmax(dim=-1)
        agree = (p.argmax(dim=-1) == q.argmax(dim=-1)).sum()
        sums.append((len(p), float(acceptance(p, q).sum()), int(agree)))
    n = sum(size for size, _, _ in sums)
    learned = _drawn(options, parts, trained) if trained else []
    told = {
        "acceptance": sum(kept for _, kept, _ in sums) / n,
        "greedy": sum(same for _, _, same in sums) / n,
        "n_tokens": n,
        "n_learned": sum(text.n_completion_tokens for text in learned),
        "texts": sums,
    }
    folder.mkdir(parents=True, exist_ok=True)
    if trained in (None, (options.loop_arm, options.seeds[0])):
        draft.save_pretrained(folder / "draft")
        parts.tokenizer.save_pretrained(folder / "draft")
    write_json(file, told)
    return told


def _source(options: argparse.Namespace) -> str:
    """Names the target and the questions, so that others have texts and students of their own."""
    return f"{resolve_model(options.target).revision[:8]}-{content_hash(options.data / 'train.jsonl')[:8]}"


def _folder(options: argparse.Namespace, trained: tuple[str, int] | None) -> Path:
    sizes = f"{_source(options)}-{options.layers}-{options.pool}-{options.held_out}-{options.tokens}"
    if trained is None:
        return options.work / f"before-{sizes}"
    arm, seed = trained
    taught = f"{options.steps}-{options.texts_a_step}-{options.rate}-{options.precision}"
    return options.work / f"{arm}-{seed}-{sizes}-{taught}"


def _drawn(options: argparse.Namespace, parts: Parts, trained: tuple[str, int]) -> list[Text]:
    """The seed's texts: a part of the pool, or all of it where the steps take as many or more."""
    n = min(len(parts.pool), options.steps * options.texts_a_step)
    return random.Random(derive_seed(trained[1], "texts")).sample(parts.pool, n)


def _trained(options: argparse.Namespace, parts: Parts, trained: tuple[str, int] | None) -> Any:
    import torch

    from trainers import loop
    from trainers.batches import collate
    from trainers.language_models import StudentModel, head_of, keep_layers
    from trainers.linear_loss import linear_loss
    from trainers.signals import HiddenStates

    start = keep_layers(parts.target, options.layers)
    if trained is None:
        return start.eval()
    arm, seed = trained
    objective = getattr(import_module(f"trainers.objectives.{arm}"), arm)
    weight = head_of(parts.target).weight.detach()

    def loss(network: "torch.nn.Module", texts: Sequence[Text], device: "torch.device") -> "SumCount":
        batch: Any = collate(texts).to(device)
        states = torch.cat([text.states for text in texts]).to(device)
        signal: Any = batch.labels if arm == "supervised" else HiddenStates(states, weight)
        return network(batch, lambda hidden, head, bias: linear_loss(hidden, head, signal, objective, bias=bias))

    config = loop.Config.model_validate(
        {
            "steps": options.steps, "batch_size": options.texts_a_step, "micro_batch_tokens": 4096,
            "learning_rate": options.rate, "n_threads": 1, "seed": seed, "precision": options.precision,
        }
    )  # fmt: skip
    checkpoints = Checkpoints(_folder(options, trained) / "checkpoints")
    checkpoints.folder.mkdir(parents=True, exist_ok=True)

    def advance(record: Mapping[str, Any]) -> None:
        print(f"{arm} {seed}: step {record['step']} loss {record['loss']:.4f}", flush=True)

    loop.train(StudentModel(start), _drawn(options, parts, trained), loss, config, checkpoints, advance)
    checkpoints.clear()
    return start.eval()


def _cell(name: str, told: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """An arm's figures over seeds, its differences from supervised seed by seed, and how far it is above the start."""
    from trainers.comparison_figures import difference, mean_interval

    if name == "before":
        return {key: told[name][0][key] for key in ("acceptance", "greedy", "n_learned")}
    mine = [one["acceptance"] for one in told[name]]
    cell: dict[str, Any] = {
        "acceptance": mean_interval(mine)._asdict(),
        "greedy": mean_interval([one["greedy"] for one in told[name]])._asdict(),
        "n_learned": told[name][0]["n_learned"],
    }
    start = told["before"][0]["acceptance"]
    cell["relative"] = mean_interval([one / start - 1 for one in mine])._asdict()
    if "supervised" in told:
        cell["over_supervised"] = difference(mine, [one["acceptance"] for one in told["supervised"]])._asdict()
    return cell


def _show(cells: Mapping[str, Mapping[str, Any]]) -> None:
    """A line an arm; intervals in brackets."""
    names = ("acceptance", "greedy", "relative", "over_supervised", "n_learned")
    print("".join(f"{name:>26}" for name in ("arm", *names)))
    for arm, cell in cells.items():
        print(f"{arm:>26}" + "".join(f"{_shown(cell.get(name, '')):>26}" for name in names), flush=True)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _loop(options: argparse.Namespace, parts: Parts) -> dict[str, Any]:
    """The metrics of evaluate_draft and the seconds of its greedy texts."""
    from datagen.contracts.stage import main as run_stage
    from trainers.stages.evaluate_draft import STAGE

    draft, before = (_folder(options, of) for of in ((options.loop_arm, options.seeds[0]), None))
    out = draft / f"evaluation-{options.loop_prompts}-{options.loop_tokens}"
    metrics = out.with_suffix(".json")
    if not metrics.is_file():
        data = options.work / "held_out.jsonl"
        data.write_text("".join(json.dumps({"prompt": one}) + "\n" for one in parts.questions[: options.loop_prompts]))
        files = {
            "draft": draft / "draft",
            "before": before / "draft",
            "target": resolve_model(options.target).folder,
            "data": data,
            "out": out,
            "metrics": metrics,
        }
        given = [word for name, path in files.items() for word in (f"--{name}", str(path))]
        if run_stage(STAGE, [*given, "--set", "n_threads=1", f"max_new_tokens={options.loop_tokens}"]):
            raise SystemExit("evaluate_draft refused the draft; what it said stands above")
    facts = json.loads(out.with_suffix(".run.json").read_text())
    return json.loads(metrics.read_text()) | {name: facts[name] for name in facts if name.startswith("greedy_")}


def _answers(model: Any, prompts: Sequence[list[int]], n_tokens: int, seed: int) -> list[list[int]]:
    """An answer at temperature 1 to each prompt, up to its end token or `n_tokens`."""
    import torch

    end = model.generation_config.eos_token_id
    width = max(map(len, prompts))
    tokens = torch.tensor([[end] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    torch.manual_seed(seed)
    written = model.generate(
        input_ids=tokens, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
        max_new_tokens=n_tokens, pad_token_id=end,
    )[:, width:].tolist()  # fmt: skip
    return [row[: row.index(end) + 1] if end in row else row for row in written]


if __name__ == "__main__":
    main()
