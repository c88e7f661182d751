"""L = ½ (s + e² / σ²), e = y − μ, s = log σ², entry by entry"""

import jax
from jax import Array
from jax import numpy as jnp

from jaxnn.cotangent import like
from jaxnn.dtypes import wide
from jaxnn.protocols import real
from jaxnn.shapes import check_alike


@jax.custom_vjp
def gaussian_nll(mu: Array, log_var: Array, y: Array) -> Array:
    """L = ½ (s + r²), r = (y − μ) / σ, s = log σ², of each entry: minus the log density of y, without ½ log 2π.

    μ, log_var, which is s, and y of one shape, and so is L, in float32 at least. σ = e^{s/2} is positive whatever s is:
    no floor is needed, under which the gradient would vanish.

    ∂r/∂μ = −1 / σ, ∂r/∂s = −r / 2, therefore
    ∂J/∂μ = −dL r / σ,   ∂J/∂s = ½ dL (1 − r²) = ½ dL (1 − r) (1 + r),   ∂J/∂y = dL r / σ

    Source: Nix & Weigend (1994). ValueError: shapes that differ. TypeError: dtypes that differ.
    """
    return fwd(mu, log_var, y)[0]


def fwd(mu: Array, log_var: Array, y: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    check_alike("gaussian_nll", mu=mu, log_var=log_var, y=y)
    r = (wide(y) - wide(mu)) * jnp.exp(-wide(log_var) / 2)
    return (wide(log_var) + r**2) / 2, (mu, log_var, y)


def bwd(residuals: tuple[Array, Array, Array], dL: Array) -> tuple[Array, Array, Array]:
    mu, log_var, y = residuals
    by_sigma = jnp.exp(-wide(log_var) / 2)
    r = (wide(y) - wide(mu)) * by_sigma
    dy = dL * r * by_sigma
    return like(mu, -dy), like(log_var, dL * (1 - r) * (1 + r) / 2), like(y, dy)


gaussian_nll.defvjp(fwd, bwd)

EXAMPLES = {
    "entries": {"mu": real(2, 3), "log_var": real(2, 3), "y": real(2, 3)},
    "one number": {"mu": real(), "log_var": real(), "y": real()},
}
TRAPS = {
    "σ for σ²": ("dy = dL * r * by_sigma", "dy = dL * r"),
    "by σ², not by its log": ("(1 - r) * (1 + r) / 2)", "(1 - r) * (1 + r) / 2 * by_sigma**2)"),
    "by σ, not by log σ²": ("(1 - r) * (1 + r) / 2)", "(1 - r) * (1 + r) * by_sigma)"),
    "a floor under the variance": (
        "by_sigma = jnp.exp(-wide(log_var) / 2)",
        "by_sigma = jnp.exp(-jnp.maximum(wide(log_var), 0) / 2)",
    ),
    "the variance taken for a constant": ("dL * (1 - r) * (1 + r) / 2)", "0 * r)"),
}
