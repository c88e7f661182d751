"""out = γ x̂ + β, x̂ = (x − μ) / s, with μ and s of a group of channels"""

from dataclasses import dataclass
from typing import NamedTuple

from jax import Array
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.ops.group_norm import bwd, fwd
from jaxnn.protocols import LayerExample, Residuals


class Params(NamedTuple):
    gamma: Array  # (n,)
    beta: Array  # (n,)


@dataclass(frozen=True)
class GroupNorm:
    """out = γ ⊙ x̂ + β, x̂ = (x − μ) / s, with μ the mean and s² = variance + ε of all entries of an example that are of
    one group; x and out (m, …, n), γ and β (n,).

    The first axis has the examples, the last the n channels, of which n / groups side by side are a group; the axes
    between are places of one example. The rule is that of `jaxnn.ops.group_norm`. Source: Wu & He (2018), eq. 1 to 7.
    ValueError: groups that do not divide n, an ε that is not positive, or an x that is not (m, …, n).
    """

    n: int
    groups: int
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if self.n < 1 or self.groups < 1 or self.n % self.groups or not self.epsilon > 0:
            raise ValueError(f"{self}: n must be 1 or more, groups divide n, and epsilon be a positive number.")

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> Params:
        return Params(jnp.ones(self.n, dtype), jnp.zeros(self.n, dtype))

    def forward(self, params: Params, x: Array, key: Array | None = None) -> tuple[Array, Residuals]:
        return fwd(x, *params, self.groups, self.epsilon)

    def backward(self, residuals: Residuals, dout: Array) -> tuple[Params, Array]:
        dx, *dparams = bwd(self.groups, self.epsilon, residuals, dout)
        return Params(*dparams), dx

    def apply(self, params: Params, x: Array) -> Array:
        return self.forward(params, x)[0]


EXAMPLES = {
    "group norm of images": LayerExample(GroupNorm(4, 2), (2, 3, 1, 4), inner=3),
    "group norm in a chain": LayerExample(Chain((Dense(3, 6), GroupNorm(6, 2), Dense(6, 2))), (3, 3)),
}
