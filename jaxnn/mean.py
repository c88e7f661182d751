"""What all losses share: targets that fit the output, and the mean over the examples. The 1/m lives here alone."""

from jax import Array
from jax import numpy as jnp
from jax.typing import ArrayLike

from jaxnn.dtypes import at_least_float32


def target(y: ArrayLike, z: Array) -> Array:
    """y in z's dtype. ValueError: z is several arrays, or y is not of its shape: (m,) and (m, 1) would be (m, m)."""
    if isinstance(z, tuple):
        raise ValueError(f"The loss takes an array z, and the model gives out a {type(z).__name__} of {len(z)}.")
    if jnp.shape(y) != jnp.shape(z):
        raise ValueError(
            f"The target y has shape {jnp.shape(y)}, the output z has {jnp.shape(z)}: they must be equal, "
            f"one example a row. A vector of m targets for one output is y[:, None]."
        )
    return jnp.asarray(y).astype(z.dtype)


def mean(L: Array, w: ArrayLike | None = None, share: Array | None = None) -> tuple[Array, Array]:
    """J = Σ wᵢLᵢ / Σ wᵢ over all examples, and ∂J/∂L = w / Σw; without w each example counts once, J = Σ Lᵢ / m.

    L and w of the same shape, one entry an example. Where all w are 0, J is 0. share: of L's shape, what an example
    counts for if not for 1, such as the weight of its class, which L has in it: J = Σ wᵢLᵢ / Σ wᵢ shareᵢ.
    J is summed and returned in float32 at least; ∂J/∂L has L's dtype. ValueError: w of another shape than L.
    """
    if w is None:
        w = jnp.ones(L.shape)
    if jnp.shape(w) != L.shape:
        raise ValueError(f"The weights w have shape {jnp.shape(w)}: they must be {L.shape}, one number an example.")
    w = jnp.asarray(w).astype(at_least_float32(L.dtype))
    total = (w if share is None else w * share).sum()
    dL = w / jnp.where(total > 0, total, 1)
    return (dL * L.astype(w.dtype)).sum(), dL.astype(L.dtype)
