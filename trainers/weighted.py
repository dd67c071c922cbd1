"""Objectives of tokens as params name them: one, or several by weight, each with options of its own.

`forward_kl`, `{forward_kl: 0.9, supervised: 0.1}` or `{jensen_shannon: {weight: 1, weight_of_teacher: 0.1}}`. The loss
is the sum of weight times mean over the same tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from datagen.contracts.errors import ParamsError
from datagen.contracts.params import validate
from datagen.contracts.stage import find_methods, load_method

if TYPE_CHECKING:  # params are read without torch
    from torch import Tensor

    from trainers.objectives import SumCount
    from trainers.signals import Signal

FAMILY = "trainers.objectives"
_OF_CLASSES = frozenset({"binary_cross_entropy"})  # objectives of a classifier; all others are of tokens


class Part(NamedTuple):
    """One objective of a sum.

    Attributes:
        name: of its module.
        weight: above 0.
        options: of its Config.
    """

    name: str
    weight: float
    options: dict[str, Any]


def parse(value: object) -> list[Part]:
    """The parts that the parameter `objective` names, in its order.

    Args:
        value: a name; or a mapping of name to weight, or to a mapping of `weight`, 1 if left out, and options.

    Raises:
        ParamsError: no such objective, one of classes, a weight that is no number above 0, or an option that the
            objective does not have.
    """
    if isinstance(value, str):
        value = {value: 1.0}
    if not isinstance(value, Mapping) or not value:
        raise ParamsError(
            f"objective: expected a name, or a mapping such as {{forward_kl: 0.9, supervised: 0.1}} (got {value!r})"
        )
    return [_part(name, given) for name, given in cast("Mapping[object, object]", value).items()]


def combined(value: object) -> "Combined":
    """The objective that `value` names; see `parse`.

    Raises:
        ParamsError: as `parse`.
    """
    return Combined(parse(value))


class Combined:
    """The weighted sum of objectives, and what they keep from step to step."""

    def __init__(self, parts: Sequence[Part]) -> None:
        """Load the objectives of `parts`, each one's state at its start."""
        self._states: dict[str, Any] = {}
        self._objectives: list[tuple[float, Callable[..., SumCount]]] = []
        self._measuring: Callable[..., SumCount] | None = None
        for part in parts:
            module = load_method(FAMILY, part.name, key="objective")
            objective = getattr(module, part.name)
            if hasattr(module, "State"):
                state = self._states[part.name] = module.State(validate(part.options, module.Config)[module.Config])
                objective = state.objective
            elif part.options:
                objective = _with_options(objective, part.options)
            self._objectives.append((part.weight, objective))

    def __call__(self, student_logits: "Tensor", signal: "Signal", mask: "Tensor") -> "SumCount":
        """The sum of weight times sum in nats, and the number of tokens, which is the same for all parts.

        Args:
            student_logits: (..., V), any float type.
            signal: as the parts take it; Labelled where `supervised` stands beside a divergence.
            mask: (...) bool, True for tokens that count.
        """
        if self._measuring:
            return self._measuring(student_logits, signal, mask)
        (weight, first), *others = self._objectives
        found = first(student_logits, signal, mask)
        total = found.sum if weight == 1 else weight * found.sum
        for weight, objective in others:
            total = total + weight * objective(student_logits, signal, mask).sum
        return found._replace(sum=total)

    @property
    def needs_first_pass(self) -> bool:
        """Whether `begin` must be called before each step."""
        return any(state.needs_first_pass for state in self._states.values())

    def begin(self, mean_loss: Callable[[], float]) -> None:
        """Let the parts that need it see a step's rows before.

        Args:
            mean_loss: runs this objective over all the step's rows, those of other processes too, without a gradient;
                gives the mean over tokens.
        """
        for state in self._states.values():
            if state.needs_first_pass:
                self._measuring = state.objective
                try:
                    state.begin(mean_loss)
                finally:
                    self._measuring = None

    def update(self, loss: float, step: int, n_steps: int) -> dict[str, float]:
        """Tell the parts of a step that was taken; what they say of themselves.

        Args:
            loss: mean over the step, of the whole sum where there are several parts.
            step: how many are done, from 1.
            n_steps: of the training.
        """
        said: dict[str, float] = {}
        for state in self._states.values():
            said |= state.update(loss, step, n_steps)
        return said

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, by objective."""
        return {name: state.state_dict() for name, state in self._states.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`'s."""
        for name, one in self._states.items():
            one.load_state_dict(state[name])


def _part(name: object, given: object) -> Part:
    known = [one for one in find_methods(FAMILY) if one not in _OF_CLASSES]
    if name in _OF_CLASSES:
        raise ParamsError(
            f"objective: {name} learns the labels of a text, for train_encoder; train_lm takes {', '.join(known)}"
        )
    if not isinstance(name, str) or name not in known:
        raise ParamsError(f"objective: no {name!r}; there are {', '.join(known)}")
    options = {"weight": given} if not isinstance(given, Mapping) else dict(cast("Mapping[str, Any]", given))
    weight = options.pop("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
        raise ParamsError(f"objective.{name}.weight: expected a number above 0 (got {weight!r})")
    if options:
        module = load_method(FAMILY, name, key="objective")
        if not hasattr(module, "Config"):
            raise ParamsError(f"objective.{name}: has a weight and no options (got {', '.join(map(str, options))})")
        try:
            validate(options, module.Config)
        except ParamsError as error:
            raise ParamsError("\n".join(f"objective.{name}.{line}" for line in str(error).splitlines())) from None
    return Part(name, float(weight), options)


def _with_options(objective: "Callable[..., SumCount]", options: Mapping[str, Any]) -> "Callable[..., SumCount]":
    def with_options(student_logits: "Tensor", signal: "Signal", mask: "Tensor") -> "SumCount":
        return objective(student_logits, signal, mask, **options)

    return with_options
