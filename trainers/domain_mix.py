"""Batches of texts by domain: what is drawn of each follows weights, which a rule of datagen/mixture renews on the way.

`mixture=ddk` and so on names the rule, whose own parameters stand beside. Before the first step and after every
`mixture_every` steps the student's mean loss on held-out rows of each domain is measured, and the rule is asked; what
it compares the student with, the teacher or `reference`, is measured once. `--weights` in place of a rule draws by
weights that a file holds. The method that this serves, Liu et al. DDK. 2024. arXiv:2407.16154, learns with
`objective='{supervised: 1, forward_kl: 0.2}'` and a teacher.

What is drawn, and how, is in trainers/domain_draws.py.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from pydantic.config import JsonDict

from datagen.contracts.errors import ParamsError
from datagen.contracts.params import Params, Parts
from datagen.contracts.stage import load_method
from trainers import loop
from trainers.domain_draws import DomainMix, Rule
from trainers.domain_rows import by_domain, check_drawn, check_held_out, read_weights
from trainers.lm_rows import LearnedRow
from trainers.sharded import is_wanted

if TYPE_CHECKING:  # a stage reads Config without torch
    import torch

_LATER: JsonDict = {"unless_default": True}
FAMILY = "datagen.mixture"


class Config(Params):
    """How batches are drawn of domains.

    Attributes:
        mixture: the rule, of datagen/mixture; null draws rows in their order, whatever their domain.
        mixture_every: steps between two questions to the rule; the paper's.
        mixture_rows: held-out sequences of each domain that are read, the first. The paper's 500 would take more than a
            twentieth of the time of steps of a few short rows.
        reference: the model that the student is compared with; null is the teacher.
    """

    mixture: str | None = Field(default=None, json_schema_extra=_LATER)
    mixture_every: int = Field(default=1000, ge=1, json_schema_extra=_LATER)
    mixture_rows: int = Field(default=100, ge=1, json_schema_extra=_LATER)
    reference: str | None = Field(default=None, json_schema_extra=_LATER)


def config_of(section: Mapping[str, Any]) -> list[type[Params]]:
    """The Config of the rule that a section names, if it names one."""
    name = section.get("mixture")
    return [] if name is None else [load_method(FAMILY, name, key="mixture").Config]


def check(config: Config, *, teacher: str | None) -> None:
    """Fail where the options cannot go together; `teacher` is the model that the student learns from, if any.

    Raises:
        ParamsError: with the remedy.
    """
    if config.mixture is None:
        if config.reference:
            raise ParamsError("reference: of a rule alone; set mixture too, or leave it out")
        return
    needs = needs_of(config.mixture)
    if is_wanted():
        raise ParamsError("mixture: a student whose weights are cut is not measured; unset $DATASTILL_SHARD")
    if "runs" in needs:
        raise ParamsError(
            f"mixture: {config.mixture} learns from runs of other students; let `datastill domain_weights` make them, "
            "and name its weights.json with --weights"
        )
    if "reference_losses" in needs and not (config.reference or teacher):
        raise ParamsError(
            f"mixture: {config.mixture} compares the student with another model; set reference=MODEL, or a teacher"
        )


def needs_of(name: str) -> frozenset[str]:
    """What a rule reads besides the domains' sizes."""
    return load_method(FAMILY, name, key="mixture").NEEDS


def check_inputs(config: Config, *, has_heldout: bool, has_weights: bool) -> None:
    """Fail where held-out texts or weights are given and not read, or the other way round.

    Raises:
        ParamsError: with the remedy.
    """
    if config.mixture is None:
        given = [name for name, value in config if value != type(config).model_fields[name].default]
        if given and not (has_heldout and has_weights):
            raise ParamsError(f"{given[0]}: of a mix that is measured; set mixture too, or leave it out")
        if has_heldout and not has_weights:
            raise ParamsError(
                "mixture: --heldout is for a rule that measures the student; set mixture, or leave it out"
            )
        return
    if has_weights:
        raise ParamsError(f"mixture: {config.mixture} says the weights itself; leave out --weights, or mixture")
    if not has_heldout and (reads := sorted(needs_of(config.mixture) & {"student_losses", "reference_losses"})):
        raise ParamsError(
            f"mixture: {config.mixture} reads {reads[-1]} on held-out texts; name some of each domain with --heldout"
        )


def open_mix(
    params: Parts,
    rows: Sequence[LearnedRow],
    data: str,
    *,
    tokenizer: Any,
    device: "torch.device",
    folder: Path,
    weights: str | None,
    heldout: str | None,
    held_out: Sequence[LearnedRow],
) -> DomainMix:
    """What draws a training's batches; the reference reads the held-out rows where the rule needs it.

    Args:
        params: of train_lm.
        rows: to learn from.
        data: where they stand.
        tokenizer: of the student.
        device: of the reference.
        folder: of this training's checkpoints.
        weights: file of weights, in place of a rule.
        heldout: where `held_out` stand.
        held_out: rows that are measured on, if there are any.

    Raises:
        DataError: the domains of rows, held-out rows and weights are not the same, or one is too small.
    """
    from trainers.domain_losses import losses_of_reference

    config, of_loop = params[Config], params[loop.Config]
    drawn = by_domain(rows, data)
    check_drawn(drawn, data)
    apart = by_domain(held_out, heldout or "") if held_out else {}
    if heldout:
        check_held_out(apart, drawn, heldout)
    apart = {name: mine[: config.mixture_rows] for name, mine in apart.items()}
    rule: Rule | dict[str, float]
    reference = None
    if config.mixture is None:
        rule = read_weights(Path(weights or ""), list(drawn))
    else:
        module = load_method(FAMILY, config.mixture, key="mixture")
        rule = Rule(ask=getattr(module, config.mixture), config=params[module.Config], needs=module.NEEDS)
        if "reference_losses" in rule.needs:
            values = params.values()
            name, dtype = config.reference, "float32"
            if name is None:
                name, dtype = values["teacher"], values.get("teacher_dtype", "float32")
            reference = losses_of_reference(name, dtype, apart, tokenizer, device, of_loop.micro_batch_tokens, folder)
    return DomainMix(drawn, rule, config.mixture_every, of_loop, held_out=apart or None, reference_losses=reference)
