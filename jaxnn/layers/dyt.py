"""out = γ ⊙ tanh(α x) + β"""

from dataclasses import dataclass
from typing import NamedTuple

from jax import Array
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.ops.dyt import bwd, fwd
from jaxnn.protocols import LayerExample, Residuals


class Params(NamedTuple):
    alpha: Array  # ()
    gamma: Array  # (n,)
    beta: Array  # (n,)


@dataclass(frozen=True)
class Dyt:
    """out = γ ⊙ tanh(α x) + β: dynamic tanh, in the place of a norm; x and out (…, n), α one number, γ and β (n,).

    α starts as `alpha`. The rule is that of `jaxnn.ops.dyt`. Source: Zhu et al. (2025), algorithm 1.
    ValueError: n below 1, or an x whose last axis is not n.
    """

    n: int
    alpha: float = 0.5

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"{self}: n must be 1 or more.")

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> Params:
        return Params(jnp.asarray(self.alpha, dtype), jnp.ones(self.n, dtype), jnp.zeros(self.n, dtype))

    def forward(self, params: Params, x: Array, key: Array | None = None) -> tuple[Array, Residuals]:
        return fwd(x, *params)

    def backward(self, residuals: Residuals, dout: Array) -> tuple[Params, Array]:
        dx, *dparams = bwd(residuals, dout)
        return Params(*dparams), dx

    def apply(self, params: Params, x: Array) -> Array:
        return self.forward(params, x)[0]


EXAMPLES = {
    "dyt": LayerExample(Dyt(5), (4, 5)),
    "dyt in a chain": LayerExample(Chain((Dense(3, 4), Dyt(4), Dense(4, 2))), (5, 3)),
}
