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
from jaxnn.layers.repeat import Repeat
from jaxnn.layers.residual import Residual
from jaxnn.layers.tied import Tied
from jaxnn.protocols import Layer, LossPair, Params, PyTree, Residuals, ThriftyLayer

NAME_OF_Z = "z"
NAME_OF_DZ = f"d{NAME_OF_Z}"  # links.py puts dv beside v


def name_of_x(place: str, layer: Layer) -> str:
    """What the x of a layer is called. place: the number of the layer in its chain, from 0, after that of the layer
    which the chain is a part of, such as 1/0/2, if there is one."""
    return f"x of layer {place} ({type(layer).__name__})"


def name_of_dx(place: str, layer: Layer) -> str:
    """What the ∂J/∂x of the layer at this place is called."""
    return f"d{name_of_x(place, layer)}"


def named(model: Layer, place: str = "") -> Layer:
    """The model with names for the values that go from layer to layer, so that a wrong layer is found. place: of the
    model in another one."""
    if isinstance(model, Residual | Repeat | Tied):
        return dataclasses.replace(model, layer=named(model.layer, place))
    if not isinstance(model, Chain):
        return model
    places = [f"{place}/{n}" if place else str(n) for n in range(len(model.layers))]
    names = [*map(name_of_x, places, model.layers), None]
    layers: list[Layer] = []
    for n, layer in enumerate(model.layers):
        kind = NamedThriftyLayer if hasattr(layer, "again") else NamedLayer
        is_first_of_part = place and not n  # the x of the whole model has no ∂J/∂x
        layers.append(kind(named(layer, places[n]), names[n] if is_first_of_part else None, names[n + 1]))
    return Chain(tuple(layers))


@dataclasses.dataclass(frozen=True)
class NamedLayer:
    """A layer whose x and out have names, and their cotangents too; None where they have none."""

    layer: Layer
    x: str | None
    out: str | None

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> Params:
        return self.layer.init(key, dtype)

    def forward(self, params: Params, x: PyTree, key: Array | None = None) -> tuple[PyTree, Residuals]:
        out, residuals = self.layer.forward(params, with_name(x, self.x), key)
        return with_name(out, self.out), residuals

    def backward(self, residuals: Residuals, dout: PyTree) -> tuple[Params, PyTree]:
        dparams, dx = self.layer.backward(residuals, with_name(dout, self.out, "d"))
        return dparams, with_name(dx, self.x, "d")

    def apply(self, params: Params, x: PyTree) -> PyTree:
        return self.layer.apply(params, x)


class NamedThriftyLayer(NamedLayer):
    """The same of a `ThriftyLayer`, whose output the chain makes again."""

    layer: ThriftyLayer

    def again(self, residuals: Residuals) -> Array:
        return self.layer.again(residuals)


def with_name(v: PyTree, name: str | None, of: str = "") -> PyTree:
    return v if name is None else checkpoint_name(v, of + name)


@dataclasses.dataclass(frozen=True)
class NamedLoss:
    """A loss whose z and dz have names."""

    loss: LossPair

    def forward(self, z: Array, y: Array, w: Array | None = None) -> tuple[Array, Residuals]:
        return self.loss.forward(checkpoint_name(z, NAME_OF_Z), y, w)

    def backward(self, residuals: Residuals) -> Array:
        return checkpoint_name(self.loss.backward(residuals), NAME_OF_DZ)
