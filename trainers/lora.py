"""Training less of a language model, or with fewer activations kept.

LoRA: beside each linear map W a product B A of low rank is trained, W itself is not. Hu et al. LoRA: Low-Rank
Adaptation of Large Language Models. 2021. arXiv:2106.09685, section 4.1: A random, B zero at the start, the product
times alpha / rank. By peft; the defaults are ours. Unlike the paper, every linear map but the head has a product, as
Dettmers et al. 2023, arXiv:2305.14314, section 4, find necessary to reach full training.
Activation checkpointing: a layer keeps its input alone and is computed again for its gradient. Chen et al. Training
Deep Nets with Sublinear Memory Cost. 2016. arXiv:1604.06174.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from datagen.contracts.errors import MissingError, ParamsError
from datagen.contracts.params import Params

if TYPE_CHECKING:  # a stage reads Config without torch
    import torch


class Config(Params):
    """What is trained of a student.

    Attributes:
        adapter: lora trains low-rank products and merges them into the weights in the end; none trains all weights.
        lora_rank: of the products.
        lora_alpha: the product counts lora_alpha / lora_rank times.
        lora_dropout: of the product's input.
        lora_modules: ends of the names of the linear maps that get one; empty for all but the head.
        activation_checkpointing: whether layers are computed again for their gradient rather than kept.
    """

    adapter: Literal["none", "lora"] = Field("none", json_schema_extra={"unless_default": True})
    lora_rank: int = Field(16, ge=1, json_schema_extra={"unless_default": True})
    lora_alpha: float = Field(32.0, gt=0, json_schema_extra={"unless_default": True})
    lora_dropout: float = Field(0.0, ge=0, lt=1, json_schema_extra={"unless_default": True})
    lora_modules: tuple[str, ...] = Field((), json_schema_extra={"unless_default": True})
    activation_checkpointing: bool = Field(False, json_schema_extra={"unless_default": True})

    @model_validator(mode="after")
    def _is_of_lora(self) -> "Config":
        given = [name for name, value in self if name.startswith("lora_") and value != _default(name)]
        if given and self.adapter == "none":
            raise ValueError(f"{given[0]} is of adapter=lora alone; set it too, or leave {given[0]} out")
        return self


def _default(name: str) -> Any:
    return Config.model_fields[name].default


def check_adapter(config: Config) -> None:
    """Fail before any work where a package is not installed.

    Raises:
        MissingError: peft.
    """
    if config.adapter == "lora" and find_spec("peft") is None:
        raise MissingError("adapter lora needs the package peft: `pip install 'datastill[lora]'`, or set adapter=none")


def prepare(model: Any, config: Config, seed: int) -> None:
    """Change a language model of transformers in place, as `config` says, before it is trained.

    Args:
        model: stays of its class; with lora its weights are frozen, and some of its parts have trained products.
        config: of what is trained.
        seed: of the products' initial weights.

    Raises:
        MissingError: peft is not installed, or the model knows no activation checkpointing.
        ParamsError: no part of the model is named as `lora_modules` says.
    """
    if config.activation_checkpointing:
        if not model.supports_gradient_checkpointing:
            raise MissingError(f"{type(model).__name__} knows no activation checkpointing; set it to false")
        earlier = model.gradient_checkpointing_enable  # the name in earlier versions of transformers
        getattr(model, "activation_checkpointing_enable", earlier)({"use_reentrant": False})
    if config.adapter == "lora":
        check_adapter(config)
        _add_products(model, config, seed)


def _add_products(model: Any, config: Config, seed: int) -> None:
    import torch
    from peft import LoraConfig, inject_adapter_in_model

    wanted = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,  # type: ignore[arg-type]  # a whole number by its type, any by what is done
        lora_dropout=config.lora_dropout,
        target_modules=list(config.lora_modules) or "all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            inject_adapter_in_model(wanted, model)
        except ValueError as error:
            named = ", ".join(config.lora_modules)
            raise ParamsError(f"lora_modules: {type(model).__name__} has no {named}: {error}") from None


def merge(model: "torch.nn.Module") -> None:
    """Add the trained products to their weights, in place, so that the model is one of transformers' own again.

    Raises:
        ValueError: a product holds what is no number.
    """
    if find_spec("peft") is None:
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    found = [(name, part) for name, part in model.named_modules() if isinstance(part, BaseTunerLayer)]
    for name, part in found:
        part.merge(safe_merge=True)
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, part.get_base_layer())
    if found:
        model.requires_grad_(True)
