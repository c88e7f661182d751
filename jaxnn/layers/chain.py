"""out = f_n(… f_2(f_1(x))): the chain rule, once."""

from dataclasses import dataclass
from typing import NamedTuple

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

    Layer i draws from `fold_in(key, i)`, so adding a layer at the end leaves the others as they were. What a layer
    saves of the output of a `ThriftyLayer` before it is not kept: it is made again on the way back.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))  # a list would not hash

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> tuple[Params, ...]:
        return tuple(layer.init(jax.random.fold_in(key, i), dtype) for i, layer in enumerate(self.layers))

    def forward(
        self, params: tuple[Params, ...], x: Array, key: Array | None = None
    ) -> tuple[Array, tuple[Residuals, ...]]:
        residuals: list[Residuals] = []
        for i, (layer, p) in enumerate(zip(self.layers, params, strict=True)):
            out, r = layer.forward(p, x, None if key is None else jax.random.fold_in(key, i))
            residuals.append(without(x, r) if i and hasattr(self.layers[i - 1], "again") else r)
            x = out
        return x, tuple(residuals)

    def backward(self, residuals: tuple[Residuals, ...], dout: Array) -> tuple[tuple[Params, ...], Array | None]:
        grads: list[Params] = []
        dx: PyTree = dout
        for layer, r in zip(reversed(self.layers), reversed(self.whole(residuals)), strict=True):
            grad, dx = layer.backward(r, dx)
            grads.append(grad)
        return tuple(reversed(grads)), dx

    def apply(self, params: tuple[Params, ...], x: Array) -> Array:
        for layer, p in zip(self.layers, params, strict=True):
            x = layer.apply(p, x)
        return x

    def moved(self, params: tuple[Params, ...], residuals: tuple[Residuals, ...]) -> tuple[Params, ...]:
        return tuple(map(moved, self.layers, params, self.whole(residuals)))

    def parts(self, params: tuple[Params, ...], residuals: tuple[Residuals, ...] | None) -> tuple[Part, ...]:
        names = map(str, range(len(self.layers)))
        of_layers = [None] * len(self.layers) if residuals is None else self.whole(residuals)
        return tuple(map(Part, names, self.layers, params, of_layers))

    def whole(self, residuals: tuple[Residuals, ...]) -> tuple[Residuals, ...]:
        """The residuals as each layer saved them."""
        restored: list[Residuals] = []
        for i, r in enumerate(residuals):
            before = self.layers[i - 1]
            if isinstance(r, Without) and hasattr(before, "again"):
                r = r.restored(before.again(restored[-1]))
            restored.append(r)
        return tuple(restored)


class LeftOut(NamedTuple):
    """In the place of x in the residuals of a layer."""


def is_left_out(v: PyTree) -> bool:
    return isinstance(v, LeftOut)


class Without(NamedTuple):
    """The residuals of a layer without its x."""

    residuals: Residuals

    def restored(self, x: Array) -> Residuals:
        return jax.tree.map(lambda v: x if is_left_out(v) else v, self.residuals, is_leaf=is_left_out)


def without(x: Array, residuals: Residuals) -> Residuals:
    """The residuals `Without` x; as they are if x is none of them, or if a chain in this layer has left one out."""
    leaves = jax.tree.leaves(residuals, is_leaf=is_left_out)
    if any(map(is_left_out, leaves)) or not any(v is x for v in leaves):
        return residuals
    return Without(jax.tree.map(lambda v: LeftOut() if v is x else v, residuals))


EXAMPLES = {
    "two-layer net": LayerExample(Chain((Dense(3, 5), Activation("sigmoid"), Dense(5, 2))), (6, 3)),
    "three-layer net, two leading axes": LayerExample(
        Chain((Dense(2, 4, "he"), Activation("relu"), Dense(4, 3, "he"), Activation("tanh"), Dense(3, 1))),
        (2, 5, 2),
    ),
    "a chain in a chain": LayerExample(Chain((Chain((Dense(3, 2), Activation("gelu"))), Dense(2, 2))), (4, 3)),
    "chains that leave outputs out, one in the other": LayerExample(
        Chain((Activation("gelu"), Chain((Activation("silu"), Dense(3, 2))), Activation("tanh"), Dense(2, 2))), (4, 3)
    ),
    "nothing at all": LayerExample(Chain(()), (4, 3)),
}
