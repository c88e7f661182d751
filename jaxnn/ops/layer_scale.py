"""out = x + λ ⊙ f"""

import jax
from jax import Array

from jaxnn.cotangent import like, unless_of_type
from jaxnn.dtypes import check_one_dtype, wide
from jaxnn.protocols import Residuals, real
from jaxnn.shapes import along, check_one_shape, check_vector


@jax.custom_vjp
def layer_scale(x: Array, f: Array, lam: Array) -> Array:
    """out = x + λ ⊙ f: a residual with its branch f scaled; x, f and out (…, n), λ (n,).

    ∂J/∂x = dout
    ∂J/∂f = dout ⊙ λ          f is what the branch made of x: its own share of ∂J/∂x comes by its own backward pass
    ∂J/∂λ = Σᵢ dout_i ⊙ f_i    λ is used in every example

    It keeps f and λ, not x. In bfloat16 it computes in float32. Source: Touvron et al. (2021), eq. 4.
    ValueError: x and f of two shapes, or λ not of the shape (n,). TypeError: dtypes that differ.
    """
    return fwd(x, f, lam)[0]


def fwd(x: Array, f: Array, lam: Array) -> tuple[Array, Residuals]:
    check_one_dtype("layer_scale", x=x, f=f, lam=lam)
    check_one_shape("layer_scale", x=x, f=f)
    check_vector("layer_scale", x, lam=lam)
    return (wide(x) + along(x, lam) * wide(f)).astype(x.dtype), (unless_of_type(f, x), f, lam)


def bwd(residuals: Residuals, dout: Array) -> tuple[Array, Array, Array]:
    x, f, lam = residuals
    df = wide(dout) * along(f, lam)
    dlam = wide(dout) * wide(f)
    return like(f if x is None else x, dout), like(f, df), like(lam, dlam)


layer_scale.defvjp(fwd, bwd)

EXAMPLES = {
    "rows": {"x": real(4, 5), "f": real(4, 5), "lam": real(5)},
    "one example": {"x": real(3), "f": real(3), "lam": real(3)},
    "two leading axes": {"x": real(2, 1, 3), "f": real(2, 1, 3), "lam": real(3)},
}
TRAPS = {
    "the residual's part forgotten": ("else x, dout), like(f", "else x, 0 * dout), like(f"),
    "doubled": ("else x, dout), like(f", "else x, 2 * dout), like(f"),
    "the branch's part in ∂J/∂x too": ("else x, dout), like(f", "else x, wide(dout) + df), like(f"),
    "λ forgotten": ("df = wide(dout) * along(f, lam)", "df = wide(dout)"),
    "∂J/∂λ without f": ("dlam = wide(dout) * wide(f)", "dlam = wide(dout)"),
    "∂J/∂λ of the scaled branch": ("dlam = wide(dout) * wide(f)", "dlam = df * wide(f)"),
}
