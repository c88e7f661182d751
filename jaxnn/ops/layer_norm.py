"""out = x̂ ⊙ γ + β, x̂ = (x − μ) r, r = (mean (x − μ)² + ε)^−½"""

from functools import partial

import jax
from jax import Array, lax

from jaxnn.cotangent import like
from jaxnn.dtypes import check_one_dtype, wide
from jaxnn.ops.rms_norm import mean
from jaxnn.protocols import OpExample, Residuals, real
from jaxnn.shapes import along, check_vector


@partial(jax.custom_vjp, nondiff_argnames=("epsilon",))
def layer_norm(x: Array, gamma: Array, beta: Array | None = None, epsilon: float = 1e-5) -> Array:
    """out = x̂ ⊙ γ + β, x̂ = (x − μ) r, with μ the mean and r = (mean (x − μ)² + ε)^−½ of the n entries of each example.

    x and out (…, n), γ (n,), β (n,) or None for 0.

    ∂J/∂γ = Σᵢ dout_i ⊙ x̂_i,   ∂J/∂β = Σᵢ dout_i
    dx̂ = dout ⊙ γ                                       ∂μ/∂x_l = 1 / n, ∂r/∂x_l = −r² x̂_l / n, therefore
    ∂J/∂x = r (dx̂ − mean dx̂ − x̂ mean(dx̂ ⊙ x̂))           x enters x̂ directly, through μ, and through r

    In bfloat16 it computes in float32. Source: Ba, Kiros & Hinton (2016), eq. 3 and 4.
    ValueError: γ or β not of the shape (n,). TypeError: dtypes that differ.
    """
    return fwd(x, gamma, beta, epsilon)[0]


def fwd(x: Array, gamma: Array, beta: Array | None, epsilon: float) -> tuple[Array, tuple[Array | None, ...]]:
    check_one_dtype("layer_norm", x=x, gamma=gamma, beta=beta)
    check_vector("layer_norm", x, gamma=gamma, beta=beta)
    mu = mean(wide(x))
    r = lax.rsqrt(mean((wide(x) - mu) ** 2) + epsilon)
    residuals = x, gamma, beta, mu, r
    return output(residuals), residuals


def output(residuals: Residuals) -> Array:
    """out, of what is kept for the way back."""
    x, gamma, beta, mu, r = residuals
    out = (wide(x) - mu) * r * along(x, gamma)
    out = out if beta is None else out + along(x, beta)
    return out.astype(x.dtype)


def bwd(
    epsilon: float, residuals: tuple[Array, Array, Array | None, Array, Array], dout: Array
) -> tuple[Array, Array, Array | None]:
    dx, dgamma = shares(residuals, dout)
    x, gamma, beta, *_ = residuals
    return like(x, dx), like(gamma, dgamma), None if beta is None else like(beta, dout)


def shares(residuals: tuple[Array, Array, Array | None, Array, Array], dout: Array) -> tuple[Array, Array]:
    """dx, and the share of each example in dγ, before they are rounded."""
    x, gamma, _, mu, r = residuals
    x_hat, dout = (wide(x) - mu) * r, wide(dout)
    dx_hat = dout * along(x, gamma)
    dx = r * (dx_hat - mean(dx_hat) - x_hat * mean(dx_hat * x_hat))
    return dx, dout * x_hat


layer_norm.defvjp(fwd, bwd)


def arguments(*shape: int) -> OpExample:
    return {"x": real(*shape), "gamma": real(shape[-1]), "beta": real(shape[-1])}


WITH_BETA = {
    "rows": arguments(4, 5),
    "one example": arguments(3),
    "two leading axes": arguments(2, 3, 4),
    "one row": arguments(1, 5),
    "one entry": arguments(4, 1),
}
EXAMPLES = WITH_BETA | {f"{words}, without β": example | {"beta": None} for words, example in WITH_BETA.items()}
TRAPS = {
    "right at γ = 1 alone": ("dx_hat = dout * along(x, gamma)", "dx_hat = dout"),
    "μ taken for a constant": ("dx_hat - mean(dx_hat) -", "dx_hat -"),
    "r taken for a constant": (" - x_hat * mean(dx_hat * x_hat))", ")"),
    "s for r": ("dx = r *", "dx = 1 / r *"),
    "∂J/∂γ of x, not of x̂": ("return dx, dout * x_hat", "return dx, dout * wide(x)"),
    "∂J/∂β as a mean": ("like(beta, dout)", "like(beta, dout / (dout.size // dout.shape[-1]))"),
}
