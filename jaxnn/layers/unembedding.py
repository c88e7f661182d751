"""z = x Wᵀ, handed to the loss as x and W"""

from dataclasses import dataclass
from typing import NamedTuple

from jax import Array
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn.factored import Factored
from jaxnn.initializers import check, drawn
from jaxnn.protocols import LayerExample, Residuals


class Params(NamedTuple):
    W: Array  # (n, width)


@dataclass(frozen=True)
class Unembedding:
    """z = x Wᵀ, a `Factored`: the loss multiplies, chunk by chunk; x (…, width), W (n, width), z (…, n).

    The last layer before a `SoftmaxCrossEntropy` over many classes n. Its W has the shape of that of `Embedding`, so
    `Tied` can make them one. ∂J/∂W and ∂J/∂x are what the loss gives for W and x.

    ValueError: sizes below 1, an unknown initializer, or an x whose last axis is not the width.
    TypeError: x and W of different dtypes.
    """

    n: int
    width: int
    initializer: str = "lecun"

    def __post_init__(self) -> None:
        if self.n < 1 or self.width < 1:
            raise ValueError(f"{self}: it needs at least one row and one column.")
        check(self.initializer)

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> Params:
        return Params(drawn(self.initializer, key, (self.n, self.width), dtype))

    def forward(self, params: Params, x: Array, key: Array | None = None) -> tuple[Factored, Residuals]:
        if x.shape[-1:] != (self.width,):
            raise ValueError(
                f"{self} was given x of shape {x.shape}: its last axis must have the {self.width} entries."
            )
        if x.dtype != params.W.dtype:
            raise TypeError(f"{self} was given x of {x.dtype} for W of {params.W.dtype}: cast one of them.")
        return Factored(x, params.W), ()

    def backward(self, residuals: Residuals, dout: Factored) -> tuple[Params, Array]:
        return Params(dout.W), dout.h

    def apply(self, params: Params, x: Array) -> Factored:
        return self.forward(params, x)[0]


EXAMPLES = {
    "unembedding": LayerExample(Unembedding(4, 3), (5, 3)),
    "unembedding of sequences": LayerExample(Unembedding(3, 2), (2, 4, 2)),
}
