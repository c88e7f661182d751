"""L = T² Σ_k q_k (log q_k − log P_k), P = softmax(z / T)"""

from functools import partial

import jax
from jax import Array
from jax import numpy as jnp

from jaxnn.cotangent import like
from jaxnn.dtypes import wide
from jaxnn.ops.softmax_cross_entropy import others, softmax
from jaxnn.protocols import distribution, real
from jaxnn.shapes import check_alike, check_entries


@partial(jax.custom_vjp, nondiff_argnames=("temperature",))
def kl_divergence(z: Array, q: Array, temperature: float = 1.0) -> Array:
    """L = T² Σ_k q_k (log q_k − log P_k) of each example, P = softmax(z / T); z, q (…, K), L (…) in float32 at least.

    Distillation: q is the teacher's distribution, at the same temperature T. T² keeps ∂J/∂z from falling as 1 / T².
    0 log 0 = 0. A mean over the examples is the caller's.

    −∂log P_k/∂z_j = (P_j − [j = k]) / T, therefore
    ∂J/∂z = dL T (P Σ_k q_k − q)
          = dL T (P_j Σ_{k≠j} q_k − q_j Σ_{k≠j} P_k), which does not cancel where P_y and q_y are almost 1
    ∂J/∂q = dL T² (log q + 1 − log P), which is −∞ where q_k = 0

    Source: Hinton, Vinyals & Dean (2015), eq. 1 and 2. ValueError: shapes that differ, no class, a temperature
    that is not positive. TypeError: dtypes that differ.
    """
    return fwd(z, q, temperature)[0]


def fwd(z: Array, q: Array, temperature: float) -> tuple[Array, tuple[Array, Array]]:
    check_alike("kl_divergence", z=z, q=q)
    check_entries("kl_divergence", z=z)
    if not temperature > 0:
        raise ValueError(f"kl_divergence was given temperature = {temperature}: give a positive number.")
    p, wide_q = softmax(wide(z) / temperature), wide(q)
    terms = jnp.where(wide_q == 0, 0, wide_q * (jnp.log(wide_q) + p.minus_log_P))
    return temperature**2 * terms.sum(-1), (z, q)


def bwd(temperature: float, residuals: tuple[Array, Array], dL: Array) -> tuple[Array, Array]:
    z, q = residuals
    p, t, dL = softmax(wide(z) / temperature), wide(q), dL[..., None]
    dz = dL * temperature * (p.P * others(t) - t * p.not_P)
    dq = dL * temperature**2 * (jnp.log(t) + 1 + p.minus_log_P)
    return like(z, dz), like(q, dq)


kl_divergence.defvjp(fwd, bwd)

EXAMPLES = {
    "rows": {"z": real(3, 4), "q": distribution(3, 4)},
    "a high temperature": {"z": real(2, 3), "q": distribution(2, 3), "temperature": 4.0},
    "two leading axes": {"z": real(2, 1, 3), "q": distribution(2, 1, 3), "temperature": 0.5},
    "one example": {"z": real(3), "q": distribution(3), "temperature": 2.0},
    "one class": {"z": real(2, 1), "q": distribution(2, 1)},
}
TRAPS = {
    "T² on the way back": ("dz = dL * temperature * (", "dz = dL * temperature**2 * ("),
    "no T on the way back": ("dz = dL * temperature * (", "dz = dL * ("),
    "P of z, not of z / T": ("p, t, dL = softmax(wide(z) / temperature)", "p, t, dL = softmax(wide(z))"),
    "the other argument's divergence": (
        "(p.P * others(t) - t * p.not_P)",
        "p.P * (jnp.log(p.P) - jnp.log(t))",
    ),
    "∂J/∂q without its 1": ("(jnp.log(t) + 1 + p.minus_log_P)", "(jnp.log(t) + p.minus_log_P)"),
    "the first example's cotangent for all": ("dL[..., None]", "dL[(0,) * dL.ndim]"),
}
