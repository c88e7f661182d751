"""J = 1/2m Σ_i (−log P_ii − log Q_ii), P the softmax of each row of S = τ a bᵀ, Q of each column"""

import jax
from jax import Array
from jax import numpy as jnp

from jaxnn.cotangent import like, product
from jaxnn.dtypes import check_one_dtype, wide
from jaxnn.ops.softmax_cross_entropy import Softmax, softmax
from jaxnn.protocols import real


@jax.custom_vjp
def info_nce(a: Array, b: Array, tau: Array) -> Array:
    """J = 1/2m Σ_i (−log P_ii − log Q_ii), S = τ a bᵀ, P the softmax of each row of S and Q of each column.

    a and b (…, m, d): of m pairs, row i of a belongs to row i of b, and to no other. τ (): what the similarities are
    multiplied by, one over a temperature; it is learned in logs, τ = e^t, by who learns it. J (…) in float32 at least.

    ∂J/∂S = dJ / 2m (P + Q − 2 I), with P_ii − 1 written −Σ_{j≠i} P_ij: where a pair is told apart, nothing cancels
    ∂J/∂a = τ ∂J/∂S b,   ∂J/∂b = τ ∂J/∂Sᵀ a
    ∂J/∂τ = Σ_ij ∂J/∂S_ij (a bᵀ)_ij

    Rows of length 1, as in CLIP, are the caller's, and so is the gradient through that.
    Source: Radford et al. (2021), figure 3; van den Oord, Li & Vinyals (2018), eq. 4.
    ValueError: shapes that differ or are no matrices, no pair, a τ that is no scalar. TypeError: dtypes that differ.
    """
    return fwd(a, b, tau)[0]


def fwd(a: Array, b: Array, tau: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    check_one_dtype("info_nce", a=a, b=b, tau=tau)
    if a.shape != b.shape or not any(a.shape[-2:-1]) or tau.shape:
        given = f"a of shape {a.shape}, b of {b.shape} and tau of {tau.shape}"
        raise ValueError(
            f"info_nce was given {given}: give a and b of one shape (…, m, d), one pair or more, and tau of shape ()."
        )
    S = wide(tau) * similarities(a, b)
    diagonal = jnp.eye(a.shape[-2], dtype=bool)
    L = jnp.where(diagonal, softmax(S).minus_log_P + transposed(softmax(transposed(S)).minus_log_P), 0)
    return L.sum((-2, -1)) / (2 * a.shape[-2]), (a, b, tau)


def bwd(residuals: tuple[Array, Array, Array], dJ: Array) -> tuple[Array, Array, Array]:
    a, b, tau = residuals
    ab = similarities(a, b)
    S = wide(tau) * ab
    dS = dJ[..., None, None] / (2 * a.shape[-2]) * (slope(softmax(S)) + transposed(slope(softmax(transposed(S)))))
    da = product(a, "...ij,...jd->...id", wide(tau) * dS, wide(b))
    db = product(b, "...ij,...id->...jd", wide(tau) * dS, wide(a))
    return da, db, like(tau, dS * ab)


def similarities(a: Array, b: Array) -> Array:
    """a bᵀ (…, m, m)."""
    return jnp.einsum("...id,...jd->...ij", wide(a), wide(b))


def slope(p: Softmax) -> Array:
    """P − I."""
    return jnp.where(jnp.eye(p.P.shape[-1], dtype=bool), -p.not_P, p.P)


def transposed(S: Array) -> Array:
    return jnp.swapaxes(S, -2, -1)


info_nce.defvjp(fwd, bwd)

EXAMPLES = {
    "three pairs": {"a": real(3, 1), "b": real(3, 1), "tau": real()},
    "two pairs": {"a": real(2, 2), "b": real(2, 2), "tau": real()},
    "one pair": {"a": real(1, 3), "b": real(1, 3), "tau": real()},
    "a leading axis": {"a": real(2, 3, 1), "b": real(2, 3, 1), "tau": real()},
}
TRAPS = {
    "rows alone": (" + transposed(slope(softmax(transposed(S)))))", ")"),
    "columns not turned back": ("transposed(slope(softmax(transposed(S))))", "slope(softmax(transposed(S)))"),
    "the 2 of both ways forgotten": ("dJ[..., None, None] / (2 * a.shape[-2])", "dJ[..., None, None] / a.shape[-2]"),
    "∂J/∂a without τ": ('id", wide(tau) * dS', 'id", dS'),
    "∂J/∂τ of S, not of a bᵀ": ("like(tau, dS * ab)", "like(tau, dS * S)"),
}
