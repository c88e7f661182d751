"""out = exp(x) / Σ_k exp x_k"""

from dataclasses import dataclass

from jax import Array
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.ops.softmax import bwd, fwd
from jaxnn.protocols import LayerExample, Residuals


@dataclass(frozen=True)
class Softmax:
    """out = exp(x) / Σ_k exp x_k of the entries of each example; x and out (…, n).

    The rule is that of `jaxnn.ops.softmax`. As a last layer it has no loss of its own: SoftmaxCrossEntropy takes x
    itself. Source: Bridle (1990), eq. 5 and 6.
    """

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, key: Array | None = None) -> tuple[Array, Residuals]:
        return fwd(x)

    def backward(self, residuals: Residuals, dout: Array) -> tuple[tuple[()], Array]:
        return (), *bwd(residuals, dout)

    def apply(self, params: tuple[()], x: Array) -> Array:
        return self.forward(params, x)[0]


EXAMPLES = {
    "softmax": LayerExample(Softmax(), (4, 3)),
    "softmax in a chain": LayerExample(Chain((Dense(3, 4), Softmax(), Dense(4, 2))), (5, 3)),
}
