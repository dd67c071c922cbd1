"""Log-probs of chunks; oracles: a distribution over texts, summed over all of them; torch's log_softmax."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from tests.tiny_tokenizers import trained
from trainers.chunk_likelihoods import ChunkSignal, chunk_log_probs, chunk_signal, log_probs_of_hidden
from trainers.tokenizer_bias import Span, Tokens, pieces

WORDS = ("the", "then", "there", "other", "th")
TEXTS = [" ".join(words) for n in (1, 2, 3) for words in itertools.product(WORDS, repeat=n)]
WEIGHTS = [1 + (7 * i) % 11 for i in range(len(TEXTS))]
WIDE, NARROW = trained(300), trained(256)


def tokens_of(tokenizer: Any, text: str) -> list[int]:
    return [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]


def exact_model(tokenizer: Any, text: str, tokens: Tokens) -> tuple[torch.Tensor, torch.Tensor]:
    """The log-probs of a text's tokens, and of any token that starts a word there, under the distribution of TEXTS."""
    every = [(tokens_of(tokenizer, one), weight) for one, weight in zip(TEXTS, WEIGHTS, strict=True)]
    path, starting = tokens_of(tokenizer, text), set(tokens.starting_words)
    chosen, words = list[float](), list[float]()
    for i, token in enumerate(path):
        following = [(one[i], weight) for one, weight in every if one[:i] == path[:i]]
        total = sum(weight for _, weight in following)
        chosen.append(math.log(sum(weight for one, weight in following if one == token) / total))
        mass = sum(weight for one, weight in following if one in starting)
        words.append(math.log(mass / total) if mass else -math.inf)
    return torch.tensor(chosen, dtype=torch.float64), torch.tensor(words, dtype=torch.float64)


def of_spans(tokens: Sequence[int], spans: Sequence[Span], which: Tokens) -> ChunkSignal:
    return chunk_signal([(tokens, spans)], None, which.starting_words)


@pytest.mark.parametrize("text", ["there the then", "th other", "then"])
def test_exact_models_of_one_distribution_agree(text: str):
    """However subwords are cut: the likelihoods of words that end are those of bytes; together they are the text's."""
    of_wide, of_narrow = (
        Tokens.of(one, [one.eos_token_id], [tokens_of(one, text) for text in TEXTS]) for one in (WIDE, NARROW)
    )
    first, second = tokens_of(WIDE, text), tokens_of(NARROW, text)
    found = pieces(first, second, of_wide, of_narrow, bound=0.0)
    assert any(piece.first.ends_word for piece in found)
    exact = exact_model(WIDE, text, of_wide), exact_model(NARROW, text, of_narrow)
    wide = chunk_log_probs(*exact[0], of_spans(first, [piece.first for piece in found], of_wide))
    narrow = chunk_log_probs(*exact[1], of_spans(second, [piece.second for piece in found], of_narrow))
    torch.testing.assert_close(wide, narrow, rtol=0, atol=1e-12)
    assert wide.sum().item() == pytest.approx(math.log(WEIGHTS[TEXTS.index(text)] / sum(WEIGHTS)), abs=1e-12)


def test_tokens_alone_do_not_agree():
    """`th` as a token leaves out `the` and all that starts with it, as two bytes it does not."""
    exact = [exact_model(one, "th other", Tokens.of(one, [one.eos_token_id], [])) for one in (WIDE, NARROW)]
    starting_with_th = sum(weight for text, weight in zip(TEXTS, WEIGHTS, strict=True) if text.startswith("th"))
    whole_word = sum(weight for text, weight in zip(TEXTS, WEIGHTS, strict=True) if text.split()[0] == "th")
    assert exact[0][0][0].item() == pytest.approx(math.log(whole_word / sum(WEIGHTS)), abs=1e-12)
    assert exact[1][0][:2].sum().item() == pytest.approx(math.log(starting_with_th / sum(WEIGHTS)), abs=1e-12)


def test_chunks_with_a_row_outside_the_mask_do_not_count():
    """Four tokens in three chunks; the second lacks a token, the third the row where its word ends."""
    signal = chunk_signal(
        [([1, 2, 3, 4, 5], [Span(0, 1, False, False), Span(1, 3, False, False), Span(3, 4, True, True)])],
        torch.tensor([-1.0, -2.0, -3.0]), [0],
    )  # fmt: skip
    assert signal.under(torch.ones(5, dtype=torch.bool)) is signal
    without = signal.under(torch.tensor([True, False, True, True, True]))
    assert without.chunk.tolist() == [0, -1, -1, 1, -1] and without.log_probs.tolist() == [-1, -3]
    assert (without.starts.tolist(), without.ends.tolist()) == ([-1, 3], [-1, 4])
    assert signal.under(torch.tensor([True, True, True, True, False])).log_probs.tolist() == [-1, -2]
    assert signal.under(torch.zeros(5, dtype=torch.bool)).log_probs.tolist() == []


def test_two_texts_by_hand():
    """Sums of two and one log-probs, with a word's end on the one side and its start on the other."""
    signal = chunk_signal(
        [([4, 5, 6], [Span(0, 2, False, True), Span(2, 3, True, False)]), ([7], [Span(0, 1, False, False)])], None, [0]
    )
    tokens, words = torch.tensor([-1.0, -2.0, -4.0, -8.0]), torch.tensor([-0.1, -0.2, -0.3, -0.4])
    torch.testing.assert_close(chunk_log_probs(tokens, words, signal), torch.tensor([-3.3, -3.7, -8.0]))


def test_log_probs_of_hidden_are_log_softmax():
    """Three blocks of rows; values and all gradients."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight, bias = (
        torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in ((600, 3), (7, 3), (7,))
    )
    tokens, starting = torch.randint(7, (600,), generator=generator), torch.tensor([0, 4])
    gradients = list[tuple[torch.Tensor, ...]]()
    for blocks in (True, False):
        leaves = [one.clone().requires_grad_() for one in (hidden, weight, bias)]
        if blocks:
            chosen, words = log_probs_of_hidden(leaves[0], leaves[1], tokens, starting, leaves[2])
        else:
            log_probs = (leaves[0] @ leaves[1].T + leaves[2]).log_softmax(-1)
            chosen, words = log_probs[range(600), tokens], log_probs[:, starting].exp().sum(-1).log()
        gradients.append((chosen, words, *torch.autograd.grad(chosen.sum() + 2 * words.sum(), leaves)))
    for mine, torchs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, torchs, rtol=1e-12, atol=1e-12)
