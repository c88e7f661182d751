"""out = x̂ ⊙ γ + β, x̂ = (x − μ) r, r = (σ² + ε)^−½, with μ and σ² of all examples"""

from functools import partial

import jax
from jax import Array, lax

from jaxnn.cotangent import like
from jaxnn.dtypes import check_one_dtype, wide
from jaxnn.protocols import real
from jaxnn.shapes import along, check_vector


@partial(jax.custom_vjp, nondiff_argnames=("epsilon",))
def batch_norm(x: Array, gamma: Array, beta: Array, epsilon: float = 1e-5) -> tuple[Array, Array, Array]:
    """(out, μ, σ²): out = x̂ ⊙ γ + β, x̂ = (x − μ) r, r = (σ² + ε)^−½, with the mean μ and the variance
    σ² = mean (x − μ)² of each of the n columns over all m examples.

    x and out (…, n), γ and β (n,); μ and σ² (n,), in float32 at least, are what running statistics are made of. σ² is
    the biased one: σ² m / (m − 1) is that of PyTorch's running variance. Each output has a cotangent of its own.
    Inside `jax.shard_map` the examples are those of the device.

    ∂J/∂γ = Σᵢ dout_i ⊙ x̂_i,   ∂J/∂β = Σᵢ dout_i
    dx̂ = dout ⊙ γ                    ∂μ/∂x_i = 1 / m, ∂σ²/∂x_i = 2 (x_i − μ) / m, ∂r/∂x_i = −r² x̂_i / m, therefore
    ∂J/∂x = r (dx̂ − mean dx̂ − x̂ mean(dx̂ ⊙ x̂))           x enters x̂ directly, through μ, and through r,
            + (dμ + 2 (x − μ) dσ²) / m                     and both statistics

    In bfloat16 it computes in float32. Source: Ioffe & Szegedy (2015), algorithm 1 and section 3.
    ValueError: γ or β not of the shape (n,), or an x without examples. TypeError: dtypes that differ.
    """
    return fwd(x, gamma, beta, epsilon)[0]


def fwd(x: Array, gamma: Array, beta: Array, epsilon: float) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    check_one_dtype("batch_norm", x=x, gamma=gamma, beta=beta)
    check_vector("batch_norm", x, gamma=gamma, beta=beta)
    if x.ndim < 2 or x.size == 0:
        raise ValueError(f"batch_norm was given x of shape {x.shape}: give one example or more, (…, n).")
    mu = mean(wide(x))
    var = mean((wide(x) - mu) ** 2)
    out = (wide(x) - mu) * lax.rsqrt(var + epsilon) * along(x, gamma) + along(x, beta)
    return (out.astype(x.dtype), mu.reshape(-1), var.reshape(-1)), (x, gamma, beta, mu, var)


def bwd(
    epsilon: float, residuals: tuple[Array, ...], cotangents: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    x, gamma, beta, mu, var = residuals
    dout, dmu, dvar = (wide(dv) for dv in cotangents)
    r = lax.rsqrt(var + epsilon)
    x_hat, m = (wide(x) - mu) * r, x.size // x.shape[-1]
    dx_hat = dout * along(x, gamma)
    dx = r * (dx_hat - mean(dx_hat) - x_hat * mean(dx_hat * x_hat))
    dx = dx + (along(x, dmu) + 2 * (wide(x) - mu) * along(x, dvar)) / m
    return like(x, dx), like(gamma, dout * x_hat), like(beta, dout)


def mean(v: Array) -> Array:
    """Over all examples: (…, n) -> (1, …, 1, n)."""
    return v.mean(tuple(range(v.ndim - 1)), keepdims=True)


batch_norm.defvjp(fwd, bwd)

EXAMPLES = {
    "rows": {"x": real(4, 3), "gamma": real(3), "beta": real(3)},
    "two leading axes": {"x": real(2, 3, 2), "gamma": real(2), "beta": real(2)},
    "two examples, a larger ε": {"x": real(2, 3), "gamma": real(3), "beta": real(3), "epsilon": 0.5},
    "one example": {"x": real(1, 2), "gamma": real(2), "beta": real(2), "epsilon": 0.5},
}
TRAPS = {
    "μ taken for a constant": ("dx_hat - mean(dx_hat) -", "dx_hat -"),
    "σ² taken for a constant": (" - x_hat * mean(dx_hat * x_hat))", ")"),
    "both taken for constants": ("r * (dx_hat - mean(dx_hat) - x_hat * mean(dx_hat * x_hat))", "r * dx_hat"),
    "right at γ = 1 alone": ("dx_hat = dout * along(x, gamma)", "dx_hat = dout"),
    "σ²'s sum over m − 1 on the way back": ("mean(dx_hat * x_hat)", "(mean(dx_hat * x_hat) * m / max(m - 1, 1))"),
    "the cotangent of μ forgotten": ("(along(x, dmu) +", "(0 * along(x, dmu) +"),
    "the cotangent of σ² forgotten": (" + 2 * (wide(x) - mu) * along(x, dvar)", ""),
    "2 forgotten": ("2 * (wide(x) - mu)", "(wide(x) - mu)"),
    "over the entries of an example": (
        "dx_hat - mean(dx_hat)",
        "dx_hat - dx_hat.mean(-1, keepdims=True)",
    ),
}
