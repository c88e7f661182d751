"""What a layer, a loss and a penalty are: structural types, nothing to inherit from.

Each is a frozen dataclass of static configuration (str, int, float, bool, tuples, layers) with pure methods. It hashes
and compares by value, so it can be a static argument of `jax.jit`, and its repr says all that it is.
"""

from typing import Any, ClassVar, Protocol

from jax import Array
from jax import numpy as jnp
from jax.typing import DTypeLike

PyTree = Any  # what `jax.tree` takes for a tree; everywhere else this alias stands for Any
Params = PyTree  # of arrays: a NamedTuple, () when there is nothing to learn
Residuals = PyTree  # of arrays


class Layer(Protocol):
    """out = f(params, x), and by hand the vector-Jacobian product of that very f."""

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> Params: ...

    def forward(self, params: Params, x: Array, key: Array | None = None) -> tuple[Array, Residuals]:
        """Training: the output, and what `backward` needs. A layer that draws (dropout) draws from `key`."""
        ...

    def backward(self, residuals: Residuals, dout: Array) -> tuple[Params, Array | None]:
        """(∂J/∂params, ∂J/∂x) from dout = ∂J/∂out: the types of `params` and `x`, None for an integer x."""
        ...

    def apply(self, params: Params, x: Array) -> Array:
        """Prediction: `forward(params, x)[0]` unless the layer says otherwise."""
        ...


class Loss(Protocol):
    """J = Σ wᵢLᵢ / Σ wᵢ over all examples, and by hand ∂J/∂z."""

    def forward(self, z: Array, y: Array, w: Array | None = None) -> tuple[Array, Residuals]: ...

    metric: ClassVar[str]  # the name in `metrics.METRICS` of what is reported beside J

    def backward(self, residuals: Residuals) -> Array: ...

    def predict(self, z: Array) -> Array:
        """y_hat: what the output z says of y, on y's own scale (a probability, a value)."""
        ...


class Penalty(Protocol):
    """R(params), a term added to J, and by hand ∂R/∂params."""

    def forward(self, params: Params) -> tuple[Array, Residuals]: ...

    def backward(self, residuals: Residuals) -> Params: ...
