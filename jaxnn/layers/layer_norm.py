"""out = γ x̂ + β, x̂ = (x − μ) / s"""

from dataclasses import dataclass
from typing import NamedTuple

from jax import Array, lax
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn.layers.activation import Activation
from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.mean import at_least_float32
from jaxnn.protocols import LayerExample, Residuals


class Params(NamedTuple):
    gamma: Array  # (n,)
    beta: Array  # (n,)


def mean(v: Array) -> Array:
    """Over the entries of an example: (…, n) -> (…, 1)."""
    return v.mean(-1, keepdims=True)


def along(v: Array, x: Array) -> Array:
    """A vector (n,) for every example of x (…, n)."""
    return jnp.broadcast_to(v, x.shape)


@dataclass(frozen=True)
class LayerNorm:
    """out = γ ⊙ x̂ + β, x̂ = (x − μ) / s, with μ the mean and s² = variance + ε of the n entries of each example.

    x, out (…, n), γ, β (n,). The mean and the variance are those of an example, so no example sees another.

    ∂J/∂γ = Σᵢ dout_i ⊙ x̂_i
    ∂J/∂β = Σᵢ dout_i
    ∂J/∂x = (dx̂ − mean dx̂ − x̂ mean(dx̂ ⊙ x̂)) / s, dx̂ = dout ⊙ γ    x enters x̂ directly, through μ, and through s

    In bfloat16 it computes in float32. Source: Ba, Kiros & Hinton (2016), eq. 3 and 4.
    ValueError: n below 1, an ε that is not positive, or an x whose last axis is not n.
    """

    n: int
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if self.n < 1 or not self.epsilon > 0:
            raise ValueError(f"{self}: n must be 1 or more, and epsilon a positive number.")

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> Params:
        return Params(jnp.ones(self.n, dtype), jnp.zeros(self.n, dtype))

    def forward(self, params: Params, x: Array, key: Array | None = None) -> tuple[Array, Residuals]:
        if x.shape[-1:] != (self.n,):
            raise ValueError(f"{self} was given x of shape {x.shape}: its last axis must have the {self.n} entries.")
        wide = x.astype(at_least_float32(x.dtype))
        centred = wide - mean(wide)
        r = lax.rsqrt(mean(centred**2) + self.epsilon)  # 1 / s
        x_hat = (centred * r).astype(x.dtype)
        out = along(params.gamma, x) * x_hat + along(params.beta, x)
        return out, (params.gamma, x_hat, r)

    def backward(self, residuals: Residuals, dout: Array) -> tuple[Params, Array]:
        gamma, x_hat, r = residuals
        examples = tuple(range(dout.ndim - 1))
        dgamma, dbeta = (dout * x_hat).sum(examples), dout.sum(examples)
        x_hat, dx_hat = (v.astype(r.dtype) for v in (x_hat, dout * along(gamma, dout)))
        dx = (dx_hat - mean(dx_hat) - x_hat * mean(dx_hat * x_hat)) * r
        return Params(dgamma, dbeta), dx.astype(dout.dtype)

    def apply(self, params: Params, x: Array) -> Array:
        return self.forward(params, x)[0]


EXAMPLES = {
    "layer norm": LayerExample(LayerNorm(5), (4, 5)),
    "layer norm, two leading axes": LayerExample(LayerNorm(4), (2, 3, 4)),
    "layer norm, one example without a batch axis": LayerExample(LayerNorm(3), (3,)),
    "layer norm in a chain": LayerExample(Chain((Dense(3, 4), LayerNorm(4), Activation("tanh"), Dense(4, 2))), (5, 3)),
}
