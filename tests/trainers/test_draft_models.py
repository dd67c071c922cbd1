"""Oracles: the network's own passes without a cache; transformers' greedy generation; sums by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.tiny_model import write_tiny_model
from trainers.draft_models import WAYS, NextTokensOf, acceptances, gap, greedy, load_models
from trainers.drafts import speculate, standard_errors
from trainers.language_models import keep_layers

PROMPT = [10, 20, 30]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("target"), ends=False)


@pytest.fixture(scope="module")
def target(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()


@pytest.fixture(scope="module")
def draft(target: Any) -> Any:
    """The target with noise on its weights."""
    model: Any = keep_layers(target, 2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    return model.eval()


def plain(model: Any, tokens: list[int], temperature: float) -> torch.Tensor:
    """Distributions after every prefix, one pass, no cache."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
    return (logits / temperature).softmax(dim=-1)


def test_a_cache_changes_nothing(target: Any):
    """Whatever is asked in whatever order: longer, cut back and changed, the same again, another text."""
    next_tokens = NextTokensOf(target, 0.7)
    for tokens, n in (
        ([1, 2, 3], 1), ([1, 2, 3, 4, 5, 6], 3), ([1, 2, 3, 4, 9], 2), ([1, 2, 3, 4, 9], 2), ([1, 2], 1), ([7, 8], 2),
    ):  # fmt: skip
        torch.testing.assert_close(next_tokens(tokens, n), plain(target, tokens, 0.7)[-n:], rtol=1e-9, atol=1e-12)


def test_a_vocabulary_is_cut(target: Any):
    got = NextTokensOf(target, 1.0, width=100)([1, 2], 1)[0]
    wanted = plain(target, [1, 2], 1.0)[-1, :100]
    torch.testing.assert_close(got, wanted / wanted.sum())


def test_acceptances_by_hand(target: Any, draft: Any):
    text = [*PROMPT, 40, 50]
    p, q = plain(target, text, 1.0), plain(draft, text, 1.0)
    wanted = [sum(min(a, b) for a, b in zip(p[i].tolist(), q[i].tolist(), strict=True)) for i in (2, 3)]
    of_draft, of_target = acceptances(target, [draft, target], text, 3, 1.0).tolist()
    assert of_draft == pytest.approx(wanted) and of_target == pytest.approx([1, 1])
    assert 0.1 < min(wanted) < 0.9


def test_the_loop_over_networks(target: Any, draft: Any):
    """Its own sum min(p, q) at each judged place is the one of a pass over the text; the number kept agrees."""
    generator = torch.Generator().manual_seed(1)
    p, q = NextTokensOf(target, 1.0), NextTokensOf(draft, 1.0)
    run = speculate(p, q, PROMPT, n_drafted=3, n_tokens=300, generator=generator)
    every = acceptances(target, [draft], [*PROMPT, *run.tokens], 3, 1.0)[0].tolist()
    place, wanted, judged = 0, list[float](), iter(run.accepted)
    for _ in range(run.n_passes):
        for drafted in range(3):
            wanted.append(every[place + drafted])
            if not next(judged):
                break
        else:
            drafted = 3
        place += drafted + 1
    assert place == len(run.tokens)
    assert run.expected == pytest.approx(wanted, rel=1e-9)
    assert abs(standard_errors(sum(run.accepted), sum(run.expected), run.variance)) < 3


@pytest.mark.parametrize("way", WAYS)
def test_greedy_texts_are_the_target_s_own(way: str, target: Any, draft: Any):
    """Oracle: argmax after argmax by passes without a cache. A good draft saves passes; alone each token is one."""
    tokens = list(PROMPT)
    for _ in range(20):
        tokens.append(int(plain(target, tokens, 1.0)[-1].argmax()))
    found = greedy(target, PROMPT, way, draft=draft, n_drafted=4, n_tokens=20, pad_token=2, tokenizer=None)
    assert found.tokens == tokens[3:] and found.seconds > 0
    assert found.n_passes < 20 if way == "draft" else found.n_passes <= 20
    assert gap(target, PROMPT, found.tokens, tokens[3:]) == 0


def test_a_draft_with_a_padded_head(target: Any, draft: Any, folder: Path):
    wider = keep_layers(draft, 2)
    wider.resize_token_embeddings(300)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    own = greedy(target, PROMPT, "alone", draft=None, n_drafted=4, n_tokens=12, pad_token=2, tokenizer=tokenizer)
    found = greedy(target, PROMPT, "draft", draft=wider, n_drafted=4, n_tokens=12, pad_token=2, tokenizer=tokenizer)
    assert found.tokens == own.tokens


def test_the_gap_of_another_token(target: Any):
    """The difference of two logits, by hand; a text that is but a start has none."""
    own = [int(plain(target, PROMPT, 1.0)[-1].argmax()), 5]
    other = [(own[0] + 1) % 200, 5]
    row = plain(target, PROMPT, 1.0)[-1].log()
    assert gap(target, PROMPT, other, own) == pytest.approx(float(row[own[0]] - row[other[0]]))
    assert gap(target, PROMPT, own[:1], own) == float("inf")


def test_models_are_loaded_as_told(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATASTILL_DEVICE", "cpu")
    model = load_models({"target": folder}, "bfloat16")["target"]
    assert model.dtype == torch.bfloat16 and not model.training and model.device.type == "cpu"
