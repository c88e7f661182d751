"""An image as the row of its patches: a permutation of its entries"""

from dataclasses import dataclass

import numpy as np
from jax import Array
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn.protocols import LayerExample, Residuals


@dataclass(frozen=True)
class Patches:
    """out_t = the entries of patch t: x (…, H W C), the entries of an image (H, W, C) in this order, and out
    (…, T, size² C), with the T = H W / size² patches row by row, the entries of each in the order of the image.

    out = P x, P a permutation, therefore ∂J/∂x = Pᵀ dout, the permutation back.
    Source: Dosovitskiy et al. (2021), section 3.1. ValueError: a size that does not divide H and W, or an x of another
    size.
    """

    height: int
    width: int
    size: int
    channels: int = 1

    def __post_init__(self) -> None:
        sizes = self.height, self.width, self.size, self.channels
        if min(sizes) < 1 or self.height % self.size or self.width % self.size:
            raise ValueError(f"{self}: all are 1 or more, and the size divides height and width.")

    @property
    def places(self) -> np.ndarray:
        """The place in x of each entry of out (T, size² C)."""
        rows, columns, size = self.height // self.size, self.width // self.size, self.size
        places = np.arange(self.height * self.width * self.channels).reshape(rows, size, columns, size, -1)
        return places.swapaxes(1, 2).reshape(rows * columns, -1)

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, key: Array | None = None) -> tuple[Array, Residuals]:
        entries = self.height * self.width * self.channels
        if x.shape[-1:] != (entries,):
            raise ValueError(f"{self} was given x of shape {x.shape}: its last axis must have {entries} entries.")
        places = self.places
        return jnp.take(x, places.ravel(), -1).reshape(*x.shape[:-1], *places.shape), ()

    def backward(self, residuals: Residuals, dout: Array | None) -> tuple[tuple[()], Array | None]:
        if dout is None:  # of whole numbers
            return (), None
        return (), jnp.take(dout.reshape(*dout.shape[:-2], -1), self.places.ravel().argsort(), -1)

    def apply(self, params: tuple[()], x: Array) -> Array:
        return self.forward(params, x)[0]


EXAMPLES = {
    "patches": LayerExample(Patches(4, 6, 2), (3, 24)),
    "patches of colours, one of them": LayerExample(Patches(2, 2, 2, 3), (2, 12)),
}
