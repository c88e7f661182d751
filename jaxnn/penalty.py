"""A term of J that keeps the weights small."""

import re
from dataclasses import dataclass

from jax import Array
from jax import numpy as jnp
from jax.tree_util import keystr, tree_leaves_with_path, tree_map_with_path

from jaxnn.dtypes import at_least_float32
from jaxnn.protocols import Params, PyTree, learned, without_statistics


@dataclass(frozen=True)
class L2:
    """R = λ/2 Σ W², over all entries of all learned leaves named W, or W and a number; biases go free.

    ∂R/∂W = λ W, and 0 for every other leaf

    R is summed in float32 at least. Other conventions are the caller's scaling: λ/2m Σ W² is L2(λ / m) for full
    batches of m examples. Source: Krogh & Hertz (1991). ValueError: a negative λ, or params without such
    a leaf.
    """

    lam: float

    def __post_init__(self) -> None:
        if not self.lam >= 0:
            raise ValueError(f"L2({self.lam}): λ must be 0 or more.")

    def forward(self, params: Params) -> tuple[Array, Params]:
        W = [v for path, v in tree_leaves_with_path(without_statistics(params)) if is_weight(path)]
        if not W:
            raise ValueError(
                "L2 penalises leaves named W, W1, W2, …, and these params have none: rename the weights or leave it."
            )
        return self.lam / 2 * sum((v.astype(at_least_float32(v.dtype)) ** 2).sum() for v in W), params

    def backward(self, params: Params) -> Params:
        def derivative(path: tuple[PyTree, ...], v: Array, is_learned: bool) -> Array:
            return self.lam * v if is_learned and is_weight(path) else jnp.zeros_like(v)

        return tree_map_with_path(derivative, params, learned(params))


def is_weight(path: tuple[PyTree, ...]) -> bool:
    """Whether the leaf with this path is named W, or W followed by digits."""
    return re.fullmatch(r"W\d*", keystr(path[-1:], simple=True)) is not None
