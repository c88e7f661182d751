"""z = x Wᵀ + b"""

from dataclasses import dataclass
from typing import NamedTuple

from jax import Array
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn.cotangent import like, product
from jaxnn.initializers import check, drawn
from jaxnn.protocols import LayerExample, Residuals
from jaxnn.shapes import laid_out
from jaxnn.text import text


class Params(NamedTuple):
    W: Array  # (n_out, n_in)
    b: Array | None  # (n_out,); None without a bias


@dataclass(frozen=True, repr=False)
class Dense:
    """z = x Wᵀ + b, one example a row: x (…, n_in), W (n_out, n_in), b (n_out,), z (…, n_out), all of one float dtype.

    z_ij = Σ_k x_ik W_jk + b_j, therefore
    ∂J/∂W = dzᵀ x    W_jk is used once in every example i, times x_ik; the product sums over the examples
    ∂J/∂b = Σ_i dz_i  b_j is added in every example
    ∂J/∂x = dz W      x_ik feeds every z_ij, through W_jk

    Without a bias b is None, which stands for 0.
    Source: Rumelhart, Hinton & Williams (1986), eq. 6 and 7; Nielsen (2015), chapter 2, BP2 to BP4.
    ValueError: sizes below 1, an unknown initializer, or an x whose last axis is not n_in.
    TypeError: x and W of different dtypes.
    """

    n_in: int
    n_out: int
    initializer: str = "xavier"
    bias: bool = True

    def __post_init__(self) -> None:
        if self.n_in < 1 or self.n_out < 1:
            raise ValueError(f"Dense({self.n_in}, {self.n_out}): a layer needs at least one input and one unit.")
        check(self.initializer)

    def __repr__(self) -> str:
        return text(self, "bias")

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> Params:
        W = drawn(self.initializer, key, (self.n_out, self.n_in), dtype)
        return Params(W, jnp.zeros(self.n_out, dtype) if self.bias else None)

    def forward(self, params: Params, x: Array, key: Array | None = None) -> tuple[Array, Residuals]:
        W, b = params
        if jnp.shape(x)[-1:] != (self.n_in,):
            raise ValueError(
                f"Dense({self.n_in}, {self.n_out}) was given x of shape {jnp.shape(x)}: its last axis must be the "
                f"{self.n_in} inputs, one example a row."
            )
        if jnp.result_type(x) != jnp.result_type(W):
            raise TypeError(
                f"Dense({self.n_in}, {self.n_out}) was given x of {jnp.result_type(x)} for W of {jnp.result_type(W)}: "
                f"cast one of them, for example x.astype(W.dtype)."
            )
        z = jnp.matmul(x, W.T, out_sharding=laid_out(x, jnp.ndim(x) - 1, W, 0))
        return z if b is None else z + jnp.broadcast_to(b, z.shape), (W, b, x)

    def backward(self, residuals: Residuals, dz: Array) -> tuple[Params, Array]:
        W, b, x = residuals
        dW = product(W, "...o,...i->oi", dz, x)
        db = like(b, dz) if b is not None else None
        dx = product(x, "...o,oi->...i", dz, W)
        return Params(dW, db), dx

    def apply(self, params: Params, x: Array) -> Array:
        return self.forward(params, x)[0]


EXAMPLES = {
    "dense": LayerExample(Dense(5, 3), (4, 5)),
    "dense, one example without a batch axis": LayerExample(Dense(5, 3), (5,)),
    "dense, two leading axes": LayerExample(Dense(5, 3), (2, 4, 5)),
    "dense, all sizes equal": LayerExample(Dense(3, 3), (3, 3)),
    "dense, all sizes equal, two leading axes": LayerExample(Dense(3, 3), (3, 3, 3)),
    "dense, without a bias": LayerExample(Dense(4, 3, bias=False), (2, 5, 4)),
    "dense, width one": LayerExample(Dense(1, 1), (1, 1)),
}
