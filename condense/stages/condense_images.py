"""Condense an image set: a method makes a few images that train students as many do, or chooses some as a coreset.

--images is a dataset of Images or an .npz file with `image` and `label`; --experts what `datastill experts` made of the
same images, for the methods that follow experts. The output is a dataset of Images with the condensed set beside them
(condense/condensed.py). A run that was killed goes on from its checkpoint and ends with the same bytes. A run that
diverges ends with the last set of which the loss was finite, and says at which iteration.
"""

import math
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from datagen.contracts.checkpoint import Checkpoints, checkpoint_key, code_hash, interval_s
from datagen.contracts.errors import ParamsError
from datagen.contracts.licences import made_of
from datagen.contracts.params import Params, Parts, validate
from datagen.contracts.seeding import derive_seed
from datagen.contracts.stage import Run, Stage, find_methods, load_method, log, main

if TYPE_CHECKING:  # a stage reads a Config without torch
    from condense.condensed import CondensedSet
    from condense.images import Learned, Learner
    from condense.pixels.transform import Transform
    from condense.trajectories import Trajectories
    from datagen.contracts.images import ImageSet

DEFAULT_METHOD = "trajectory_matching"
OF_EXPERTS = "of_experts"
FAMILIES = ("condense.images", "condense.coresets")
_CODE = Path(__file__).parents[2]


class Config(Params):
    """What is condensed, and how much is left.

    Attributes:
        method: of `condense.images`, or of `condense.coresets`.
        images_per_class: of the condensed set.
        net: of the students, for methods that follow no experts; of_experts is theirs.
        width: of that net.
        transform: of the pixels, for methods that follow no experts; of_experts is theirs.
        features: what a coreset is chosen by: pixels as networks see them, or what an expert's last layer reads.
        bits: a made pixel is stored in; see `condense.condensed`.
        n_threads: on the CPU, where rounding depends on it.
        seed: of everything that is drawn.
    """

    method: str = DEFAULT_METHOD
    images_per_class: int = Field(1, ge=1)
    net: str = OF_EXPERTS
    width: int = Field(128, ge=1)
    transform: Literal["of_experts", "standard", "zca"] = OF_EXPERTS
    features: Literal["pixels", "expert"] = "pixels"
    bits: Literal[8, 16, 32] = 8
    n_threads: int = Field(2, ge=1)
    seed: int = 0


def parse(section: Mapping[str, Any]) -> Parts:
    """The section against this stage's and the method's Config."""
    name = section.get("method", DEFAULT_METHOD)
    method = load_method(_family(name), name)
    return validate({**section, "method": name}, Config, method.Config)


def run(run: Run) -> dict[str, Any]:
    """Write the condensed set."""
    from condense.condensed import write_condensed
    from condense.pixels.transform import fit_transform
    from condense.trajectories import Trajectories
    from datagen.contracts.images import check_classes, read_images

    config, method = run.params[Config], run.params[Config].method
    images = read_images(run.inputs["images"])
    check_classes(images, run.inputs["images"], config.images_per_class)
    experts = Trajectories(run.inputs["experts"]) if "experts" in run.inputs else None
    if experts:
        experts.check(images)
        _check_agrees(config, experts)
    kind = "standard" if config.transform == OF_EXPERTS else config.transform
    transform = experts.transform if experts else fit_transform(images, kind)
    manifest: dict[str, Any] = {
        "stage": run.name,
        "method": method,
        "params": run.params.values(),
        **made_of(run.inputs),
        "images_per_class": config.images_per_class,
    }
    with Checkpoints.open(_key(manifest)) as checkpoints:
        if _family(method) == "condense.images":
            made, curve, stopped = _learn(run, images, transform, experts, checkpoints)
        else:
            made, curve, stopped = _choose(run, images, transform, experts), [], None
        metrics: dict[str, Any] = {"n_images": len(made)}
        if curve:
            last = [one["loss"] for one in curve[-10:]]
            metrics |= {"iterations": len(curve), "loss_first": curve[0]["loss"], "loss_last_10": sum(last) / len(last)}
        if made.step_size is not None:
            metrics["step_size"] = made.step_size
        if stopped is not None:
            metrics["diverged_at"] = manifest["diverged_at"] = stopped
            log.warning("%s: diverged at iteration %d; what is written is the set before it", run.name, stopped)
        metrics |= _skipped(run, [one["loss"] for one in curve])
        metrics["bytes"] = write_condensed(run.out, made, config.bits, manifest, curve)
        checkpoints.clear()
    return metrics


def _check_agrees(config: Config, experts: "Trajectories") -> None:
    """What the params say of net and pixels is what the experts have.

    Raises:
        ParamsError: it is something else.
    """
    theirs = {"net": experts.manifest["net"], "width": experts.manifest["width"], "transform": experts.transform.kind}
    for key, value in theirs.items():
        if key in config.model_fields_set and (said := getattr(config, key)) not in (OF_EXPERTS, value):
            raise ParamsError(
                f"{key}: the experts in {experts.path} have {value} (got {said}); leave it out, or give none"
            )


def _key(manifest: Mapping[str, Any]) -> str:
    """Of the checkpoints: everything that determines the set."""
    from datagen.backends.transformers_models import device_type

    without_licences = {name: value for name, value in manifest.items() if name != "licences"}
    code = code_hash(_CODE / "condense", _CODE / "datagen" / "contracts")
    return checkpoint_key({**without_licences, "code": code, "torch": version("torch"), "device": device_type()})


def _skipped(run: Run, losses: list[float]) -> dict[str, int]:
    """How many iterations the method took no notice of, where it has a bound."""
    method = load_method(_family(run.params[Config].method), run.params[Config].method)
    if not losses or not hasattr(method, "n_skipped"):
        return {}
    skipped: int = method.n_skipped(run.params[method.Config], losses)
    if skipped == len(losses):
        log.warning("%s: every loss was above max_loss, so nothing was learned; raise it", run.name)
    return {"skipped": skipped}


def _family(method: object) -> str:
    """The family that has it.

    Raises:
        ParamsError: none; the message lists both families' methods.
    """
    found = {name: family for family in FAMILIES for name in find_methods(family)}
    if method not in found:
        raise ParamsError(f"method: no {method!r}; there are {', '.join(sorted(found))}")
    return found[str(method)]


def _learn(
    run: Run, images: "ImageSet", transform: "Transform", experts: "Trajectories | None", checkpoints: Checkpoints
) -> tuple["CondensedSet", list[dict[str, Any]], int | None]:
    """The set, the loss of each iteration, and that at which it diverged."""
    import torch

    from condense.condensed import CondensedSet
    from condense.images import Task

    config = run.params[Config]
    method = load_method("condense.images", config.method)
    device = _device(config)
    if config.net == OF_EXPERTS and experts is None:
        raise ParamsError("net: of_experts, and there are no --experts; give them, or name a net such as convnet3")
    task = Task(
        images=torch.as_tensor(transform.apply(images.pixels), device=device),
        labels=torch.as_tensor(images.labels, device=device),
        n_classes=len(images.classes),
        images_per_class=config.images_per_class,
        trajectories=experts,
        net=experts.manifest["net"] if experts else config.net,
        width=experts.manifest["width"] if experts else config.width,
        seed=derive_seed(config.seed, "condense"),
    )
    learner: Learner = getattr(method, config.method)(run.params[method.Config], task)
    learned, curve, stopped = iterate(run, learner, checkpoints)
    made = CondensedSet(
        pixels=learned.pixels.detach().cpu().numpy(),
        labels=learned.labels.cpu().numpy(),
        soft_labels=None if learned.soft_labels is None else learned.soft_labels.detach().cpu().numpy(),
        step_size=learned.step_size,
        transform=transform,
        classes=images.classes,
    )
    return made, curve, stopped


def _device(config: Config) -> str:
    """Where to work; on the CPU, in as many threads as the params say."""
    import torch

    from datagen.backends.transformers_models import device_type

    device = device_type()
    if device == "cpu":
        torch.set_num_threads(config.n_threads)
    return device


def iterate(
    run: Run, learner: "Learner", checkpoints: Checkpoints
) -> tuple["Learned", list[dict[str, Any]], int | None]:
    """Every iteration that is left; a checkpoint from time to time, which keeps the seconds that it took so far.

    Returns:
        The last set whose loss was finite, a record an iteration, and the iteration whose loss was not, or None.
    """
    import torch

    from condense.images import Learned

    curve: list[dict[str, Any]] = []
    good, earlier_s = learner.result(), 0.0
    if latest := checkpoints.latest():
        held = torch.load(latest / "state.pt", weights_only=True, map_location=good.pixels.device)
        learner.load_state_dict(held["learner"])
        curve, good, earlier_s = held["curve"], Learned(**held["good"]), held["seconds"]
        run.facts["seconds_before_resuming"] = round(earlier_s, 3)
        log.info("goes on after iteration %d, from its checkpoint", len(curve))
    start = saved = time.monotonic()
    with run.progress(learner.n_iterations, "iterations") as bar:
        bar.advance(len(curve))
        for iteration in range(len(curve), learner.n_iterations):
            before = learner.result()
            loss = learner.step(iteration)
            if not math.isfinite(loss):
                return good, curve, iteration
            good = before
            curve.append({"iteration": iteration, "loss": loss})
            bar.advance(1, note=f"loss {loss:.4f}")
            if time.monotonic() - saved >= interval_s() and iteration + 1 < learner.n_iterations:
                saved = time.monotonic()
                state = {"learner": learner.state_dict(), "curve": curve, "good": vars(good)}
                checkpoints.begin()
                torch.save({**state, "seconds": earlier_s + saved - start}, checkpoints.writing / "state.pt")
                checkpoints.commit(iteration + 1)
    last = learner.result()
    return (last, curve, None) if _is_finite(last) else (good, curve, learner.n_iterations)


def _is_finite(learned: "Learned") -> bool:
    import torch

    numbers = [learned.pixels, learned.soft_labels, learned.step_size]
    return all(bool(torch.isfinite(torch.as_tensor(one)).all()) for one in numbers if one is not None)


def _choose(run: Run, images: "ImageSet", transform: "Transform", experts: "Trajectories | None") -> "CondensedSet":
    """A coreset: real images, which lose nothing by being stored."""
    import torch

    from condense.condensed import CondensedSet
    from condense.coresets import Candidates

    config = run.params[Config]
    method = load_method("condense.coresets", config.method)
    pixels = transform.apply(images.pixels)
    if config.features == "expert" and experts is None:
        raise ParamsError("features: expert, and there are no --experts; give them, or set features=pixels")
    features, correct = pixels.reshape(len(images), -1), None
    if experts:
        from condense.embedding import embed, history

        device = _device(config)
        seen = torch.as_tensor(pixels, device=device)
        if config.features == "expert":
            features = embed(experts, seen).cpu().numpy()
        if hasattr(method, "READS_TRAINING"):
            correct = history(experts, seen, torch.as_tensor(images.labels, device=device)).cpu().numpy()
    sizes = [config.images_per_class] * len(images.classes)
    candidates = Candidates(features=features, labels=images.labels, correct=correct)
    chosen = getattr(method, config.method)(run.params[method.Config], candidates, sizes, seed=config.seed)
    taken = images.take(chosen)
    return CondensedSet(
        pixels=pixels[chosen], labels=taken.labels, transform=transform, classes=images.classes, raw=taken.pixels
    )


STAGE = Stage(
    name="condense_images",
    parse=parse,
    inputs={"images": "dataset of Images to condense, or an .npz file with image and label"},
    optional_inputs={"experts": "experts' trajectories on these images, as `datastill experts` writes them"},
    run=run,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
