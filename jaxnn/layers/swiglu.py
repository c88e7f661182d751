"""out = silu(gate) ⊙ up, x = (gate, up)"""

from dataclasses import dataclass

from jax import Array
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.ops.swiglu import bwd, fwd
from jaxnn.protocols import LayerExample, Residuals


@dataclass(frozen=True)
class Swiglu:
    """out = silu(gate) ⊙ up, with gate the first half of the entries of each example and up the second: x (…, 2n), out
    (…, n). Chain((Dense(k, 2 * n), Swiglu(), Dense(n, k))) is the feed-forward block of Llama, with biases.

    The rule is that of `jaxnn.ops.swiglu`. Source: Shazeer (2020), eq. 6. ValueError: an odd number of entries.
    """

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, key: Array | None = None) -> tuple[Array, Residuals]:
        if x.ndim < 1 or x.shape[-1] % 2:
            raise ValueError(f"{self} was given x of shape {x.shape}: its last axis must be gate and up, (…, 2n).")
        return fwd(*jnp.split(x, 2, axis=-1))

    def backward(self, residuals: Residuals, dout: Array) -> tuple[tuple[()], Array]:
        return (), jnp.concatenate(bwd(residuals, dout), axis=-1)

    def again(self, residuals: Residuals) -> Array:
        return fwd(*residuals)[0]

    def apply(self, params: tuple[()], x: Array) -> Array:
        return self.forward(params, x)[0]


EXAMPLES = {
    "swiglu": LayerExample(Swiglu(), (4, 6)),
    "swiglu in a chain": LayerExample(Chain((Dense(3, 4), Swiglu(), Dense(2, 3))), (5, 3)),
}
