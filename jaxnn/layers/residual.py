"""out = x + f(x)"""

from dataclasses import dataclass

from jax import Array
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn.layers.activation import Activation
from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.protocols import Layer, LayerExample, Params, Part, Residuals, moved


@dataclass(frozen=True)
class Residual:
    """out = x + f(params, x), with f a layer whose output has the shape of its input.

    ∂J/∂x = dout + (∂f/∂x)ᵀ dout    x reaches out by itself and through f
    ∂J/∂params: that of f, for the same dout

    params and residuals: those of f. Source: He, Zhang, Ren & Sun (2016), eq. 1. ValueError: a layer that changes the
    shape.
    """

    layer: Layer

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> Params:
        return self.layer.init(key, dtype)

    def forward(self, params: Params, x: Array, key: Array | None = None) -> tuple[Array, Residuals]:
        out, residuals = self.layer.forward(params, x, key)
        return self.sum(x, out), residuals

    def backward(self, residuals: Residuals, dout: Array) -> tuple[Params, Array]:
        dparams, dx = self.layer.backward(residuals, dout)
        assert dx is not None, "an integer x never gets here: no layer keeps its shape"
        return dparams, dout + dx

    def apply(self, params: Params, x: Array) -> Array:
        return self.sum(x, self.layer.apply(params, x))

    def sum(self, x: Array, out: Array) -> Array:
        if out.shape != x.shape:
            raise ValueError(
                f"{self}: its layer makes {out.shape} of an input of {x.shape}; give one that keeps the shape, such as "
                "Chain((Dense(3, 4), Dense(4, 3)))."
            )
        return x + out

    def parts(self, params: Params, residuals: Residuals) -> tuple[Part, ...]:
        return (Part("0", self.layer, params, residuals),)

    def moved(self, params: Params, residuals: Residuals) -> Params:
        return moved(self.layer, params, residuals)


EXAMPLES = {
    "residual block": LayerExample(Residual(Chain((Dense(4, 5), Activation("tanh"), Dense(5, 4)))), (3, 4)),
    "residual, two leading axes": LayerExample(Residual(Dense(3, 3)), (2, 4, 3)),
    "residual blocks in a chain": LayerExample(
        Chain((Dense(2, 3), Residual(Dense(3, 3)), Residual(Activation("gelu")))), (4, 2)
    ),
}
