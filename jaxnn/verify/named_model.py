"""A model whose values between layers, and their cotangents, have names.

A report on such a model has a link for each of these cotangents. Who wants that of a layer asks for it by
`name_of_dx`, or by `NAME_OF_DZ` for that of the loss: the words of a name are read by people alone.
"""

import dataclasses

from jax import Array
from jax import numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike

from jaxnn.layers.chain import Chain
from jaxnn.protocols import Layer, LossPair, Params, Residuals

NAME_OF_Z = "z"
NAME_OF_DZ = f"d{NAME_OF_Z}"  # links.py puts dv beside v


def name_of_x(n: int, layer: Layer) -> str:
    """What the x of layer n of a chain is called; n counts from 0."""
    return f"x of layer {n} ({type(layer).__name__})"


def name_of_dx(n: int, layer: Layer) -> str:
    """What the ∂J/∂x of layer n of a chain is called."""
    return f"d{name_of_x(n, layer)}"


def named(model: Layer) -> Layer:
    """The model with names for the values that go from layer to layer, so that a wrong layer is found."""
    if not isinstance(model, Chain) or not model.layers:
        return model
    first, *others = model.layers
    return Chain((first, *(NamedLayer(layer, n) for n, layer in enumerate(others, 1))))


@dataclasses.dataclass(frozen=True)
class NamedLayer:
    """Layer n of a chain, whose x and dx have names."""

    layer: Layer
    n: int

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> Params:
        return self.layer.init(key, dtype)

    def forward(self, params: Params, x: Array, key: Array | None = None) -> tuple[Array, Residuals]:
        return self.layer.forward(params, checkpoint_name(x, name_of_x(self.n, self.layer)), key)

    def backward(self, residuals: Residuals, dout: Array) -> tuple[Params, Array | None]:
        dparams, dx = self.layer.backward(residuals, dout)
        return dparams, checkpoint_name(dx, name_of_dx(self.n, self.layer))

    def apply(self, params: Params, x: Array) -> Array:
        return self.layer.apply(params, x)


@dataclasses.dataclass(frozen=True)
class NamedLoss:
    """A loss whose z and dz have names."""

    loss: LossPair

    def forward(self, z: Array, y: Array, w: Array | None = None) -> tuple[Array, Residuals]:
        return self.loss.forward(checkpoint_name(z, NAME_OF_Z), y, w)

    def backward(self, residuals: Residuals) -> Array:
        return checkpoint_name(self.loss.backward(residuals), NAME_OF_DZ)
