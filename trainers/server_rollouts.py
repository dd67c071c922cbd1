"""Answers of a student to prompts, by a vLLM server that takes the student's weights before each step that draws.

Source: vLLM's OpenAI-compatible server, started with $VLLM_SERVER_DEV_MODE=1: POST /v1/completions with tokens as the
prompt, and its routes /collective_rpc, by which `reload_weights` reads them from a folder that both sides see, and
/reset_prefix_cache, as keys and values of the former weights are of no use.

A draw has a seed of its own, yet its logits are rounded by who shares the server's batch: a run that was killed goes on
with the same weights, and may draw other answers from there on.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from datagen.contracts.errors import BackendError, DataError
from datagen.contracts.stage import DEFAULT_CONCURRENCY
from trainers.language_models import StudentModel, causal
from trainers.model_server import Server

if TYPE_CHECKING:
    from trainers.on_policy import Config


def sample_on_server(
    network: nn.Module,
    prompts: Sequence[list[int]],
    seeds: Sequence[int],
    config: "Config",
    ends: frozenset[int],
    context: int,
    folder: Path,
) -> list[tuple[list[int], float]]:
    """As `trainers.sampling.sample`, but that the second number is minus the log-probs of the tokens drawn.

    Its mean is the entropy's at temperature 1, and a cross-entropy at another one.

    Args:
        network: a `StudentModel` or a model of transformers, of the architecture that the server was started with.
        prompts: tokens, at least one each.
        seeds: of each prompt's draws.
        config: of the rollouts, with `rollout_url` and `rollout_served_as`.
        ends: tokens that end an answer.
        context: positions that student and teacher have.
        folder: gets the weights; the server must be able to read it.

    Raises:
        BackendError: the server is not there, not vLLM, not in that mode, or refuses the weights or a prompt.
        DataError: a prompt leaves no position to answer in.
    """
    if (longest := max(map(len, prompts))) >= context:
        raise DataError(f"a prompt of {longest} tokens leaves no room for an answer in a context of {context}")
    found: list[Any] = [None]
    if _is_main():
        try:
            _hand_over(network, config, folder)
            found = [_answers(prompts, seeds, config, ends, context)]
        except BackendError as error:  # raised in every process, or the others would wait
            found = [error]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.broadcast_object_list(found, src=0)
    if isinstance(found[0], BackendError):
        raise found[0]
    return found[0]


def _answers(
    prompts: Sequence[list[int]], seeds: Sequence[int], config: "Config", ends: frozenset[int], context: int
) -> list[tuple[list[int], float]]:
    server = Server()

    def answer(job: tuple[list[int], int]) -> tuple[list[int], float]:
        return _answer(server, *job, config, ends, context)

    with ThreadPoolExecutor(int(os.environ.get("DATASTILL_CONCURRENCY", DEFAULT_CONCURRENCY))) as pool:
        return list(pool.map(answer, zip(prompts, seeds, strict=True)))


def _hand_over(network: nn.Module, config: "Config", folder: Path) -> None:
    """Write the weights and have the server read them."""
    model: Any = causal(network.model if isinstance(network, StudentModel) else network)
    model.save_pretrained(folder)
    assert config.rollout_url is not None
    root, server = config.rollout_url.removesuffix("/v1"), Server()
    try:
        kwargs = {"weights_path": str(folder.resolve())}
        server.post(f"{root}/collective_rpc", {"method": "reload_weights", "kwargs": kwargs})
        server.post(f"{root}/reset_prefix_cache", {})
    except BackendError as error:
        raise BackendError(
            f"{error}; start vLLM with VLLM_SERVER_DEV_MODE=1 on the student's folder, where it can read {folder}"
        ) from None


def _answer(
    server: Server, prompt: list[int], seed: int, config: "Config", ends: frozenset[int], context: int
) -> tuple[list[int], float]:
    url = f"{config.rollout_url}/completions"
    body = {
        "model": config.rollout_served_as, "prompt": prompt, "seed": seed % 2**63, "logprobs": 0,
        "max_tokens": min(config.rollout_tokens, context - len(prompt)), "temperature": config.rollout_temperature,
        "top_p": config.rollout_top_p, "stop_token_ids": sorted(ends), "ignore_eos": True, "return_token_ids": True,
        # What is left out a server takes from the model's generation_config.json.
        "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
    }  # fmt: skip
    reply = server.post(url, body)
    try:
        choice = reply["choices"][0]
        tokens, log_probs = list(choice["token_ids"]), list(choice["logprobs"]["token_logprobs"])
        return tokens, -sum(map(float, log_probs[: len(tokens)]))
    except (KeyError, IndexError, TypeError, ValueError):
        raise BackendError(f"{url}: its reply has no token_ids with log-probs; the server must be vLLM") from None


def _is_main() -> bool:
    is_several = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not is_several or torch.distributed.get_rank() == 0
