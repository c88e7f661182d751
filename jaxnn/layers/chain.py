"""out = f_n(… f_2(f_1(x))): the chain rule, once."""

from dataclasses import dataclass

import jax
from jax import Array
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn.layers.activation import Activation
from jaxnn.layers.dense import Dense
from jaxnn.protocols import Layer, LayerExample, Params, Part, PyTree, Residuals, moved


@dataclass(frozen=True)
class Chain:
    """Layers one after the other; itself a layer. `params` is the tuple of the layers' params.

    With x_0 = x and x_i = f_i(x_{i−1}):
    ∂J/∂x_{i−1} = (∂x_i/∂x_{i−1})ᵀ ∂J/∂x_i    x_{i−1} reaches J through x_i alone

    Layer i draws from `fold_in(key, i)`, so adding a layer at the end leaves the others as they were.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))  # a list would not hash

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> tuple[Params, ...]:
        return tuple(layer.init(jax.random.fold_in(key, i), dtype) for i, layer in enumerate(self.layers))

    def forward(
        self, params: tuple[Params, ...], x: Array, key: Array | None = None
    ) -> tuple[Array, tuple[Residuals, ...]]:
        residuals = []
        for i, (layer, p) in enumerate(zip(self.layers, params, strict=True)):
            x, r = layer.forward(p, x, None if key is None else jax.random.fold_in(key, i))
            residuals.append(r)
        return x, tuple(residuals)

    def backward(self, residuals: tuple[Residuals, ...], dout: Array) -> tuple[tuple[Params, ...], Array | None]:
        grads: list[Params] = []
        dx: PyTree = dout
        for layer, r in zip(reversed(self.layers), reversed(residuals), strict=True):
            grad, dx = layer.backward(r, dx)
            grads.append(grad)
        return tuple(reversed(grads)), dx

    def apply(self, params: tuple[Params, ...], x: Array) -> Array:
        for layer, p in zip(self.layers, params, strict=True):
            x = layer.apply(p, x)
        return x

    def moved(self, params: tuple[Params, ...], residuals: tuple[Residuals, ...]) -> tuple[Params, ...]:
        return tuple(map(moved, self.layers, params, residuals))

    def parts(self, params: tuple[Params, ...], residuals: tuple[Residuals, ...] | None) -> tuple[Part, ...]:
        names = map(str, range(len(self.layers)))
        return tuple(map(Part, names, self.layers, params, residuals or [None] * len(self.layers)))


EXAMPLES = {
    "two-layer net": LayerExample(Chain((Dense(3, 5), Activation("sigmoid"), Dense(5, 2))), (6, 3)),
    "three-layer net, two leading axes": LayerExample(
        Chain((Dense(2, 4, "he"), Activation("relu"), Dense(4, 3, "he"), Activation("tanh"), Dense(3, 1))),
        (2, 5, 2),
    ),
    "a chain in a chain": LayerExample(Chain((Chain((Dense(3, 2), Activation("gelu"))), Dense(2, 2))), (4, 3)),
    "nothing at all": LayerExample(Chain(()), (4, 3)),
}
