"""out_i = W[x_i]"""

from dataclasses import dataclass
from typing import NamedTuple

from jax import Array
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn.initializers import check, drawn
from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.ops.embedding import bwd, fwd
from jaxnn.protocols import LayerExample, Residuals
from jaxnn.text import text


class Params(NamedTuple):
    W: Array  # (n, width)


@dataclass(frozen=True, repr=False)
class Embedding:
    """out_i = W[x_i], the row of W that x_i names: x (…) whole numbers 0 … n − 1, W (n, width), out (…, width).

    The rule is that of `jaxnn.ops.embedding`; x has no derivative: None.

    Source: Bengio, Ducharme, Vincent & Jauvin (2003), section 2.
    ValueError: sizes below 1, an unknown initializer, or an x that is known and names no row.
    TypeError: an x that is not of whole numbers.
    """

    n: int
    width: int
    initializer: str = "standard_normal"

    def __post_init__(self) -> None:
        if self.n < 1 or self.width < 1:
            raise ValueError(f"{self}: it needs at least one row and one column.")
        check(self.initializer)

    def __repr__(self) -> str:
        return text(self, "initializer")

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> Params:
        return Params(drawn(self.initializer, key, (self.n, self.width), dtype))

    def forward(self, params: Params, x: Array, key: Array | None = None) -> tuple[Array, Residuals]:
        return fwd(params.W, x, None)

    def backward(self, residuals: Residuals, dout: Array) -> tuple[Params, None]:
        dW, _ = bwd(None, residuals, dout)
        return Params(dW), None

    def apply(self, params: Params, x: Array) -> Array:
        return self.forward(params, x)[0]


EXAMPLES = {
    "embedding": LayerExample(Embedding(7, 3), (4,), inner=0, below=7),
    "embedding of sequences": LayerExample(Embedding(5, 2), (3, 4), inner=0, below=5),
    "embedding in a chain": LayerExample(Chain((Embedding(6, 3), Dense(3, 2))), (5,), inner=0, below=6),
}
