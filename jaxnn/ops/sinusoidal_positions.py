"""out_t = x_t + p_t, of which the entries 2i and 2i + 1 are the sine and the cosine of t base^(−2i/n)"""

from functools import partial

import jax
from jax import Array
from jax import numpy as jnp

from jaxnn.dtypes import at_least_float32, check_one_dtype, wide
from jaxnn.protocols import real


@partial(jax.custom_vjp, nondiff_argnames=("base",))
def sinusoidal_positions(x: Array, base: float = 10000.0) -> Array:
    """out_t = x_t + p_t, p_t,2i = sin φ, p_t,2i+1 = cos φ, φ = t base^(−2i/n), t = 0 … T − 1; x and out (…, T, n).

    ∂J/∂x = dout        p learns nothing

    In bfloat16 it computes in float32. Source: Vaswani et al. (2017), section 3.5.
    ValueError: x without an axis of positions, or a base that is not positive. TypeError: x that is not of floats.
    """
    return fwd(x, base)[0]


def fwd(x: Array, base: float) -> tuple[Array, tuple[()]]:
    check_one_dtype("sinusoidal_positions", x=x)
    if x.ndim < 2 or base <= 0:
        given = f"sinusoidal_positions was given x of shape {x.shape} and base={base}"
        raise ValueError(f"{given}: give (…, T, n) and a positive number.")
    T, n = x.shape[-2:]
    t, k = jnp.arange(T, dtype=at_least_float32(x.dtype)), jnp.arange(n)
    phi = t[:, None] * base ** (-2 * (k // 2).astype(t.dtype) / n)[None]
    p = jnp.where(k[None] % 2 == 0, jnp.sin(phi), jnp.cos(phi))
    return (wide(x) + p[(None,) * (x.ndim - 2)]).astype(x.dtype), ()


def bwd(base: float, residuals: tuple[()], dout: Array) -> tuple[Array]:
    return (dout,)


sinusoidal_positions.defvjp(fwd, bwd)

EXAMPLES = {
    "sequences": {"x": real(2, 3, 4)},
    "one sequence": {"x": real(5, 2)},
    "an odd width": {"x": real(1, 3, 5)},
    "one entry": {"x": real(2, 2, 1, 1)},
    "another base": {"x": real(2, 4, 6), "base": 100.0},
}
TRAPS = {
    "the cotangent lost": ("return (dout,)", "return (0 * dout,)"),
    "doubled": ("return (dout,)", "return (2 * dout,)"),
    "√n, by which the caller multiplies x, on the way back too": (
        "return (dout,)",
        "return (dout * dout.shape[-1] ** 0.5,)",
    ),
    "the table taken for a factor": ("return (dout,)", "return (dout * fwd(0 * dout, base)[0],)"),
}
