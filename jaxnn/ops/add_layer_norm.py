"""s = x + residual, out = ŝ ⊙ γ + β, ŝ = (s − μ) r, r = (mean (s − μ)² + ε)^−½"""

from functools import partial

import jax
from jax import Array

from jaxnn.cotangent import like, unless_of_type
from jaxnn.dtypes import check_one_dtype, wide
from jaxnn.ops.layer_norm import fwd as normalised
from jaxnn.ops.layer_norm import shares
from jaxnn.protocols import OpExample, Residuals, real
from jaxnn.shapes import check_one_shape, check_vector


@partial(jax.custom_vjp, nondiff_argnames=("epsilon",))
def add_layer_norm(
    x: Array, residual: Array, gamma: Array, beta: Array | None = None, epsilon: float = 1e-5
) -> tuple[Array, Array]:
    """(out, s): s = x + residual, out = ŝ ⊙ γ + β, ŝ = (s − μ) r, with μ the mean and r = (mean (s − μ)² + ε)^−½ of
    the n entries of each example.

    x, residual, out and s (…, n), γ (n,), β (n,) or None for 0. s goes on as the next residual, so it has a cotangent
    ds of its own.

    ds' = ds + r (dŝ − mean dŝ − ŝ mean(dŝ ⊙ ŝ)), dŝ = dout ⊙ γ    s is an output, and enters out as x in `layer_norm`
    ∂J/∂x = ∂J/∂residual = ds'                                     ∂s/∂x = ∂s/∂residual = 1
    ∂J/∂γ = Σᵢ dout_i ⊙ ŝ_i,   ∂J/∂β = Σᵢ dout_i

    It keeps s, of which out is made as s was rounded; neither x nor residual.
    Source: Ba, Kiros & Hinton (2016), eq. 3 and 4.
    ValueError: x and residual of two shapes, γ or β not of the shape (n,). TypeError: dtypes that differ.
    """
    return fwd(x, residual, gamma, beta, epsilon)[0]


def fwd(
    x: Array, residual: Array, gamma: Array, beta: Array | None, epsilon: float
) -> tuple[tuple[Array, Array], Residuals]:
    check_one_dtype("add_layer_norm", x=x, residual=residual, gamma=gamma, beta=beta)
    check_one_shape("add_layer_norm", x=x, residual=residual)
    check_vector("add_layer_norm", x, gamma=gamma, beta=beta)
    s = x + residual
    out, of_norm = normalised(s, gamma, beta, epsilon)
    return (out, s), (of_norm, unless_of_type(s, x), unless_of_type(s, residual))


def bwd(
    epsilon: float, residuals: Residuals, cotangents: tuple[Array, Array]
) -> tuple[Array, Array, Array, Array | None]:
    of_norm, x, residual = residuals
    s, gamma, beta, *_ = of_norm
    dout, ds = cotangents
    by_norm, dgamma = shares(of_norm, dout)
    ds = wide(ds) + by_norm
    dx, dresidual = like(s if x is None else x, ds), like(s if residual is None else residual, ds)
    return dx, dresidual, like(gamma, dgamma), None if beta is None else like(beta, dout)


add_layer_norm.defvjp(fwd, bwd)


def arguments(*shape: int) -> OpExample:
    return {"x": real(*shape), "residual": real(*shape), "gamma": real(shape[-1]), "beta": real(shape[-1])}


EXAMPLES = {
    "rows": arguments(4, 5),
    "one example, without β": arguments(3) | {"beta": None},
    "two leading axes": arguments(2, 3, 4),
    "one entry": arguments(4, 1) | {"epsilon": 0.5},
}
TRAPS = {
    "ds forgotten": ("ds = wide(ds) + by_norm", "ds = by_norm"),
    "the norm's part forgotten": ("ds = wide(ds) + by_norm", "ds = wide(ds) + 0 * by_norm"),
    "ds for the residual alone": ("like(s if x is None else x, ds)", "like(s if x is None else x, by_norm)"),
    "the norm's part for x alone": ("is None else residual, ds)", "is None else residual, cotangents[1])"),
    "shared between x and the residual": ("+ by_norm", "+ by_norm / 2"),
    "∂J/∂β with ds": ("like(beta, dout)", "like(beta, dout + cotangents[1])"),
}
