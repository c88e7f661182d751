"""out = x ⊙ b / p, b_i = 1 with probability p, else 0; out = x in prediction"""

from dataclasses import dataclass

import jax
from jax import Array
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn.ops.dropout import bwd, fwd
from jaxnn.protocols import LayerExample, Residuals


@dataclass(frozen=True)
class Dropout:
    """out = x ⊙ b / p, b one number an entry: 1 with probability p, else 0; out = x in prediction. x and out have
    any one shape.

    keep: p. It keeps the key of the step, of which the backward pass draws b again. The rule is that of
    `jaxnn.ops.dropout`. Source: Srivastava et al. (2014), section 4 and 10.
    ValueError: keep not above 0 and at most 1, or a forward pass without a key, which keep = 1 alone does not need.
    """

    keep: float

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise ValueError(f"{self}: keep, the probability to stay, must be above 0 and at most 1.")

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, key: Array | None = None) -> tuple[Array, Residuals]:
        if key is None and self.keep < 1:
            raise ValueError(f"{self} has no key to draw from: give forward a key, or use apply for prediction.")
        return fwd(x, jax.random.key(0) if key is None else key, self.keep)  # with 1 no matter which

    def backward(self, residuals: Residuals, dout: Array) -> tuple[tuple[()], Array]:
        dx, _ = bwd(self.keep, residuals, dout)
        return (), dx

    def apply(self, params: tuple[()], x: Array) -> Array:
        return x


EXAMPLES = {"dropout that keeps all": LayerExample(Dropout(1.0), (4, 3))}
