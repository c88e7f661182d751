"""out = x̂ ⊙ (γ + c), x̂ = x r, r = (mean x² + ε)^−½"""

from functools import partial

import jax
from jax import Array, lax

from jaxnn.cotangent import like
from jaxnn.dtypes import check_one_dtype, wide
from jaxnn.protocols import OpExample, real
from jaxnn.shapes import along, check_vector


@partial(jax.custom_vjp, nondiff_argnames=("offset", "epsilon"))
def rms_norm(x: Array, gamma: Array, offset: float = 0.0, epsilon: float = 1e-6) -> Array:
    """out = x̂ ⊙ (γ + c), x̂ = x r, r = (mean x² + ε)^−½ of the n entries of each example; x and out (…, n), γ (n,).

    ∂J/∂γ = Σᵢ dout_i ⊙ x̂_i
    dx̂ = dout ⊙ (γ + c)                   ∂r/∂x_l = −r³ x_l / n, therefore
    ∂J/∂x = r (dx̂ − x̂ mean(dx̂ ⊙ x̂))       x enters x̂ directly, and through r

    offset: c, 1 where γ is kept as its distance from 1. In bfloat16 it computes in float32.
    Source: Zhang & Sennrich (2019), eq. 4. ValueError: γ not of the shape (n,). TypeError: dtypes that differ.
    """
    return fwd(x, gamma, offset, epsilon)[0]


def fwd(x: Array, gamma: Array, offset: float, epsilon: float) -> tuple[Array, tuple[Array, ...]]:
    check_one_dtype("rms_norm", x=x, gamma=gamma)
    check_vector("rms_norm", x, gamma=gamma)
    r = lax.rsqrt(mean(wide(x) ** 2) + epsilon)
    residuals = x, gamma, r
    return output(offset, residuals), residuals


def output(offset: float, residuals: tuple[Array, ...]) -> Array:
    """out, of what is kept for the way back."""
    x, gamma, r = residuals
    return (wide(x) * r * (along(x, gamma) + offset)).astype(x.dtype)


def bwd(offset: float, epsilon: float, residuals: tuple[Array, ...], dout: Array) -> tuple[Array, Array]:
    dx, dgamma = shares(offset, residuals, dout)
    x, gamma, _ = residuals
    return like(x, dx), like(gamma, dgamma)


def shares(offset: float, residuals: tuple[Array, ...], dout: Array) -> tuple[Array, Array]:
    """dx, and the share of each example in dγ, before they are rounded."""
    x, gamma, r = residuals
    dout = wide(dout)
    x_hat = wide(x) * r
    dx_hat = dout * (along(x, gamma) + offset)
    dx = r * (dx_hat - x_hat * mean(dx_hat * x_hat))
    return dx, dout * x_hat


def mean(v: Array) -> Array:
    """Over the entries of an example: (…, n) -> (…, 1)."""
    return v.mean(-1, keepdims=True)


rms_norm.defvjp(fwd, bwd)


def arguments(*shape: int) -> OpExample:
    return {"x": real(*shape), "gamma": real(shape[-1])}


WITHOUT_OFFSET = {
    "rows": arguments(4, 5),
    "one example": arguments(3),
    "two leading axes": arguments(2, 3, 4),
    "one row": arguments(1, 5),
    "one entry": arguments(4, 1) | {"epsilon": 0.5},
}
EXAMPLES = WITHOUT_OFFSET | {f"{words}, c = 1": example | {"offset": 1.0} for words, example in WITHOUT_OFFSET.items()}
TRAPS = {
    "offset forgotten on the way back": (
        "dx_hat = dout * (along(x, gamma) + offset)",
        "dx_hat = dout * along(x, gamma)",
    ),
    "r taken for a constant": ("dx_hat - x_hat * mean(dx_hat * x_hat)", "dx_hat"),
    "γ forgotten": ("dx_hat = dout * (along(x, gamma) + offset)", "dx_hat = dout"),
    "∂J/∂γ of x, not of x̂": ("return dx, dout * x_hat", "return dx, dout * wide(x)"),
    "r once too often": ("- x_hat * mean(dx_hat * x_hat)", "- x_hat * r * mean(dx_hat * x_hat)"),
}
