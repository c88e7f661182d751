"""out = 1/T Σ_t x_t"""

from dataclasses import dataclass

from jax import Array
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn.protocols import LayerExample, Residuals


@dataclass(frozen=True)
class MeanPool:
    """out = 1/T Σ_t x_t, the mean over the positions: x (…, T, n), out (…, n).

    ∂J/∂x_t = dout / T    every x_t is one of T terms
    ValueError: an x without positions. TypeError: an x of whole numbers.
    """

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, key: Array | None = None) -> tuple[Array, Residuals]:
        if x.ndim < 2 or not x.shape[-2]:
            raise ValueError(f"{self} was given x of shape {x.shape}: its axes are (…, T, n), with T 1 or more.")
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"{self} was given x of {x.dtype}: give real numbers.")
        return x.mean(-2), x[..., :0]

    def backward(self, residuals: Residuals, dout: Array) -> tuple[tuple[()], Array]:
        shape = residuals.shape[:-1]
        return (), jnp.broadcast_to(dout[..., None, :] / shape[-1], (*shape, dout.shape[-1]))

    def apply(self, params: tuple[()], x: Array) -> Array:
        return self.forward(params, x)[0]


EXAMPLES = {
    "mean of positions": LayerExample(MeanPool(), (2, 3, 4), inner=2),
    "mean of one position": LayerExample(MeanPool(), (2, 1, 3), inner=2),
}
