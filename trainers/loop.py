"""The training loop: any network, any loss, on one process or many, killed or not.

A loss gives a sum and a count for a micro-batch. The loop adds both over the micro-batches of a step and over the
processes, and divides the gradient once, so a step is the same for any split of its rows. Order and noise derive from
(seed, epoch, step), so a run that was killed ends where an unbroken one ends: bit for bit on the CPU, for one number
of threads and processes.

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
import json
import logging
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from pydantic import Field, ValidationInfo, field_validator

from datagen.backends.transformers_models import device_type
from datagen.contracts.checkpoint import Checkpoints, interval_s
from datagen.contracts.errors import MissingError, ParamsError
from datagen.contracts.home import home
from datagen.contracts.params import Params
from datagen.contracts.seeding import derive_seed

if TYPE_CHECKING:  # a stage reads Config without torch
    import torch
    from accelerate import Accelerator

    from trainers.objectives import SumCount

Row = TypeVar("Row", bound=Sized)
Schedule = Literal["constant", "linear", "cosine", "step"]
TRACKERS = ("trackio", "wandb", "mlflow")

log = logging.getLogger(__name__)


class Config(Params):
    """How a network is trained.

    A step takes `batch_size` rows; `micro_batch_tokens` (padding included) bounds how many go through the network at
    once, and no result depends on it but by rounding. `warmup_share` is the share of the steps during which the rate
    rises to `learning_rate`. `precision` bfloat16 is autocast over float32 weights. `n_threads` counts on the CPU only,
    where rounding depends on it. `momentum` is of sgd; the others have their own. A gradient longer than
    `max_gradient_norm` is cut to it, null leaves every gradient as it is.
    """

    epochs: int = Field(3, ge=1)
    max_steps: int | None = Field(None, ge=1)
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

    @field_validator("momentum")
    @classmethod
    def _is_of_sgd(cls, value: float, info: ValidationInfo) -> float:
        if value and (optimizer := info.data.get("optimizer", "sgd")) != "sgd":
            raise ValueError(f"{optimizer} has momentum of its own; set optimizer=sgd, or leave momentum out")
        return value


def train(
    model: "torch.nn.Module",
    rows: Sequence[Row],
    loss: "Callable[[torch.nn.Module, Sequence[Row], torch.device], SumCount]",
    config: Config,
    checkpoints: Checkpoints,
    advance: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Train `model` in place, from the last checkpoint where there is one.

    Args:
        model: float32 weights.
        rows: whose `len` is their cost in tokens; not empty.
        loss: of some rows, on a device.
        config: of the loop.
        checkpoints: of this training and no other.
        advance: called after every step with its record.

    Returns:
        A record a step: step from 1, epoch from 0, loss (mean before the update), learning_rate, gradient_norm (before
        clipping) and count (of what the loss is a mean over).
    """
    import torch

    if device_type() == "cpu":
        torch.set_num_threads(config.n_threads)
    accelerator = _accelerator(config)
    network, prepared = accelerator.prepare(model.train(), _optimizer(model, config))
    optimizer = prepared.optimizer  # the wrapper looks for packages at every step
    records = _resume(accelerator, checkpoints)
    plan = list(_steps(config, len(rows)))
    for record in records:
        _track(accelerator, record)
        advance(record)
    saved = time.monotonic()
    for step, (epoch, chosen) in enumerate(plan[len(records) :], start=len(records)):
        _seed_noise(derive_seed(config.seed, "noise", step, accelerator.process_index))
        rate = config.learning_rate * rate_factor(step, len(plan), config)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = [rows[i] for i in chosen]
        mean, norm, count = _step(accelerator, network, optimizer, batch, loss, config)
        record = {
            "step": step + 1, "epoch": epoch, "loss": mean, "learning_rate": rate, "gradient_norm": norm, "count": count
        }  # fmt: skip
        records.append(record)
        _track(accelerator, record)
        advance(record)
        if step + 1 < len(plan) and _is_due(accelerator, saved):
            _save(accelerator, checkpoints, records)
            saved = time.monotonic()
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.unwrap_model(network, keep_fp32_wrapper=False)  # the model's own forward, without autocast
    return records


def n_steps(config: Config, n_rows: int) -> int:
    """Optimiser steps that training on `n_rows` takes; the last step of an epoch may be smaller."""
    steps = config.epochs * math.ceil(n_rows / config.batch_size)
    return min(steps, config.max_steps or steps)


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


def micro_batches(rows: Sequence[Row], max_tokens: int, n_processes: int) -> list[list[list[Row]]]:
    """A step's rows, cut for each process into as many micro-batches as for every other.

    Rows of similar length come together. A process that has no row left for a micro-batch gets an empty one.
    """
    by_length = sorted(rows, key=len, reverse=True)
    cut = [_cut(by_length[process::n_processes], max_tokens) for process in range(n_processes)]
    n_most = max(map(len, cut))
    return [mine + [[]] * (n_most - len(mine)) for mine in cut]


def _cut(by_length: Sequence[Row], max_tokens: int) -> list[list[Row]]:
    """Longest first, so the first row of a micro-batch says how wide it is."""
    cut: list[list[Row]] = []
    for row in by_length:
        if cut and (len(cut[-1]) + 1) * len(cut[-1][0]) <= max_tokens:
            cut[-1].append(row)
        else:
            cut.append([row])
    return cut


def _steps(config: Config, n_rows: int) -> Iterator[tuple[int, list[int]]]:
    """(epoch, row positions) of every step; each epoch has an order of its own."""
    left = n_steps(config, n_rows)
    for epoch in range(config.epochs):
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


def _step(
    accelerator: "Accelerator",
    network: Any,
    optimizer: Any,
    rows: Sequence[Any],
    loss: Callable[..., Any],
    config: Config,
) -> tuple[float, float, int]:
    """Mean loss, gradient norm and count of one update."""
    import torch

    mine = micro_batches(rows, config.micro_batch_tokens, accelerator.num_processes)[accelerator.process_index]
    totals = torch.zeros(2, dtype=torch.float64, device=accelerator.device)  # sum, count
    for i, micro_batch in enumerate(mine):
        # Sharded networks need every process in every pass, so one without rows goes along at weight 0.
        part = loss(network, micro_batch or rows[:1], accelerator.device)
        weight = 1.0 if micro_batch else 0.0
        totals += weight * torch.stack([part.sum.detach().double(), part.n.double()])
        synchronise = i == len(mine) - 1
        with contextlib.nullcontext() if synchronise else accelerator.no_sync(network):
            accelerator.backward(weight * part.sum)
    totals = cast("torch.Tensor", accelerator.reduce(totals, reduction="sum"))
    loss_sum, count = totals.tolist()
    if not count:
        raise ValueError("a step without anything to learn from; leave such rows out")
    for parameter in network.parameters():
        if parameter.grad is not None:
            parameter.grad.mul_(accelerator.num_processes / count)  # processes' gradients come as their mean
    longest = math.inf if config.max_gradient_norm is None else config.max_gradient_norm
    norm = cast("torch.Tensor", accelerator.clip_grad_norm_(network.parameters(), longest))
    optimizer.step()
    optimizer.zero_grad()
    return loss_sum / count, float(norm), int(count)


def _accelerator(config: Config) -> "Accelerator":
    from accelerate import Accelerator

    tracker = find_tracker()
    accelerator = Accelerator(
        cpu=device_type() == "cpu",
        mixed_precision="bf16" if config.precision == "bfloat16" else "no",
        log_with=None if tracker == "none" else tracker,
    )
    if tracker != "none":
        folder = home() / "trackers"
        offline = {
            "TRACKIO_DIR": folder / "trackio",
            "WANDB_MODE": "offline",
            "WANDB_DIR": folder,
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        }
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in offline.items():
            os.environ.setdefault(name, str(value))
        accelerator.init_trackers("datastill", config.model_dump(mode="json"))
    return accelerator


def _track(accelerator: "Accelerator", record: Mapping[str, Any]) -> None:
    """Tell the tracker of a step, of those before the checkpoint too: a run that goes on is a new one to it."""
    accelerator.log({name: record[name] for name in ("loss", "learning_rate", "gradient_norm")}, step=record["step"])


def find_tracker() -> str:
    """`$DATASTILL_REPORT_TO`: `none`, the default, or a tracker, which then keeps its files under the home folder.

    Raises:
        ParamsError: it names no tracker.
        MissingError: the tracker's package is not installed.
    """
    name = os.environ.get("DATASTILL_REPORT_TO") or "none"
    if name != "none" and name not in TRACKERS:
        raise ParamsError(f"$DATASTILL_REPORT_TO: expected none, {', '.join(TRACKERS)} (got {name!r})")
    if name != "none" and find_spec(name) is None:
        raise MissingError(f"$DATASTILL_REPORT_TO is {name}, which is not installed: `pip install {name}`, or unset it")
    return name


def _is_due(accelerator: "Accelerator", saved: float) -> bool:
    """Whether the main process's clock says that it is time for a checkpoint."""
    import torch

    due = torch.tensor(time.monotonic() - saved >= interval_s(), dtype=torch.int64, device=accelerator.device)
    if accelerator.num_processes > 1:
        torch.distributed.broadcast(due, src=0)
    return bool(due)


def _save(accelerator: "Accelerator", checkpoints: Checkpoints, records: Sequence[Mapping[str, Any]]) -> None:
    if accelerator.is_main_process:
        checkpoints.begin()
        (checkpoints.writing / "records.json").write_text(json.dumps(records))
    accelerator.wait_for_everyone()
    accelerator.save_state(str(checkpoints.writing))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        checkpoints.commit(len(records))
    accelerator.wait_for_everyone()


def _resume(accelerator: "Accelerator", checkpoints: Checkpoints) -> list[dict[str, Any]]:
    """Load the last checkpoint; the records of the steps that it holds."""
    latest = checkpoints.latest()
    if latest is None:
        return []
    accelerator.load_state(str(latest))
    records = json.loads((latest / "records.json").read_text())
    log.info("goes on after step %d, from its checkpoint", len(records))
    return records
