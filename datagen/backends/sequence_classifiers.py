"""Sequence classifiers as transformers keeps them: loaded whole, with the tokens that they have positions for."""

from pathlib import Path
from typing import Any

from datagen.contracts.errors import MissingError
from datagen.contracts.records import Example


def load_classifier(said: str, folder: Path, dtype: str = "float32") -> tuple[Any, Any]:
    """The network, on the CPU, and its tokenizer.

    Args:
        said: what errors call it, such as `classifier 'NAME'`.
        folder: that transformers wrote.
        dtype: of the weights, a name of torch's.

    Raises:
        MissingError: the folder holds no such model, or lacks some of its weights; or transformers is not installed.
    """
    try:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar
    except ModuleNotFoundError as error:
        raise MissingError(f"{said} needs {error.name}: `pip install 'datastill[lm]'`") from None
    disable_progress_bar()
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        loaded: Any = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=getattr(torch, dtype), output_loading_info=True
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise MissingError(
            f"{said} cannot be loaded as a sequence classifier; its folder needs a tokenizer and weights beside "
            f"config.json: {' '.join(str(error).split())}"
        ) from None
    network, info = loaded
    if missing := sorted(info["missing_keys"]):  # transformers draws them at random, and warns
        raise MissingError(
            f"{said} lacks the weights {', '.join(missing)}; name a model that was trained as a sequence classifier"
        )
    return network, tokenizer


def max_positions(network: Any) -> int:
    """Tokens that the encoder has positions for; RoBERTa's kind counts them from beyond the padding's."""
    import torch

    n = getattr(network.config, "max_position_embeddings", None) or 10**9
    for module in network.modules():
        if isinstance(module, torch.nn.Embedding) and module.num_embeddings == n and module.padding_idx is not None:
            return n - module.padding_idx - 1
    return n


def segments(row: Example) -> tuple[str, str | None]:
    """First segment and second: (context and character, text), or the text alone."""
    known = " ".join(part for part in (row.context, row.character) if part)
    return (known, row.text) if known else (row.text, None)
