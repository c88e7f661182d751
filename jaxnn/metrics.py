"""How good predictions are, in the words of the field; y_hat is what a loss's `predict` returns."""

from jax import Array
from jax import numpy as jnp
from jax.typing import ArrayLike

from jaxnn.dtypes import at_least_float32


def accuracy(y_hat: ArrayLike, y: ArrayLike) -> Array:
    """Share of examples whose class is right: y_hat ≥ ½ for one output (…, 1), the largest entry for several (…, K).

    y: of y_hat's shape, or integer labels of its shape without the last axis.
    """
    y_hat, y = jnp.asarray(y_hat), jnp.asarray(y)

    def label(v: Array) -> Array:
        return (v[..., 0] >= 0.5 if v.shape[-1] == 1 else v.argmax(-1)).astype(int)

    right = label(y_hat) == (label(y.astype(y_hat.dtype)) if y.ndim == y_hat.ndim else y.astype(int))
    return share(right)


def binary_accuracy(y_hat: ArrayLike, y: ArrayLike) -> Array:
    """Share of entries where ŷ ≥ ½ just as y ≥ ½, each output a question by itself."""
    y_hat, y = jnp.asarray(y_hat), jnp.asarray(y)
    right = (y_hat >= 0.5) == (y.astype(y_hat.dtype) >= 0.5)
    return share(right)


def share(right: Array) -> Array:
    """The share of True entries. All right is exactly 1 and none exactly 0, under jit too, where n/m becomes n times a
    rounded 1/m."""
    return jnp.where(right.any(), 1 - (right.size - right.sum()) / right.size, 0)


def rmse(y_hat: Array, y: Array) -> Array:
    """√(mean of (ŷ − y)²) over all examples and outputs, in the units of y."""
    error = jnp.asarray(y_hat) - jnp.asarray(y)
    largest = jnp.abs(error).max()
    return largest * jnp.sqrt(((error / one_for_0(largest)) ** 2).mean())  # no square overflows


def r2(y_hat: ArrayLike, y: ArrayLike) -> Array:
    """R² = 1 − Σ (ŷ − y)² / Σ (y − ȳ)² of each output, then their mean; NaN where an output is constant.

    y_hat and y (…, K), all leading axes examples.
    """
    y_hat, y = jnp.asarray(y_hat), jnp.asarray(y)
    y_hat, y = (v.reshape(-1, v.shape[-1]).astype(at_least_float32(y_hat.dtype)) for v in (y_hat, y))
    largest = one_for_0(jnp.abs(y).max(0, keepdims=True))
    y_hat, y = y_hat / largest, y / largest  # no sum or square overflows
    total = jnp.where(y.max(0) > y.min(0), ((y - y.mean(0, keepdims=True)) ** 2).sum(0), jnp.nan)
    return (1 - ((y_hat - y) ** 2).sum(0) / total).mean()


def one_for_0(v: Array) -> Array:
    return jnp.where(v == 0, 1, v)


METRICS = {"accuracy": accuracy, "binary_accuracy": binary_accuracy, "r2": r2}
