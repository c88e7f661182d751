"""out = f_n(… f_2(f_1(x))): the chain rule, once."""

from dataclasses import dataclass

import jax
from jax import numpy as jnp

from jaxnn.layers.activations import Activation
from jaxnn.layers.dense import Dense
from jaxnn.protocols import Layer


@dataclass(frozen=True)
class Chain:
    """Layers one after the other; itself a layer. `params` is the tuple of the layers' params.

    With x_0 = x and x_i = f_i(x_{i−1}):
    ∂J/∂x_{i−1} = (∂x_i/∂x_{i−1})ᵀ ∂J/∂x_i    x_{i−1} reaches J through x_i alone

    Layer i draws from `fold_in(key, i)`, so adding a layer at the end leaves the others as they were.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self):
        object.__setattr__(self, "layers", tuple(self.layers))  # a list would not hash

    def init(self, key, dtype=jnp.float32):
        return tuple(layer.init(jax.random.fold_in(key, i), dtype) for i, layer in enumerate(self.layers))

    def forward(self, params, x, key=None):
        residuals = []
        for i, (layer, p) in enumerate(zip(self.layers, params, strict=True)):
            x, r = layer.forward(p, x, None if key is None else jax.random.fold_in(key, i))
            residuals.append(r)
        return x, tuple(residuals)

    def backward(self, residuals, dout):
        grads = []
        for layer, r in zip(reversed(self.layers), reversed(residuals), strict=True):
            grad, dout = layer.backward(r, dout)
            grads.append(grad)
        return tuple(reversed(grads)), dout

    def apply(self, params, x):
        for layer, p in zip(self.layers, params, strict=True):
            x = layer.apply(p, x)
        return x


EXAMPLES = {
    "two-layer net": (Chain((Dense(3, 5), Activation("sigmoid"), Dense(5, 2))), (6, 3)),
    "three-layer net, two leading axes": (
        Chain((Dense(2, 4, "he"), Activation("relu"), Dense(4, 3, "he"), Activation("tanh"), Dense(3, 1))),
        (2, 5, 2),
    ),
    "a chain in a chain": (Chain((Chain((Dense(3, 2), Activation("gelu"))), Dense(2, 2))), (4, 3)),
    "nothing at all": (Chain(()), (4, 3)),
}
