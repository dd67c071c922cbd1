"""Language models as students and as teachers: hidden states at learned positions, and the head behind them.

Logits are nowhere made for a whole batch: whoever wants them takes a few positions at a time (`linear_loss`).

Axes: B sequences, T tokens, N learned positions, H hidden, V vocabulary.
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from datagen.contracts.errors import MissingError, ParamsError
from trainers.batches import Batch, may_share, model_inputs, n_shared_tokens
from trainers.objectives import SumCount

LossOf = Callable[[Tensor, Tensor, Tensor | None], SumCount]
_N_CHECKED = 4  # tokens that a head is checked on
_TOLERANCE = 1e-3  # of the largest logit; a scale or a cap of logits is far above it


class Head(NamedTuple):
    """What makes logits of hidden states: `weight` (V, H), `bias` (V,) or None."""

    weight: Tensor
    bias: Tensor | None


class StudentModel(nn.Module):
    """A causal language model of transformers whose forward pass ends in a loss.

    The loss is made inside of it, so that wrappers for several processes and for mixed precision hold for the head too.
    """

    def __init__(self, model: Any, *, shares_prompts: bool = True) -> None:
        """Wrap `model`, of transformers or of peft around one.

        Args:
            model: takes its gradients.
            shares_prompts: read the start that all of a batch's sequences have in common once; equal but for rounding.

        Raises:
            MissingError: its logits are more than a linear function of hidden states.
        """
        super().__init__()
        check_linear_head(model)
        self.model = model
        self.shares_prompts = shares_prompts

    def forward(self, batch: Batch, loss_of: LossOf) -> SumCount:
        """`loss_of` the hidden states (N, H) before each learned token, the head's weight (V, H) and its bias."""
        shares = self.shares_prompts and not getattr(causal(self.model), "is_activation_checkpointing", False)
        return loss_of(hidden_states(self.model, batch, shares_prompts=shares), *head_of(self.model))


def causal(model: Any) -> Any:
    """The model itself where peft stands around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def hidden_states(model: Any, batch: Batch, *, shares_prompts: bool = False) -> Tensor:
    """(N, H): the last hidden states before each learned token, sequence after sequence as in `Batch.labels`.

    With `shares_prompts` the start that all sequences share (a template's system prompt) goes through the network once.
    Its keys and values serve every sequence, and its gradient is the sum over them, as if each had computed it. Where
    not `may_share`, each goes through whole.
    """
    inner = causal(model)
    decoder = inner.get_decoder()
    shares = shares_prompts and batch.position_ids is None and may_share(inner)
    n_shared = n_shared_tokens(batch) if shares else 0
    if not n_shared:
        return decoder(**model_inputs(batch)).last_hidden_state[batch.learned]
    cache = DynamicCache()
    decoder(input_ids=batch.tokens[:1, :n_shared], past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(len(batch.tokens))
    output = decoder(
        input_ids=batch.tokens[:, n_shared:],
        attention_mask=batch.attention_mask,
        past_key_values=cache,
        use_cache=True,
    )
    return output.last_hidden_state[batch.learned[:, n_shared:]]


def head_of(model: Any) -> Head:
    """The head's own parameters."""
    head = causal(model).get_output_embeddings()
    return Head(head.weight, getattr(head, "bias", None))


def check_linear_head(model: Any) -> None:
    """Fail where logits are not hidden states times the head's weight, plus its bias.

    Some architectures scale or cap them, and what is made of states and head would silently be another distribution.

    Raises:
        MissingError: they are more than that.
    """
    inner = causal(model)
    head, decoder = inner.get_output_embeddings(), getattr(inner, "get_decoder", lambda: None)()
    name = type(inner).__name__
    if type(head) is not nn.Linear or decoder is None:
        raise MissingError(f"{name}: its head is {type(head).__name__}, not a plain linear layer; choose another model")
    was_training = inner.training
    inner.eval()
    ids = torch.arange(1, _N_CHECKED + 1, device=head.weight.device).remainder(len(head.weight))[None]
    with torch.no_grad():
        wanted = inner(input_ids=ids, use_cache=False).logits.float()
        found = head(decoder(input_ids=ids, use_cache=False).last_hidden_state).float()
    inner.train(was_training)
    if (wanted - found).abs().max() > _TOLERANCE * wanted.abs().max().clamp(min=1):
        raise MissingError(f"{name}: scales or caps its logits, which students here do not; choose another model")


def keep_layers(model: Any, n_layers: int) -> Any:
    """A copy of `model` with `n_layers` of its layers, evenly spaced, the first and the last among them.

    Layer i of the copy is layer round(i (L - 1) / (n_layers - 1)) of L, as DistilBERT's start takes every other one
    (Sanh et al. 2019, arXiv:1910.01108, section 2.2). All other weights are the model's.

    Raises:
        ParamsError: the model has fewer layers, or fewer than 2 are asked for.
        MissingError: no list of layers is found.
    """
    n_all = model.config.num_hidden_layers
    if not 2 <= n_layers <= n_all:
        raise ParamsError(f"student_layers: expected 2 to {n_all}, the model's number of layers (got {n_layers})")
    lists = [name for name, part in model.named_modules() if isinstance(part, nn.ModuleList) and len(part) == n_all]
    if len(lists) != 1:
        raise MissingError(f"{type(model).__name__}: {len(lists)} lists of {n_all} layers, not one; choose another")
    kept = [round(i * (n_all - 1) / (n_layers - 1)) for i in range(n_layers)]
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = n_layers
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == n_all:  # what each layer is, such as layer_types
            setattr(config, name, [value[i] for i in kept])
    smaller = type(model)(config).to(model.dtype)
    given, wanted = model.state_dict(), dict[str, Tensor]()
    for name in smaller.state_dict():
        if name.startswith(f"{lists[0]}."):
            number, _, rest = name.removeprefix(f"{lists[0]}.").partition(".")
            wanted[name] = given[f"{lists[0]}.{kept[int(number)]}.{rest}"]
        else:
            wanted[name] = given[name]
    smaller.load_state_dict(wanted)
    smaller.generation_config = copy.deepcopy(model.generation_config)
    return smaller
