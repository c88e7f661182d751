"""out = γ ⊙ tanh(α x) + β"""

import jax
from jax import Array
from jax import numpy as jnp

from jaxnn.cotangent import like
from jaxnn.dtypes import check_one_dtype, wide
from jaxnn.protocols import OpExample, real
from jaxnn.shapes import along, check_shape, check_vector


@jax.custom_vjp
def dyt(x: Array, alpha: Array, gamma: Array, beta: Array) -> Array:
    """out = γ ⊙ t + β, t = tanh(α x): dynamic tanh, in the place of a norm; x and out (…, n), α one number (), γ and β
    (n,).

    ∂J/∂γ = Σᵢ dout_i ⊙ t_i,   ∂J/∂β = Σᵢ dout_i
    du = dout ⊙ γ / cosh²(α x)       u = α x, tanh′ = 1 / cosh², which 1 − t² loses to rounding where t is almost 1
    ∂J/∂x = α du
    ∂J/∂α = Σ du ⊙ x                 α is used in every entry of every example, so the sum is long

    In bfloat16 it computes in float32, and sums all of ∂J/∂α there. Source: Zhu et al. (2025), algorithm 1.
    ValueError: α that is not one number, γ or β not of the shape (n,). TypeError: dtypes that differ.
    """
    return fwd(x, alpha, gamma, beta)[0]


def fwd(x: Array, alpha: Array, gamma: Array, beta: Array) -> tuple[Array, tuple[Array, ...]]:
    check_one_dtype("dyt", x=x, alpha=alpha, gamma=gamma, beta=beta)
    check_shape("dyt", "alpha", alpha, (), "all of x")
    check_vector("dyt", x, gamma=gamma, beta=beta)
    out = along(x, gamma) * jnp.tanh(wide(alpha) * wide(x)) + along(x, beta)
    return out.astype(x.dtype), (x, alpha, gamma, beta)


def bwd(residuals: tuple[Array, ...], dout: Array) -> tuple[Array, Array, Array, Array]:
    x, alpha, gamma, beta = residuals
    dout, u = wide(dout), wide(alpha) * wide(x)
    du = dout * along(x, gamma) / jnp.cosh(u) ** 2
    return like(x, wide(alpha) * du), like(alpha, du * wide(x)), like(gamma, dout * jnp.tanh(u)), like(beta, dout)


dyt.defvjp(fwd, bwd)


def arguments(*shape: int) -> OpExample:
    return {"x": real(*shape), "alpha": real(), "gamma": real(shape[-1]), "beta": real(shape[-1])}


EXAMPLES = {"rows": arguments(4, 5), "one example": arguments(3), "two leading axes": arguments(2, 3, 2)}
TRAPS = {
    "the slope at x, not at α x": ("jnp.cosh(u) ** 2", "jnp.cosh(wide(x)) ** 2"),
    "α forgotten on the way to x": ("like(x, wide(alpha) * du)", "like(x, du)"),
    "γ forgotten": ("dout * along(x, gamma) / jnp", "dout / jnp"),
    "γ forgotten on the way to α": ("like(alpha, du * wide(x))", "like(alpha, dout / jnp.cosh(u) ** 2 * wide(x))"),
    "x forgotten on the way to α": ("like(alpha, du * wide(x))", "like(alpha, du)"),
    "∂J/∂α as a mean": ("like(alpha, du * wide(x))", "like(alpha, du * wide(x) / du.size)"),
    "∂J/∂γ with its γ": ("dout * jnp.tanh(u))", "dout * along(x, gamma) * jnp.tanh(u))"),
}
