"""out = γ x̂ + β, x̂ = (x − μ) / s, with μ and s of the batch, or, in prediction, of many batches"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
from jax import Array, lax
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn.dtypes import at_least_float32, wide
from jaxnn.layers.activation import Activation
from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.ops.batch_norm import bwd, fwd
from jaxnn.protocols import LayerExample, Residuals, Statistics
from jaxnn.shapes import along


class Running(NamedTuple):
    mean: Array  # (n,)
    var: Array  # (n,)


class Params(NamedTuple):
    gamma: Array  # (n,)
    beta: Array  # (n,)
    running: Statistics  # of Running


@dataclass(frozen=True)
class BatchNorm:
    """out = γ ⊙ x̂ + β, x̂ = (x − μ) / s, with μ the mean and s² = variance + ε of each column over all examples of the
    batch; x and out (…, n), γ and β (n,).

    In prediction μ and the variance are running ones, which each step of training moves:
    running ← momentum · running + (1 − momentum) · that of the batch, the variance the biased one, as in Flax.

    The rule is that of `jaxnn.ops.batch_norm`. Source: Ioffe & Szegedy (2015), algorithm 1.
    ValueError: n below 1, a momentum that is not from 0 to 1, an ε that is not positive, or an x that is not (…, n).
    """

    n: int
    momentum: float = 0.9
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if self.n < 1 or not 0 <= self.momentum <= 1 or not self.epsilon > 0:
            raise ValueError(f"{self}: n must be 1 or more, momentum from 0 to 1, and epsilon a positive number.")

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> Params:
        one, zero = jnp.ones(self.n, dtype), jnp.zeros(self.n, dtype)
        return Params(one, zero, Statistics(Running(wide(zero), wide(one))))

    def forward(self, params: Params, x: Array, key: Array | None = None) -> tuple[Array, Residuals]:
        (out, *of_batch), residuals = fwd(x, params.gamma, params.beta, self.epsilon)
        return out, (residuals, Running(*of_batch))

    def backward(self, residuals: Residuals, dout: Array) -> tuple[Params, Array]:
        of_op, of_batch = residuals
        none = jax.tree.map(jnp.zeros_like, of_batch)
        dx, dgamma, dbeta = bwd(self.epsilon, of_op, (dout, *none))
        return Params(dgamma, dbeta, Statistics(none)), dx

    def apply(self, params: Params, x: Array) -> Array:
        mean, var = (along(x, v.astype(at_least_float32(x.dtype))) for v in params.running.values)
        out = (wide(x) - mean) * lax.rsqrt(var + self.epsilon) * along(x, params.gamma) + along(x, params.beta)
        return out.astype(x.dtype)

    def moved(self, params: Params, residuals: Residuals) -> Params:
        def mix(old: Array, new: Array) -> Array:
            return self.momentum * old + (1 - self.momentum) * new.astype(old.dtype)

        return params._replace(running=Statistics(jax.tree.map(mix, params.running.values, residuals[1])))


EXAMPLES = {
    "batch norm": LayerExample(BatchNorm(3), (4, 3)),
    "batch norm in a chain": LayerExample(Chain((Activation("tanh"), BatchNorm(3), Dense(3, 2))), (5, 3)),
}
