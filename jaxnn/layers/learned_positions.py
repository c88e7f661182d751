"""out_t = x_t + P_t"""

from dataclasses import dataclass
from typing import NamedTuple

from jax import Array
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn.initializers import check, drawn
from jaxnn.ops.learned_positions import bwd, fwd
from jaxnn.protocols import LayerExample, Residuals


class Params(NamedTuple):
    P: Array  # (length, width)


@dataclass(frozen=True)
class LearnedPositions:
    """out_t = x_t + P_t, a vector for each position t; x and out (…, T, width), P (length, width), T at most length.

    The rule is that of `jaxnn.ops.learned_positions`.
    Source: Gehring, Auli, Grangier, Yarats & Dauphin (2017), section 3.1.
    ValueError: sizes below 1, an unknown initializer, or an x that does not fit.
    """

    length: int
    width: int
    initializer: str = "gpt"

    def __post_init__(self) -> None:
        if self.length < 1 or self.width < 1:
            raise ValueError(f"{self}: it needs at least one position and one column.")
        check(self.initializer)

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> Params:
        return Params(drawn(self.initializer, key, (self.length, self.width), dtype))

    def forward(self, params: Params, x: Array, key: Array | None = None) -> tuple[Array, Residuals]:
        return fwd(x, params.P)

    def backward(self, residuals: Residuals, dout: Array) -> tuple[Params, Array]:
        dx, dP = bwd(residuals, dout)
        return Params(dP), dx

    def apply(self, params: Params, x: Array) -> Array:
        return self.forward(params, x)[0]


EXAMPLES = {
    "learned positions": LayerExample(LearnedPositions(5, 3), (2, 4, 3), inner=2),
    "learned positions, all of them": LayerExample(LearnedPositions(3, 2), (1, 3, 2), inner=2),
}
