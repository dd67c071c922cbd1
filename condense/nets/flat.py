"""A net as a function of one vector of parameters, which trajectories and matching work on.

Source: none; `torch.func.functional_call` does the work.
"""

from torch import Tensor, nn
from torch.func import functional_call

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
        return functional_call(self._module, self.parts(parameters), (images,))

    def features(self, parameters: Tensor, images: Tensor) -> Tensor:
        """(B, D) what the last layer reads."""
        start = "features."
        own = {name.removeprefix(start): one for name, one in self.parts(parameters).items() if name.startswith(start)}
        features = self._module.get_submodule("features")
        return functional_call(features, own, (images,))
