"""A model moved to another tokenizer, of bytes or of subwords: the start of a student, which then learns.

New embeddings as in Gee, Zugarini, Rigutini, Torroni. Fast Vocabulary Transfer for Language Model Compression. 2022.
arXiv:2402.09977, section 3: a token takes the row of the old token that spells the same bytes; another takes the mean
of the rows of the old tokens that its bytes are cut into. Here special tokens of the same text keep their rows, bytes
are cut greedily into the longest old tokens, and where the old tokenizer lacks a byte the row is the mean of all. Input
embeddings and head are moved alike, and stay one where they were.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from datagen.contracts.errors import ParamsError
from trainers.byte_alignment import Spelling, byte_symbols, spellings

if TYPE_CHECKING:
    from torch import Tensor


def byte_tokenizer(like: Any) -> Any:
    """A tokenizer of transformers with a token a byte, and the special tokens and the chat template of `like`."""
    return trained_tokenizer([], 0, like)


def trained_tokenizer(texts: Iterable[str], n_tokens: int, like: Any) -> Any:
    """Byte-level BPE trained on texts: 256 bytes, up to `n_tokens` in all, then the special tokens of `like`.

    Args:
        texts: to count pairs in.
        n_tokens: at most 256 gives no merge: a tokenizer of bytes.
        like: tokenizer of transformers, whose special tokens and chat template are taken over.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    symbols = byte_symbols()
    made = Tokenizer(models.BPE(vocab={symbols[byte]: byte for byte in range(256)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=n_tokens > 256)
    made.decoder = decoders.ByteLevel()
    if n_tokens > 256:
        trainer = trainers.BpeTrainer(
            vocab_size=n_tokens, initial_alphabet=[symbols[byte] for byte in range(256)], show_progress=False
        )
        made.train_from_iterator(texts, trainer)
    special = [token for token in like.added_tokens_decoder.values() if token.special]
    made.add_special_tokens([AddedToken(token.content, special=True, normalized=False) for token in special])
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, **{name: value for name in names if (value := getattr(like, name)) is not None}
    )
    fast.chat_template = like.chat_template
    return fast


def moved(model: Any, old: Any, new: Any) -> Any:
    """A copy of a causal language model of transformers, from the tokenizer `old` to `new`.

    Its `max_position_embeddings` stays, in tokens of the new tokenizer.

    Raises:
        MissingError: a tokenizer is not byte-level, or normalises.
        ParamsError: the model's vocabulary is narrower than the old tokenizer's.
    """
    import torch

    spelled_old, spelled_new = spellings(old), spellings(new)
    rows = model.get_input_embeddings().weight.detach()
    if len(rows) <= max(spelled_old):
        raise ParamsError(f"the model has {len(rows)} rows of embeddings, its tokenizer token {max(spelled_old)}")
    with torch.random.fork_rng(devices=[]):  # what is drawn is overwritten
        config = copy.deepcopy(model.config)
        config.vocab_size = max(spelled_new) + 1
        copied = type(model)(config).to(rows)
    given, wanted = model.state_dict(), copied.state_dict()
    copied.load_state_dict({name: given[name] if given[name].shape == at.shape else at for name, at in wanted.items()})
    parts = sources(spelled_old, spelled_new)
    with torch.no_grad():
        for get in ("get_input_embeddings", "get_output_embeddings"):
            source, target = getattr(model, get)(), getattr(copied, get)()
            for name in ("weight", "bias"):
                if (values := getattr(source, name, None)) is not None:
                    getattr(target, name).copy_(_means(values.detach(), parts, len(spelled_old)))
    ids = {name: getattr(new, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    copied.generation_config = copy.deepcopy(model.generation_config)
    for name, id in ids.items():
        setattr(copied.config, name, id)
        setattr(copied.generation_config, name, id)
    return copied


def sources(old: Mapping[int, Spelling], new: Mapping[int, Spelling]) -> list[list[int]]:
    """For every id of `new` up to the largest, the old tokens whose mean it becomes; of none: the mean of all."""
    by_spelling = {what: token for token, what in old.items()}
    longest = max((len(what) for what in by_spelling if isinstance(what, bytes)), default=0)
    found: list[list[int]] = [[] for _ in range(max(new) + 1)]
    for token, what in new.items():
        if isinstance(what, str):
            found[token] = [by_spelling[what]] if what in by_spelling else []
            continue
        start = 0
        while start < len(what):
            lengths = range(min(longest, len(what) - start), 0, -1)
            length = next((n for n in lengths if what[start : start + n] in by_spelling), None)
            if length is None:
                found[token] = []
                break
            found[token].append(by_spelling[what[start : start + length]])
            start += length
    return found


def _means(values: "Tensor", parts: list[list[int]], n_old: int) -> "Tensor":
    import torch

    mean = values[:n_old].mean(dim=0)
    return torch.stack([values[part].mean(dim=0) if part else mean for part in parts])
