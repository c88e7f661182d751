"""s = x + residual, out = ŝ ⊙ (γ + c), ŝ = s r, r = (mean s² + ε)^−½"""

from functools import partial

import jax
from jax import Array

from jaxnn.cotangent import like, unless_of_type
from jaxnn.dtypes import check_one_dtype, wide
from jaxnn.ops.rms_norm import fwd as normalised
from jaxnn.ops.rms_norm import shares
from jaxnn.protocols import OpExample, Residuals, real
from jaxnn.shapes import check_one_shape, check_vector


@partial(jax.custom_vjp, nondiff_argnames=("offset", "epsilon"))
def add_rms_norm(
    x: Array, residual: Array, gamma: Array, offset: float = 0.0, epsilon: float = 1e-6
) -> tuple[Array, Array]:
    """(out, s): s = x + residual, out = ŝ ⊙ (γ + c), ŝ = s r, r = (mean s² + ε)^−½ of the n entries of each example.

    x, residual, out and s (…, n), γ (n,). s goes on as the next residual, so it has a cotangent ds of its own.

    ds' = ds + r (dŝ − ŝ mean(dŝ ⊙ ŝ)), dŝ = dout ⊙ (γ + c)    s is an output, and enters out as x does in `rms_norm`
    ∂J/∂x = ∂J/∂residual = ds'                                 ∂s/∂x = ∂s/∂residual = 1
    ∂J/∂γ = Σᵢ dout_i ⊙ ŝ_i

    It keeps s, of which out is made as s was rounded; neither x nor residual. offset: c.
    Source: Zhang & Sennrich (2019), eq. 4.
    ValueError: x and residual of two shapes, or γ not of the shape (n,). TypeError: dtypes that differ.
    """
    return fwd(x, residual, gamma, offset, epsilon)[0]


def fwd(
    x: Array, residual: Array, gamma: Array, offset: float, epsilon: float
) -> tuple[tuple[Array, Array], Residuals]:
    check_one_dtype("add_rms_norm", x=x, residual=residual, gamma=gamma)
    check_one_shape("add_rms_norm", x=x, residual=residual)
    check_vector("add_rms_norm", x, gamma=gamma)
    s = x + residual
    out, of_norm = normalised(s, gamma, offset, epsilon)
    return (out, s), (of_norm, unless_of_type(s, x), unless_of_type(s, residual))


def bwd(
    offset: float, epsilon: float, residuals: Residuals, cotangents: tuple[Array, Array]
) -> tuple[Array, Array, Array]:
    of_norm, x, residual = residuals
    s, gamma, _ = of_norm
    dout, ds = cotangents
    by_norm, dgamma = shares(offset, of_norm, dout)
    ds = wide(ds) + by_norm
    return like(s if x is None else x, ds), like(s if residual is None else residual, ds), like(gamma, dgamma)


add_rms_norm.defvjp(fwd, bwd)


def arguments(*shape: int) -> OpExample:
    return {"x": real(*shape), "residual": real(*shape), "gamma": real(shape[-1])}


EXAMPLES = {
    "rows": arguments(4, 5),
    "one example, c = 1": arguments(3) | {"offset": 1.0},
    "two leading axes": arguments(2, 3, 4),
    "one entry": arguments(4, 1) | {"epsilon": 0.5},
}
TRAPS = {
    "ds forgotten": ("ds = wide(ds) + by_norm", "ds = by_norm"),
    "the norm's part forgotten": ("ds = wide(ds) + by_norm", "ds = wide(ds) + 0 * by_norm"),
    "ds for the residual alone": ("like(s if x is None else x, ds)", "like(s if x is None else x, by_norm)"),
    "the norm's part for x alone": ("is None else residual, ds)", "is None else residual, cotangents[1])"),
    "shared between x and the residual": ("+ by_norm", "+ by_norm / 2"),
    "ds through the norm, as if it were out's": ("(offset, of_norm, dout)", "(offset, of_norm, dout + ds)"),
}
