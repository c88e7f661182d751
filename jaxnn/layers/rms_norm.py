"""out = (γ + c) ⊙ x̂, x̂ = x / √(mean x² + ε)"""

from dataclasses import dataclass
from typing import NamedTuple

from jax import Array
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.ops.rms_norm import bwd, fwd, output
from jaxnn.protocols import LayerExample, Residuals


class Params(NamedTuple):
    gamma: Array  # (n,)


@dataclass(frozen=True)
class RmsNorm:
    """out = (γ + c) ⊙ x̂, x̂ = x / √(mean x² + ε) of the n entries of each example; x and out (…, n), γ (n,).

    γ starts as 1 − c, with c the offset. The rule is that of `jaxnn.ops.rms_norm`.
    Source: Zhang & Sennrich (2019), eq. 4.
    ValueError: n below 1, an ε that is not positive, or an x whose last axis is not n.
    """

    n: int
    offset: float = 0.0
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        if self.n < 1 or not self.epsilon > 0:
            raise ValueError(f"{self}: n must be 1 or more, and epsilon a positive number.")

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> Params:
        return Params(jnp.full(self.n, 1 - self.offset, dtype))

    def forward(self, params: Params, x: Array, key: Array | None = None) -> tuple[Array, Residuals]:
        return fwd(x, params.gamma, self.offset, self.epsilon)

    def backward(self, residuals: Residuals, dout: Array) -> tuple[Params, Array]:
        dx, dgamma = bwd(self.offset, self.epsilon, residuals, dout)
        return Params(dgamma), dx

    def again(self, residuals: Residuals) -> Array:
        return output(self.offset, residuals)

    def apply(self, params: Params, x: Array) -> Array:
        return self.forward(params, x)[0]


EXAMPLES = {
    "rms norm": LayerExample(RmsNorm(5), (4, 5)),
    "rms norm, γ as its distance from 1": LayerExample(RmsNorm(4, offset=1.0), (2, 3, 4)),
    "rms norm in a chain": LayerExample(Chain((Dense(3, 4), RmsNorm(4), Dense(4, 2))), (5, 3)),
}
