"""z = h Wᵀ, not multiplied out: what a model hands to a loss that makes z chunk by chunk, and never all of it."""

from typing import NamedTuple

from jax import Array
from jax import numpy as jnp

from jaxnn.shapes import laid_out


class Factored(NamedTuple):
    """z = h Wᵀ (…, K); its cotangent is the pair of those of h and W."""

    h: Array  # (…, n)
    W: Array  # (K, n)

    def product(self) -> Array:
        """z, whole."""
        return jnp.matmul(self.h, self.W.T, out_sharding=laid_out(self.h, self.h.ndim - 1, self.W, 0))


def whole(z: Array | Factored) -> Array:
    """z (…, K), multiplied out."""
    return z.product() if isinstance(z, Factored) else z
