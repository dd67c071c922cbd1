"""Frozen language models of transformers as teachers: loading, and the check that a student may learn from one."""

import sys
from typing import TYPE_CHECKING, Any, Literal

from datagen.backends.models import Model, resolve_model
from datagen.backends.transformers_models import tokenizer_hash
from datagen.contracts.errors import DataError, MissingError

if TYPE_CHECKING:
    import torch

Dtype = Literal["float32", "bfloat16", "float64"]


def load_tokenizer(name: str) -> tuple[Model, Any]:
    """The model's place and its tokenizer, which transformers types too loosely to use.

    Raises:
        MissingError: there is none.
    """
    from transformers import AutoTokenizer

    found = resolve_model(name)
    try:
        return found, AutoTokenizer.from_pretrained(found.folder)
    except (OSError, ValueError, KeyError) as error:
        raise MissingError(f"teacher {name!r} has no tokenizer: {' '.join(str(error).split())}") from None


def load_frozen(name: str, dtype: Dtype, device: "torch.device") -> Any:
    """The model without gradients, in evaluation mode, on `device`.

    Raises:
        MissingError: it cannot be loaded, or its logits are no linear function of hidden states.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    from trainers.language_models import check_linear_head

    disable_progress_bar()
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(resolve_model(name).folder, dtype=getattr(torch, dtype))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise MissingError(f"teacher {name!r} cannot be loaded: {' '.join(str(error).split())}") from None
    model = model.to(device).eval().requires_grad_(False)
    check_linear_head(model)
    return model


def context_of(config: Any) -> int:
    """Positions of a model, by its transformers config."""
    return getattr(config, "max_position_embeddings", None) or sys.maxsize


def check_tokenizer(name: str, tokenizer: Any, student_tokenizer: Any) -> None:
    """Fail where ids mean other tokens to the teacher than to the student.

    A vocabulary that is padded to more rows than the tokenizer has tokens is no difference.

    Raises:
        DataError: they do.
    """
    if tokenizer_hash(tokenizer) == tokenizer_hash(student_tokenizer):
        return
    ours, theirs = (one.get_vocab() for one in (student_tokenizer, tokenizer))
    n_equal = sum(theirs.get(token) == id for token, id in ours.items())
    raise DataError(
        f"teacher {name!r} has another tokenizer than the student ({len(theirs)} and {len(ours)} tokens, {n_equal} of "
        "them with the same id); take a teacher of the student's family, or objective=likelihood_matching, which "
        "compares texts"
    )
