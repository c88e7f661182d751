"""A term of J that keeps the weights small."""

from dataclasses import dataclass

import jax
from jax import numpy as jnp
from jax.tree_util import keystr, tree_map_with_path

from jaxnn.mean import sum_dtype


@dataclass(frozen=True)
class L2:
    """R = λ/2 Σ W², over all entries of all leaves named W; biases go free. R is summed in float32 at least.

    ∂R/∂W = λ W, and 0 for every other leaf

    Other conventions are the caller's scaling: λ/2m Σ W² is L2(λ / m) for full batches of m examples.
    Source: Krogh & Hertz (1991), eq. 3. ValueError: a negative λ, or params without a leaf named W.
    """

    lam: float

    def __post_init__(self):
        if not self.lam >= 0:
            raise ValueError(f"L2({self.lam}): λ must be 0 or more.")

    def forward(self, params):
        named_W = jax.tree.leaves(tree_map_with_path(lambda path, v: keystr(path[-1:], simple=True) == "W", params))
        if not any(named_W):
            raise ValueError("L2 penalises leaves named W, and these params have none: rename the weights or leave it.")
        leaves, tree = jax.tree.flatten(params)
        W = [v if is_W else jnp.zeros_like(v) for v, is_W in zip(leaves, named_W, strict=True)]
        R = self.lam / 2 * sum((v.astype(sum_dtype(v)) ** 2).sum() for v in W)
        return R, jax.tree.unflatten(tree, W)

    def backward(self, residuals):
        return jax.tree.map(lambda W: self.lam * W, residuals)
