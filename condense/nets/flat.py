"""A net as a function of one vector of parameters, which trajectories and matching work on.

Source: none. It does what `torch.func.functional_call` does, for parameters that are always all given: a copy of the
module has none of its own, and the vector's views are set as plain attributes, which costs a small net's step less.
"""

import copy

from torch import Tensor, nn

from datagen.contracts.errors import ParamsError


class FlatNet:
    """`net(parameters, images)` gives logits; `parameters` is (P,), in the order of the module's own."""

    def __init__(self, module: nn.Module) -> None:
        """Of a module without buffers: batch statistics are no parameters.

        Raises:
            ParamsError: it has some.
        """
        if buffers := [name for name, _ in module.named_buffers()]:
            raise ParamsError(
                f"net: has state that is no parameter ({buffers[0]}); matching needs another normalisation, such as "
                "instance"
            )
        self._module = module
        self._names = [name for name, _ in module.named_parameters()]
        self.shapes = [parameter.shape for parameter in module.parameters()]
        self._sizes = [shape.numel() for shape in self.shapes]
        self._bare = copy.deepcopy(module)
        places = {parameter: place for place, parameter in enumerate(self._bare.parameters())}
        self._slots: list[tuple[nn.Module, str, int]] = []  # an owner, its attribute, the place in the vector's views
        for owner in self._bare.modules():
            for name, parameter in list(owner.named_parameters(recurse=False)):
                self._slots.append((owner, name, places[parameter]))
                delattr(owner, name)

    @property
    def n_parameters(self) -> int:
        """P."""
        return sum(self._sizes)

    def initial(self) -> Tensor:
        """(P,) the module's own parameters, a copy."""
        return nn.utils.parameters_to_vector(self._module.parameters()).detach().clone()

    def parts(self, parameters: Tensor) -> dict[str, Tensor]:
        """Views of (P,) by name, each of its parameter's shape."""
        views = parameters.split(self._sizes)
        return {name: view.view(shape) for name, view, shape in zip(self._names, views, self.shapes, strict=True)}

    def __call__(self, parameters: Tensor, images: Tensor) -> Tensor:
        """(B, classes) logits of (B, C, H, W)."""
        return self._call(self._bare, parameters, images)

    def features(self, parameters: Tensor, images: Tensor) -> Tensor:
        """(B, D) what the last layer reads."""
        return self._call(self._bare.get_submodule("features"), parameters, images)

    def _call(self, module: nn.Module, parameters: Tensor, images: Tensor) -> Tensor:
        views = [view.view(shape) for view, shape in zip(parameters.split(self._sizes), self.shapes, strict=True)]
        for owner, name, place in self._slots:
            owner.__dict__[name] = views[place]  # a module's own setattr first looks whether it is a parameter
        try:
            return module(images)
        finally:
            for owner, name, _ in self._slots:
                owner.__dict__[name] = None  # else it holds the graph of the last call
