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
from datagen.contracts.dataset import content_hash
from datagen.contracts.errors import ParamsError
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

    config = run.params[Config]
    images = read_images(run.inputs["images"])
    check_classes(images, run.inputs["images"], config.images_per_class)
    experts = Trajectories(run.inputs["experts"]) if "experts" in run.inputs else None
    if experts:
        experts.check(images)
    if config.transform == OF_EXPERTS:
        transform = experts.transform if experts else fit_transform(images, "standard")
    else:
        transform = fit_transform(images, config.transform)
    start = time.process_time()
    if _family(config.method) == "condense.images":
        made, curve, stopped = _learn(run, images, transform, experts)
    else:
        made, curve, stopped = _choose(run, images, transform, experts), [], None
    manifest = {
        "stage": run.name,
        "method": config.method,
        "params": run.params.values(),
        "inputs": {name: content_hash(path) for name, path in sorted(run.inputs.items())},
        "images_per_class": config.images_per_class,
    }
    metrics: dict[str, Any] = {"n_images": len(made)}
    if curve:
        last = [one["loss"] for one in curve[-10:]]
        metrics |= {"iterations": len(curve), "loss_first": curve[0]["loss"], "loss_last_10": sum(last) / len(last)}
    if made.step_size is not None:
        metrics["step_size"] = made.step_size
    if stopped is not None:
        metrics["diverged_at"] = manifest["diverged_at"] = stopped
        log.warning("%s: diverged at iteration %d; what is written is the set before it", run.name, stopped)
    run.facts["condense_cpu_seconds"] = round(time.process_time() - start, 3)
    return metrics | {"bytes": write_condensed(run.out, made, config.bits, manifest, curve)}


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
    run: Run, images: "ImageSet", transform: "Transform", experts: "Trajectories | None"
) -> tuple["CondensedSet", list[dict[str, Any]], int | None]:
    """The set, the loss of each iteration, and that at which it diverged."""
    import torch

    from condense.condensed import CondensedSet
    from condense.images import Task
    from datagen.backends.transformers_models import device_type

    config = run.params[Config]
    method = load_method("condense.images", config.method)
    device = device_type()
    if device == "cpu":
        torch.set_num_threads(config.n_threads)
    if config.net == OF_EXPERTS and experts is None:
        raise ParamsError("net: of_experts, and there are no --experts; give them, or name a net such as convnet3")
    of_experts = experts is not None and config.net == OF_EXPERTS
    task = Task(
        images=torch.as_tensor(transform.apply(images.pixels), device=device),
        labels=torch.as_tensor(images.labels, device=device),
        n_classes=len(images.classes),
        images_per_class=config.images_per_class,
        trajectories=experts,
        net=experts.manifest["net"] if of_experts and experts else config.net,
        width=experts.manifest["width"] if of_experts and experts else config.width,
        seed=derive_seed(config.seed, "condense"),
    )
    learner: Learner = getattr(method, config.method)(run.params[method.Config], task)
    facts = {
        "stage": run.name,
        "section": run.params.values(),
        "inputs": {name: content_hash(path) for name, path in sorted(run.inputs.items())},
        "code": code_hash(_CODE / "condense", _CODE / "datagen" / "contracts"),
        "torch": version("torch"),
        "device": device,
    }
    with Checkpoints.open(checkpoint_key(facts)) as checkpoints:
        learned, curve, stopped = iterate(run, learner, checkpoints)
        checkpoints.clear()
    made = CondensedSet(
        pixels=learned.pixels.detach().cpu().numpy(),
        labels=learned.labels.cpu().numpy(),
        soft_labels=None if learned.soft_labels is None else learned.soft_labels.detach().cpu().numpy(),
        step_size=learned.step_size,
        transform=transform,
        classes=images.classes,
    )
    return made, curve, stopped


def iterate(
    run: Run, learner: "Learner", checkpoints: Checkpoints
) -> tuple["Learned", list[dict[str, Any]], int | None]:
    """Every iteration that is left; a checkpoint from time to time.

    Returns:
        The last set whose loss was finite, a record an iteration, and the iteration whose loss was not, or None.
    """
    import torch

    curve: list[dict[str, Any]] = []
    if latest := checkpoints.latest():
        held = torch.load(latest / "state.pt", weights_only=True)
        learner.load_state_dict(held["learner"])
        curve = held["curve"]
        log.info("goes on after iteration %d, from its checkpoint", len(curve))
    saved = time.monotonic()
    good = learner.result()
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
                checkpoints.begin()
                torch.save({"learner": learner.state_dict(), "curve": curve}, checkpoints.writing / "state.pt")
                checkpoints.commit(iteration + 1)
                saved = time.monotonic()
    last = learner.result()
    if not torch.isfinite(last.pixels).all():
        return good, curve, learner.n_iterations
    return last, curve, None


def _choose(run: Run, images: "ImageSet", transform: "Transform", experts: "Trajectories | None") -> "CondensedSet":
    """A coreset: real images, which lose nothing by being stored."""
    from condense.condensed import CondensedSet
    from condense.coresets import Candidates

    config = run.params[Config]
    method = load_method("condense.coresets", config.method)
    pixels = transform.apply(images.pixels)
    if config.features == "expert" and experts is None:
        raise ParamsError("features: expert, and there are no --experts; give them, or set features=pixels")
    features = pixels.reshape(len(images), -1)
    correct = None
    if experts:
        from condense.embedding import embed, history

        features = embed(experts, pixels) if config.features == "expert" else features
        correct = history(experts, pixels, images.labels) if hasattr(method, "READS_TRAINING") else None
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
