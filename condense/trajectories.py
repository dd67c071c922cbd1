"""Experts' trajectories as they are stored: the parameters of nets after initialisation and after every epoch.

    part-00000.safetensors   one expert: `parameters`, (E + 1, P) float32 for E epochs, and `n_right`, of the training
                             images after the last epoch
    transform.safetensors    of the images that the experts saw
    manifest.json            net, width, shape, classes, the method with its params, inputs and files by hash

Parameters are read from the mapped file when they are asked for, so many experts take no memory.

Source: none; safetensors is read as https://huggingface.co/docs/safetensors says.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from condense.nets.flat import FlatNet
from condense.nets.opening import open_net
from condense.pixels.transform import Floats, Transform
from datagen.contracts.dataset import content_hash, read_manifest, write_json
from datagen.contracts.errors import DataError
from datagen.contracts.images import ImageSet

RECORD = "Trajectories"
TRANSFORM = "transform.safetensors"
_REMEDY = "train the experts again"


def part(index: int) -> str:
    """Name of an expert's file."""
    return f"part-{index:05d}.safetensors"


class Trajectories:
    """A folder of experts."""

    def __init__(self, path: Path) -> None:
        """Open a folder that `datastill experts` wrote; its files' lengths and shapes are checked.

        Raises:
            DataError: it is none, or a file is missing, cut short or of another net.
            ParamsError: its net is none of this version's.
        """
        self.path = path
        self.manifest: dict[str, Any] = read_manifest(path)
        if (held := self.manifest.get("record")) != RECORD:
            raise DataError(f"{path}: holds {held} rows, no trajectories; give what `datastill experts` wrote")
        self.shape: tuple[int, int, int] = tuple(self.manifest["shape"])
        self.n_epochs: int = self.manifest["epochs"]
        self.net = self._open_net()
        self.transform = Transform.of(_arrays(path / TRANSFORM), self.shape)
        wanted = (self.n_epochs + 1, self.manifest["n_parameters"])
        if self.net.n_parameters != wanted[1]:
            raise DataError(
                f"{path}: holds {wanted[1]} parameters a net, {self.manifest['net']} of width {self.manifest['width']} "
                f"has {self.net.n_parameters} here; train the experts again"
            )
        files = [_open(path / part(i)) for i in range(self.manifest["n_trajectories"])]
        self._parameters = [file.get_slice("parameters") for file in files]
        for i, one in enumerate(self._parameters):
            if (found := tuple(one.get_shape())) != wanted:
                raise DataError(f"{path / part(i)}: parameters are {found}, expected {wanted}; {_REMEDY}")

    def __len__(self) -> int:
        """Number of experts."""
        return len(self._parameters)

    def at(self, index: int, epoch: int) -> Tensor:
        """(P,) float32 of an expert after `epoch` epochs, 0 to `n_epochs`; a copy, on the CPU."""
        if not 0 <= epoch <= self.n_epochs:
            raise IndexError(f"epoch {epoch} of experts that trained for {self.n_epochs}")
        return self._parameters[index][epoch : epoch + 1][0].clone()

    def check(self, images: ImageSet) -> None:
        """The experts saw such images.

        Raises:
            DataError: these have another shape or other classes.
        """
        if images.shape != self.shape:
            raise DataError(
                f"{self.path}: the experts saw images of {_named(self.shape)}, these are {_named(images.shape)}; "
                "train experts on these"
            )
        if list(images.classes) != self.manifest["classes"]:
            raise DataError(
                f"{self.path}: the experts know the classes {_list(self.manifest['classes'])}, these images are of "
                f"{_list(images.classes)}; train experts on these"
            )

    def _open_net(self) -> FlatNet:
        name, width, n_classes = self.manifest["net"], self.manifest["width"], len(self.manifest["classes"])
        return FlatNet(open_net(name, self.shape, n_classes, width=width, seed=0))


def write_trajectories(folder: Path, transform: Transform, manifest: dict[str, Any]) -> None:
    """Write beside the experts' files in `folder` what makes them a dataset."""
    write_whole(folder / TRANSFORM, save(dict(sorted(transform.arrays().items()))))
    files = {file.name: content_hash(file) for file in sorted(folder.glob("*.safetensors"))}
    write_json(folder / "manifest.json", {**manifest, "format": "datastill", "record": RECORD, "files": files})


def write_whole(file: Path, content: bytes) -> None:
    """Whole or not at all, and on disk."""
    writing = file.with_name(f".{file.name}.writing")
    with writing.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(writing, file)


def expert_arrays(parameters: Floats, n_right: int) -> dict[str, Any]:
    """The arrays of an expert's file."""
    return {"n_right": np.array([n_right], dtype=np.int64), "parameters": parameters}


def _arrays(file: Path) -> dict[str, Floats]:
    opened = _open(file)
    return {name: opened.get_tensor(name).numpy().copy() for name in sorted(opened.keys())}


def _open(file: Path) -> Any:  # safe_open has no types
    try:
        return safe_open(file, framework="pt")
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; {_REMEDY}") from None
    except (SafetensorError, OSError) as error:
        raise DataError(f"{file}: cut short or damaged ({error}); {_REMEDY}") from None


def _named(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 10 else f"{', '.join(names[:10])} and {len(names) - 10} more"
