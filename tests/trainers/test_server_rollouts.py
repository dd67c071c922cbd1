"""Oracles: the likeliest tokens of a table, followed by hand; what the server was asked, in order."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from datagen.contracts.errors import BackendError, DataError
from tests.bigram import bigram_model
from tests.drawing_server import Drawing, drawing
from trainers.on_policy import Config
from trainers.server_rollouts import sample_on_server


def table(seed: int) -> Tensor:
    return 1.5 * torch.randn(8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def server() -> Iterator[Drawing]:
    """Of other weights than the student's."""
    with drawing(bigram_model(table(1))) as found:
        yield found


def config(server: Drawing, tokens: int = 5) -> Config:
    return Config(rollout_url=server.base_url, rollout_served_as="student", rollout_tokens=tokens)


def followed(logits: Tensor, last: int, ends: frozenset[int], most: int) -> tuple[list[int], float]:
    """The likeliest token after each, and minus the sum of the log-probs."""
    answer, spent = list[int](), 0.0
    while len(answer) < most and not (answer and answer[-1] in ends):
        log_p = logits[answer[-1] if answer else last].log_softmax(-1)
        answer.append(int(log_p.argmax()))
        spent -= float(log_p.max())
    return answer, spent


def test_the_server_draws_with_the_weights_of_now(server: Drawing, tmp_path: Path):
    """Of two students, one after the other; ends stop an answer, and the context bounds it."""
    prompts, ends = [[1], [2, 3, 4], [5, 6], [3] * 10], frozenset({6})
    for seed in (2, 3):
        student, logits = bigram_model(table(seed)), table(seed)
        found = sample_on_server(student, prompts, [7, 8, 9, 10], config(server), ends, 13, tmp_path)
        for prompt, (answer, spent) in zip(prompts, found, strict=True):
            wanted, wanted_spent = followed(logits, prompt[-1], ends, min(5, 13 - len(prompt)))
            assert answer == wanted
            assert spent == pytest.approx(wanted_spent, rel=1e-6)
    routes = [route for route, _ in server.log]
    assert routes == ["/collective_rpc", "/reset_prefix_cache", *["/v1/completions"] * 4] * 2
    plain = {"top_k": -1, "min_p": 0, "repetition_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0}
    assert all(body.items() >= plain.items() for route, body in server.log if route == "/v1/completions")
    asked = sorted((body["seed"], len(body["prompt"])) for route, body in server.log[:6] if route == "/v1/completions")
    assert asked == [(7, 1), (8, 3), (9, 2), (10, 10)]


def test_a_server_that_takes_no_weights(server: Drawing, tmp_path: Path):
    server.in_dev_mode = False
    with pytest.raises(BackendError, match=r"collective_rpc: status 404.*start vLLM with VLLM_SERVER_DEV_MODE=1"):
        sample_on_server(bigram_model(table(2)), [[1]], [0], config(server), frozenset(), 99, tmp_path)


def test_a_prompt_that_fills_the_context_is_not_asked(server: Drawing, tmp_path: Path):
    with pytest.raises(DataError, match="a prompt of 6 tokens leaves no room for an answer in a context of 6"):
        sample_on_server(bigram_model(table(2)), [[1] * 6], [0], config(server), frozenset(), 6, tmp_path)
    assert server.log == []


def test_url_and_name_go_together():
    with pytest.raises(ValueError, match="rollout_url and rollout_served_as, the model's name on that server, go tog"):
        Config(rollout_url="http://127.0.0.1:1/v1")
    with pytest.raises(ValueError, match="expected a URL"):
        Config(rollout_url="nowhere", rollout_served_as="x")
