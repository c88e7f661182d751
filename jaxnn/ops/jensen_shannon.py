"""L = β Σ_k Q_k log(Q_k / M_k) + (1 − β) Σ_k P_k log(P_k / M_k), M = β Q + (1 − β) P, of logits"""

from functools import partial
from math import log

import jax
from jax import Array
from jax import numpy as jnp
from jax.nn import softplus

from jaxnn.cotangent import like
from jaxnn.dtypes import wide
from jaxnn.ops.softmax_cross_entropy import Softmax, softmax, times
from jaxnn.protocols import real
from jaxnn.shapes import check_alike, check_entries


@partial(jax.custom_vjp, nondiff_argnames=("beta",))
def jensen_shannon(z: Array, teacher: Array, beta: float = 0.5) -> Array:
    """L = β KL(Q‖M) + (1 − β) KL(P‖M) of each example, M = β Q + (1 − β) P, P = softmax(z), Q = softmax(teacher); z and
    teacher, both logits, (…, K), L (…) in float32 at least.

    At β = 0 it is KL(Q‖P) and at β = 1 KL(P‖Q), the limits of L / β and L / (1 − β): so people define it.
    A temperature is the caller's z / T and teacher / T, a mean over the examples too.

    L = β Σ Q log Q + (1 − β) Σ P log P − Σ M log M, therefore
    ∂L/∂P = (1 − β) log(P / M),   ∂L/∂Q = β log(Q / M)          and the same constant for every class, which is nothing:
    ∂J/∂z = dL P ⊙ (g − Σ_k P_k g_k), g = ∂L/∂P;   ∂J/∂teacher is the same of Q
    KL(Q‖P): ∂J/∂z = dL (P − Q) = dL (P_j Σ_{k≠j} Q_k − Q_j Σ_{k≠j} P_k),   ∂L/∂Q = log(Q / P)

    Source: Agarwal et al. (2024). ValueError: shapes that differ, no class, a β outside of 0 … 1.
    TypeError: dtypes that differ.
    """
    return fwd(z, teacher, beta)[0]


def fwd(z: Array, teacher: Array, beta: float) -> tuple[Array, tuple[Array, Array]]:
    check_alike("jensen_shannon", z=z, teacher=teacher)
    check_entries("jensen_shannon", z=z)
    if not 0 <= beta <= 1:
        raise ValueError(f"jensen_shannon was given beta = {beta}: give a number from 0 to 1.")
    return value(softmax(wide(z)), softmax(wide(teacher)), beta), (z, teacher)


def value(p: Softmax, q: Softmax, beta: float) -> Array:
    if beta == 1:
        return value(q, p, 0)
    if beta == 0:
        return times(q.P, log_ratio(p, q)).sum(-1)
    by_p, by_q = log_mixture(log_ratio(p, q), beta)
    return -(beta * times(q.P, by_q) + (1 - beta) * times(p.P, by_p)).sum(-1)


def bwd(beta: float, residuals: tuple[Array, Array], dL: Array) -> tuple[Array, Array]:
    z, teacher = residuals
    dz, dteacher = gradients(softmax(wide(z)), softmax(wide(teacher)), beta)
    return like(z, dL[..., None] * dz), like(teacher, dL[..., None] * dteacher)


def gradients(p: Softmax, q: Softmax, beta: float) -> tuple[Array, Array]:
    """(∂L/∂z, ∂L/∂teacher), by log(M / P) = log(1 − β) + log(1 + e^r), r = log(β Q / (1 − β) P): without its constant,
    which is nothing, ∂L/∂P keeps its digits where M is almost (1 − β) P."""
    if beta == 1:
        by_teacher, by_z = gradients(q, p, 0)
        return by_z, by_teacher
    if beta == 0:
        return p.P * q.not_P - q.P * p.not_P, by_logits(q.P, log_ratio(p, q))
    r = log_ratio(p, q) + log(beta / (1 - beta))
    return by_logits(p.P, -(1 - beta) * softplus(r)), by_logits(q.P, -beta * softplus(-r))


def log_ratio(p: Softmax, q: Softmax) -> Array:
    """log(Q / P)."""
    return p.minus_log_P - q.minus_log_P


def log_mixture(r: Array, beta: float) -> tuple[Array, Array]:
    """(log(M / P), log(M / Q)) of r = log(Q / P), from the larger of P and Q: no e^r overflows; at r = 0 both are 0."""
    q_is_larger = r > 0
    of_larger = jnp.log1p(jnp.where(q_is_larger, 1 - beta, beta) * jnp.expm1(jnp.where(q_is_larger, -r, r)))
    return of_larger + jnp.where(q_is_larger, r, 0), of_larger - jnp.where(q_is_larger, 0, r)


def by_logits(P: Array, g: Array) -> Array:
    """∂L/∂z = P ⊙ (g − Σ_k P_k g_k) from g = ∂L/∂P, which is made 0 at the largest P: there nothing then cancels."""
    g = g - jnp.take_along_axis(g, P.argmax(-1, keepdims=True), -1)
    return times(P, g - times(P, g).sum(-1, keepdims=True))


jensen_shannon.defvjp(fwd, bwd)

EXAMPLES = {
    f"{words}, β = {beta}": {"z": real(*shape), "teacher": real(*shape), "beta": beta}
    for beta, (words, shape) in {
        0.5: ("rows", (2, 3)),
        0.3: ("two leading axes", (2, 1, 3)),
        0.8: ("one example", (3,)),
        0.0: ("rows", (2, 3)),
        1.0: ("rows", (2, 3)),
        0.4: ("one class", (2, 1)),
    }.items()
}
TRAPS = {
    "β and 1 − β exchanged": ("by_logits(p.P, -(1 - beta) * softplus(r))", "by_logits(p.P, -beta * softplus(r))"),
    "log(P / M) without the softmax": (
        "return by_logits(p.P, -(1 - beta) * softplus(r))",
        "return -(1 - beta) * softplus(r) * p.P",
    ),
    "M taken for Q": ("return by_logits(p.P, -(1 - beta) * softplus(r))", "return by_logits(p.P, -(1 - beta) * r)"),
    "KL(Q‖P) for KL(P‖Q)": (
        "by_teacher, by_z = gradients(q, p, 0)",
        "by_z, by_teacher = gradients(p, q, 0)",
    ),
    "the first example's cotangent for all": ("like(z, dL[..., None]", "like(z, dL[(0,) * dL.ndim]"),
}
