"""out = x̂ ⊙ γ + β, x̂ = (x − μ) r, r = (σ² + ε)^−½, with μ and σ² of a group of channels"""

from functools import partial

import jax
from jax import Array, lax

from jaxnn.cotangent import laid_out, like
from jaxnn.dtypes import check_one_dtype, wide
from jaxnn.protocols import OpExample, real
from jaxnn.shapes import along, check_vector


@partial(jax.custom_vjp, nondiff_argnames=("groups", "epsilon"))
def group_norm(x: Array, gamma: Array, beta: Array, groups: int, epsilon: float = 1e-5) -> Array:
    """out = x̂ ⊙ γ + β, x̂ = (x − μ) r, r = (mean (x − μ)² + ε)^−½, with the mean over all entries of an example that
    are of one group.

    x and out (m, …, n), γ and β (n,). The first axis has the examples, the last the channels, of which each group has
    n / groups that stand side by side; all axes between are places of one example (height and width of an image, the
    time of a sequence). So where tokens are to be normalised each by itself, give them along the first axis. With one
    channel a group it is instance norm, with one group the layer norm of images.

    ∂J/∂γ = Σ dout ⊙ x̂,   ∂J/∂β = Σ dout                 over all examples and places
    dx̂ = dout ⊙ γ                                        ∂μ/∂x_l = 1 / N, ∂r/∂x_l = −r² x̂_l / N for the N entries of a
    ∂J/∂x = r (dx̂ − mean dx̂ − x̂ mean(dx̂ ⊙ x̂))           group: x enters x̂ directly, through μ, and through r

    In bfloat16 it computes in float32. Source: Wu & He (2018), eq. 1 to 7.
    ValueError: groups that do not divide n, an x without an axis of examples, γ or β not of the shape (n,).
    TypeError: dtypes that differ.
    """
    return fwd(x, gamma, beta, groups, epsilon)[0]


def fwd(x: Array, gamma: Array, beta: Array, groups: int, epsilon: float) -> tuple[Array, tuple[Array, ...]]:
    check_one_dtype("group_norm", x=x, gamma=gamma, beta=beta)
    check_vector("group_norm", x, gamma=gamma, beta=beta)
    if x.ndim < 2 or groups < 1 or x.shape[-1] % groups:
        raise ValueError(
            f"group_norm was given x of shape {x.shape} for {groups} groups: give (m, …, n) with an n that they divide."
        )
    v = by_group(wide(x), groups)
    mu = mean(v)
    r = lax.rsqrt(mean((v - mu) ** 2) + epsilon)
    out = ((v - mu) * r).reshape(x.shape) * along(x, gamma) + along(x, beta)
    return out.astype(x.dtype), (x, gamma, beta, mu, r)


def bwd(groups: int, epsilon: float, residuals: tuple[Array, ...], dout: Array) -> tuple[Array, Array, Array]:
    x, gamma, beta, mu, r = residuals
    x_hat = (by_group(wide(x), groups) - mu) * r
    dx_hat = by_group(wide(dout) * along(x, gamma), groups)
    dx = r * (dx_hat - mean(dx_hat) - x_hat * mean(dx_hat * x_hat))
    dgamma = wide(dout) * x_hat.reshape(x.shape)
    return like(x, lax.reshape(dx, x.shape, out_sharding=laid_out(x))), like(gamma, dgamma), like(beta, dout)


def by_group(v: Array, groups: int) -> Array:
    """(m, …, n) -> (m, …, groups, n / groups)"""
    return v.reshape(*v.shape[:-1], groups, v.shape[-1] // groups)


def mean(v: Array) -> Array:
    """Over all entries of an example that are of one group: (m, …, groups, n / groups) -> (m, 1, …, groups, 1)."""
    return v.mean((*range(1, v.ndim - 2), v.ndim - 1), keepdims=True)


group_norm.defvjp(fwd, bwd)


def arguments(*shape: int, groups: int) -> OpExample:
    return {"x": real(*shape), "gamma": real(shape[-1]), "beta": real(shape[-1]), "groups": groups}


EXAMPLES = {
    "images": arguments(2, 2, 3, 4, groups=2),
    "vectors": arguments(3, 6, groups=2),
    "one example of a sequence, one group": arguments(1, 3, 4, groups=1),
    "one channel a group": arguments(2, 3, 2, groups=2) | {"epsilon": 0.5},
}
TRAPS = {
    "μ taken for a constant": ("dx_hat - mean(dx_hat) -", "dx_hat -"),
    "r taken for a constant": (" - x_hat * mean(dx_hat * x_hat))", ")"),
    "right at γ = 1 alone": ("by_group(wide(dout) * along(x, gamma), groups)", "by_group(wide(dout), groups)"),
    "over the channels of each place": ("dx_hat - mean(dx_hat) -", "dx_hat - dx_hat.mean(-1, keepdims=True) -"),
    "over all groups": ("dx_hat - mean(dx_hat) -", "dx_hat - mean(dx_hat).mean(-2, keepdims=True) -"),
    "the channels of a group far apart": (
        "x_hat = (by_group(wide(x), groups)",
        "x_hat = (by_group(wide(x), x.shape[-1] // groups).swapaxes(-1, -2)",
    ),
    "∂J/∂γ of x, not of x̂": ("dgamma = wide(dout) * x_hat.reshape(x.shape)", "dgamma = wide(dout) * wide(x)"),
}
