"""The training loop: any network, any loss, on one process or many, killed or not.

A loss gives a sum and a count for a micro-batch. The loop adds both over the micro-batches of a step and over the
processes, and divides the gradient once, so a step is the same for any split of its rows. Order and noise derive from
(seed, epoch, step), so a run that was killed ends where an unbroken one ends: bit for bit on the CPU, for one number
of threads and processes. What changes rows, loss or length on the way (`renew`, `state`, `judge`) is a part of that.

Optimiser: AdamW, Loshchilov, Hutter. Decoupled Weight Decay Regularization. 2017. arXiv:1711.05101; Adam, Kingma, Ba.
2014. arXiv:1412.6980; or SGD with momentum, Sutskever et al. On the importance of initialization and momentum in deep
learning. ICML 2013, in torch's form (the rate outside the momentum). Weight decay of the latter two is a part of the
gradient.
Schedule: linear warm-up (Goyal et al. 2017, arXiv:1706.02677), then constant, linear or cosine
(Loshchilov, Hutter. SGDR. 2016. arXiv:1608.03983, equation 5 without restarts), or a step: a tenth of the rate in the
second half, as students of condensed images are trained (Cazenavette et al. 2022, arXiv:2203.11932, in its code; there
the momentum starts anew at the step, here it goes on).
"""

import contextlib
import itertools
import json
import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast, runtime_checkable

from pydantic import Field, ValidationInfo, field_validator

from datagen.backends.transformers_models import device_type
from datagen.contracts.checkpoint import Checkpoints, interval_s
from datagen.contracts.errors import DataError
from datagen.contracts.params import Params
from datagen.contracts.seeding import derive_seed
from trainers import judged, sharded
from trainers.packing import LEAST_USED
from trainers.tracking import find_tracker, start_tracker, track

if TYPE_CHECKING:  # a stage reads Config without torch
    import torch
    from accelerate import Accelerator

    from trainers.objectives import SumCount

Row = TypeVar("Row", bound=Sized)
Layout = Literal["padded", "packed"]
Schedule = Literal["constant", "linear", "cosine", "step"]
_NAMED = 10  # rows that an error names

log = logging.getLogger(__name__)


class Config(Params):
    """How a network is trained.

    A step takes `batch_size` rows; `micro_batch_tokens` (padding included) bounds how many go through the network at
    once, and no result depends on it but by rounding. `warmup_share` is the share of the steps during which the rate
    rises to `learning_rate`. `precision` bfloat16 is autocast over float32 weights. `n_threads` counts on the CPU only,
    where rounding depends on it. `momentum` is of sgd; the others have their own. A gradient longer than
    `max_gradient_norm` is cut to it, null leaves every gradient as it is. `steps` says how many steps there are,
    whatever `epochs` says: as many epochs as they need. A judge is asked after every `judge_every` steps and after the
    last, 0 asks none; after `patience` judgements in a row without a better one training ends, null never ends it.
    `layout` packed puts sequences side by side in rows rather than one in each, so that few slots are padding; a loss
    that it is for must lay them out so too (`trainers.batches.arrange`). `non_finite` stop ends training at a loss or
    gradient that is no number, go_on leaves that to the caller.
    """

    epochs: int = Field(3, ge=1)
    steps: int | None = Field(None, ge=1, json_schema_extra={"unless_default": True})
    batch_size: int = Field(16, ge=1)
    micro_batch_tokens: int = Field(2048, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    schedule: Schedule = "cosine"
    warmup_share: float = Field(0.1, ge=0, le=1)
    weight_decay: float = Field(0.0, ge=0)
    max_gradient_norm: float | None = Field(1.0, gt=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    n_threads: int = Field(2, ge=1)
    seed: int = 0
    optimizer: Literal["adamw", "sgd", "adam"] = Field("adamw", json_schema_extra={"unless_default": True})
    momentum: float = Field(0.0, ge=0, lt=1, json_schema_extra={"unless_default": True})
    judge_every: int = Field(default=0, ge=0, json_schema_extra={"unless_default": True})
    patience: int | None = Field(default=None, ge=1, json_schema_extra={"unless_default": True})
    layout: Layout = Field(default="padded", json_schema_extra={"unless_default": True})
    non_finite: Literal["stop", "go_on"] = Field("stop", json_schema_extra={"unless_default": True})

    @field_validator("momentum")
    @classmethod
    def _is_of_sgd(cls, value: float, info: ValidationInfo) -> float:
        if value and (optimizer := info.data.get("optimizer", "sgd")) != "sgd":
            raise ValueError(f"{optimizer} has momentum of its own; set optimizer=sgd, or leave momentum out")
        return value

    @field_validator("patience")
    @classmethod
    def _is_of_judgements(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value and not info.data.get("judge_every"):
            raise ValueError("nobody judges; set judge_every, or leave patience out")
        return value


class State(Protocol):
    """What a loss keeps from step to step, such as the share of the teacher in TAID. It is in the checkpoints."""

    def update(self, loss: float, step: int, n_steps: int) -> Mapping[str, float]:
        """Told once after each update of the weights, the same in every process; what it returns is in the record.

        Args:
            loss: mean of the step over all micro-batches and processes.
            step: that was taken, from 1.
            n_steps: of the training.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Numbers, texts, tensors, and lists and dicts of them."""
        ...

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from what `state_dict` gave."""
        ...


@runtime_checkable
class FirstPass(Protocol):
    """A State that may look at a step before its loss is computed, such as for a mean over the batch."""

    @property
    def needs_first_pass(self) -> bool:
        """Whether the next step must be looked at."""
        ...

    def begin(self, mean_loss: Callable[[], float], /) -> None:
        """Called before each step where `needs_first_pass` says so; the step's noise starts anew afterwards.

        Args:
            mean_loss: computes the step's loss over all micro-batches and processes, without gradients.
        """
        ...


def train(
    model: "torch.nn.Module",
    rows: Sequence[Row],
    loss: "Callable[[torch.nn.Module, Sequence[Row], torch.device], SumCount]",
    config: Config,
    checkpoints: Checkpoints,
    advance: Callable[[Mapping[str, Any]], None] = lambda _: None,
    *,
    state: State | None = None,
    renew: "Callable[[torch.nn.Module, Sequence[Row], int], Sequence[Row]] | None" = None,
    judge: "Callable[[torch.nn.Module], float] | None" = None,
) -> list[dict[str, Any]]:
    """Train `model` in place, from the last checkpoint where there is one.

    Args:
        model: float32 weights.
        rows: whose `len` is their cost in tokens; not empty.
        loss: of some rows, on a device.
        config: of the loop.
        checkpoints: of this training and no other.
        advance: called after every step with its record.
        state: of the loss, told of every step. One that is a `FirstPass` sees the rows before.
        renew: what to learn from in place of a step's rows, of the network, the rows and the step from 0. Called in
            every process with all rows of the step, without gradients, in eval mode, and must return the same in each;
            its noise is of the seed and the step.
        judge: of the network, without gradients, in eval mode and in every process, of which the first's answer
            counts; lower is better. The weights that it judged best are those that `model` has in the end.

    Returns:
        A record a step: step from 1, epoch from 0, loss (mean before the update), learning_rate, gradient_norm (before
        clipping), count (of what the loss is a mean over), what `state` says, and `judged` where the judge was asked.

    Raises:
        DataError: a loss, a gradient or a judgement is no finite number; names the step and its rows, by their `id`
            where they have one and else by their place. The state before that step is kept as a checkpoint.
    """
    import torch

    if device_type() == "cpu":
        torch.set_num_threads(config.n_threads)
    if not rows or (config.judge_every and judge is None):
        raise ValueError("judge_every is set, and there is no judge" if rows else "no row to learn from")
    accelerator = _accelerator(config, model)
    network, prepared = accelerator.prepare(model.train(), _optimizer(model, config))
    optimizer = prepared.optimizer  # the wrapper looks for packages at every step
    records = _resume(accelerator, checkpoints, state)
    plan = list(_steps(config, len(rows)))
    for record in records:
        track(accelerator, record)
        advance(record)
    saved = time.monotonic()
    for step, (epoch, chosen) in enumerate(plan[len(records) :], start=len(records)):
        if judged.is_enough(records, config.patience):
            break
        noise = derive_seed(config.seed, "noise", step, accelerator.process_index)
        rate = config.learning_rate * rate_factor(step, len(plan), config)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch: Sequence[Row] = [rows[i] for i in chosen]
        if renew is not None:
            _seed_noise(derive_seed(config.seed, "renew", step))
            with judged.at_rest(network):
                batch = renew(model, batch, step)
        done = _step(accelerator, network, optimizer, batch, loss, config, state, noise)
        mean, norm = done.loss, done.norm
        if done.suspects:
            if not checkpoints.holds(len(records)):  # it is the one that training went on from
                _save(accelerator, checkpoints, records, state)
            named = _named(done.suspects, dict(zip(map(id, batch), chosen, strict=False)))
            what = f"loss is {mean}" if not math.isfinite(mean) else f"gradient's norm is {norm}"
            raise DataError(
                f"step {step + 1}: the {what}, on rows {named}; the state before it is kept in {checkpoints.folder}; "
                "lower learning_rate, or leave out what cannot be learned"
            )
        record = {
            "step": step + 1, "epoch": epoch, "loss": mean, "learning_rate": rate, "gradient_norm": norm,
            "count": done.count,
        }  # fmt: skip
        if state is not None:
            record.update(state.update(mean, step + 1, len(plan)))
        if judge is not None and config.judge_every and ((step + 1) % config.judge_every == 0 or step + 1 == len(plan)):
            record["judged"] = judged.ask(accelerator, network, model, judge, step)
        records.append(record)
        if "judged" in record and judged.best(records) == step + 1:
            judged.keep(accelerator, network, checkpoints, step + 1)
        track(accelerator, record)
        advance(record)
        if step + 1 < len(plan) and _is_due(accelerator, saved):
            _save(accelerator, checkpoints, records, state)
            saved = time.monotonic()
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.unwrap_model(network, keep_fp32_wrapper=False)  # the model's own forward, without autocast
    sharded.gather(model)
    if (best := judged.best(records)) is not None and best < len(records):
        judged.restore(model, checkpoints, best)
    return records


def n_steps(config: Config, n_rows: int) -> int:
    """Optimiser steps that training on `n_rows` takes; the last step of an epoch may be smaller."""
    return config.steps or config.epochs * math.ceil(n_rows / config.batch_size)


def rate_factor(step: int, n_steps: int, config: Config) -> float:
    """The learning rate of a step (from 0) over its peak: rises to 1 in the warm-up, then as the schedule says."""
    n_warmup = math.ceil(config.warmup_share * n_steps)
    if step < n_warmup:
        return (step + 1) / n_warmup
    remaining = (n_steps - step) / (n_steps - n_warmup)  # 1 after the warm-up, never 0 in a step that is taken
    match config.schedule:
        case "constant":
            return 1.0
        case "linear":
            return remaining
        case "cosine":
            return 0.5 * (1 - math.cos(math.pi * remaining))
        case "step":
            return 1.0 if remaining > 0.5 else 0.1


def micro_batches(
    rows: Sequence[Row], max_tokens: int, n_processes: int, layout: Layout = "padded"
) -> list[list[list[Row]]]:
    """A step's rows, cut for each process into as many micro-batches as for every other.

    Rows of similar length come together; packed ones fill what `max_tokens` leaves beside the padding. A process that
    has no row left for a micro-batch gets an empty one.
    """
    by_length = sorted(rows, key=len, reverse=True)
    cut = [_cut(by_length[process::n_processes], max_tokens, layout) for process in range(n_processes)]
    n_most = max(map(len, cut))
    return [mine + [[]] * (n_most - len(mine)) for mine in cut]


def _cut(by_length: Sequence[Row], max_tokens: int, layout: Layout) -> list[list[Row]]:
    """Longest first, so the first row of a padded micro-batch says how wide it is."""

    def has_room(part: Sequence[Row], row: Row) -> bool:
        if layout == "packed":
            return sum(map(len, part)) + len(row) <= LEAST_USED * max_tokens
        return (len(part) + 1) * len(part[0]) <= max_tokens

    cut: list[list[Row]] = []
    for row in by_length:
        if cut and has_room(cut[-1], row):
            cut[-1].append(row)
        else:
            cut.append([row])
    return cut


def _steps(config: Config, n_rows: int) -> Iterator[tuple[int, list[int]]]:
    """(epoch, row positions) of every step; each epoch has an order of its own."""
    left = n_steps(config, n_rows)
    for epoch in itertools.count():
        order = list(range(n_rows))
        random.Random(derive_seed(config.seed, "order", epoch)).shuffle(order)
        for start in range(0, n_rows, config.batch_size):
            if not left:
                return
            left -= 1
            yield epoch, order[start : start + config.batch_size]


def _seed_noise(seed: int) -> None:
    """`torch.manual_seed`, without the traceback that it formats for each kind of device that is not in use."""
    import torch

    if device_type() == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _optimizer(model: "torch.nn.Module", config: Config) -> "torch.optim.Optimizer":
    import torch

    parameters, decay = model.parameters(), config.weight_decay
    match config.optimizer:
        case "adamw":
            return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=decay, fused=True)
        case "adam":
            return torch.optim.Adam(parameters, lr=config.learning_rate, weight_decay=decay, fused=True)
        case "sgd":
            return torch.optim.SGD(
                parameters, lr=config.learning_rate, momentum=config.momentum, weight_decay=decay, fused=True
            )


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Of one step: mean loss, gradient norm, count; and the rows to suspect, of which there are none unless it failed.

    A step that failed changed no weight.
    """

    loss: float
    norm: float
    count: int
    suspects: Sequence[Any]


def _step(
    accelerator: "Accelerator",
    network: Any,
    optimizer: Any,
    rows: Sequence[Any],
    loss: Callable[..., Any],
    config: Config,
    state: State | None,
    noise: int,
) -> _Outcome:
    """One update; `noise` is this process's seed."""
    import torch

    cut = micro_batches(rows, config.micro_batch_tokens, accelerator.num_processes, config.layout)
    mine = cut[accelerator.process_index]
    # Sharded networks need every process in every pass, so one without rows goes along at weight 0.
    weighted = [(micro_batch or rows[:1], 1.0 if micro_batch else 0.0) for micro_batch in mine]

    def reduced(parts: Sequence[torch.Tensor]) -> list[float]:
        totals = torch.zeros(2, dtype=torch.float64, device=accelerator.device)
        for part in parts:
            totals += part
        return cast("torch.Tensor", accelerator.reduce(totals, reduction="sum")).tolist()

    def mean_loss() -> float:
        _seed_noise(noise)
        with torch.no_grad():
            found = [(loss(network, micro_batch, accelerator.device), weight) for micro_batch, weight in weighted]
        loss_sum, count = reduced([weight * torch.stack([one.sum.double(), one.n.double()]) for one, weight in found])
        return loss_sum / count if count else math.nan

    if isinstance(state, FirstPass) and state.needs_first_pass:
        state.begin(mean_loss)
    _seed_noise(noise)
    parts: list[torch.Tensor] = []  # sum and count of each micro-batch
    for i, (micro_batch, weight) in enumerate(weighted):
        part = loss(network, micro_batch, accelerator.device)
        parts.append(weight * torch.stack([part.sum.detach().double(), part.n.double()]))
        synchronise = i == len(mine) - 1
        with contextlib.nullcontext() if synchronise else accelerator.no_sync(network):
            accelerator.backward(weight * part.sum)
    loss_sum, count = reduced(parts)
    if not count:
        raise ValueError("a step without anything to learn from; leave such rows out")
    for parameter in network.parameters():
        if parameter.grad is not None:
            parameter.grad.mul_(accelerator.num_processes / count)  # processes' gradients come as their mean
    longest = math.inf if config.max_gradient_norm is None else config.max_gradient_norm
    norm = sharded.number_of(accelerator.clip_grad_norm_(network.parameters(), longest))
    suspects: Sequence[Any] = ()
    if config.non_finite == "stop" and not (math.isfinite(loss_sum) and math.isfinite(norm)):
        failed = [
            row
            for (micro_batch, weight), part in zip(weighted, parts, strict=True)
            for row in micro_batch
            if weight and not part.isfinite().all()
        ]
        suspects = _of_all(failed, rows) or rows
    else:
        optimizer.step()
    optimizer.zero_grad()
    return _Outcome(loss_sum / count, norm, int(count), suspects)


def _of_all(failed: Sequence[Any], rows: Sequence[Any]) -> list[Any]:
    """A step's rows that are among those of any process."""
    from accelerate.utils import gather_object

    places = {id(row): place for place, row in enumerate(rows)}
    return [rows[place] for place in sorted(gather_object([places[id(row)] for row in failed]))]


def _named(rows: Sequence[Any], places: Mapping[int, int]) -> str:
    """Rows by their `id`, or by their place in the data, of which `places` tells for each object."""
    names = [repr(getattr(row, "id", None) or places.get(id(row), "?")) for row in rows]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _accelerator(config: Config, model: "torch.nn.Module") -> "Accelerator":
    from accelerate import Accelerator

    tracker, plugin = find_tracker(), sharded.plugin_for(model) if sharded.is_wanted() else None
    accelerator = Accelerator(
        cpu=device_type() == "cpu",
        mixed_precision="bf16" if config.precision == "bfloat16" else "no",
        log_with=None if tracker == "none" else tracker,
        fsdp_plugin=None if device_type() == "cpu" else plugin,
    )
    if plugin and device_type() == "cpu":
        sharded.shard_on_cpu(accelerator, plugin)
    start_tracker(accelerator, config.model_dump(mode="json"))
    return accelerator


def _is_due(accelerator: "Accelerator", saved: float) -> bool:
    """Whether the main process's clock says that it is time for a checkpoint."""
    import torch

    due = torch.tensor(time.monotonic() - saved >= interval_s(), dtype=torch.int64, device=accelerator.device)
    if accelerator.num_processes > 1:
        torch.distributed.broadcast(due, src=0)
    return bool(due)


def _save(
    accelerator: "Accelerator", checkpoints: Checkpoints, records: Sequence[Mapping[str, Any]], state: State | None
) -> None:
    import torch

    if accelerator.is_main_process:
        checkpoints.begin()
        (checkpoints.writing / "records.json").write_text(json.dumps(records))
        if state is not None:
            torch.save(state.state_dict(), checkpoints.writing / "state.pt")
    accelerator.wait_for_everyone()
    accelerator.save_state(str(checkpoints.writing))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        checkpoints.commit(len(records))
        if (best := judged.best(records)) is not None:
            checkpoints.remove_before(best)
    accelerator.wait_for_everyone()


def _resume(accelerator: "Accelerator", checkpoints: Checkpoints, state: State | None) -> list[dict[str, Any]]:
    """Load the last checkpoint; the records of the steps that it holds.

    Raises:
        DataError: it is of another network, optimiser or loss, or not whole.
    """
    import torch

    latest = checkpoints.latest()
    if latest is None:
        return []
    try:
        accelerator.load_state(str(latest))
        if state is not None:
            state.load_state_dict(torch.load(latest / "state.pt", weights_only=True))
        records = json.loads((latest / "records.json").read_text())
    except (RuntimeError, ValueError, KeyError, OSError) as error:  # sizes, optimiser's groups, names, files
        raise DataError(
            f"{latest}: is a checkpoint of another student, or not whole ({str(error).splitlines()[0]}); remove it, or "
            "train the student that it is of"
        ) from error
    log.info("goes on after step %d, from its checkpoint", len(records))
    return records
