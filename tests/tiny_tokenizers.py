"""Tokenizers of a few hundred tokens, trained in a moment."""

from typing import Any

TEXTS = ("the theory of the other thing", "they think that there is a thin thread", "naïve café, 日本 and 🙂") * 3


def trained(n_tokens: int, *, end: str = "</s>", texts: tuple[str, ...] = TEXTS) -> Any:
    """Byte-level BPE; 256 tokens or fewer are bytes. Then come <s> and the end."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=max(n_tokens, 256), initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token=end)
    fast.chat_template = (
        "{% for m in messages %}{{ '<s>' + m['role'] + ':' + m['content'] + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<s>assistant:' }}{% endif %}"
    )
    return fast
