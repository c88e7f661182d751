"""Where the weights W (n_out, n_in) start, one way a file; biases start at zero.

xavier, he and lecun draw from the normal distribution cut at two standard deviations and rescaled, as in JAX.
"""

from jax import Array
from jax.typing import DTypeLike

from jaxnn import catalogue

NAMES = catalogue.names("initializers")


def check(initializer: str) -> None:
    """ValueError: none of this name."""
    if initializer not in NAMES:
        raise ValueError(f"Unknown initializer {initializer!r}; use one of {', '.join(NAMES)}.")


def drawn(initializer: str, key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """W by this way."""
    return catalogue.module("initializers", initializer).draw(key, shape, dtype)
