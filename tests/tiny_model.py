"""A random language model of a few thousand weights, with a tokenizer of bytes and a chat template."""

from pathlib import Path

CHAT_TEMPLATE = "<s>{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "


def write_tiny_model(folder: Path, *, silent: bool = False, ends: bool = True, head_size: int | None = None) -> Path:
    """A transformers folder of a Llama with grouped-query attention.

    Of a silent one every token has the same logits; one that doesn't end has no end token, so no answer is empty.
    `head_size` of attention is 8 unless given.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    symbols = ["<s>", "</s>", "<pad>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(symbols)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>")
    fast.eos_token = "</s>" if ends else None
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(symbols), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.3, bos_token_id=0,
        eos_token_id=1 if ends else None, pad_token_id=2, head_dim=head_size,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    if silent:
        torch.nn.init.zeros_(model.lm_head.weight)
    model.save_pretrained(folder)
    return folder
