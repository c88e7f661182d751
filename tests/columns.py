"""The one transposition between jaxnn and its twin: examples are rows here and columns there, b is (n,) here and (n, 1)
there; W is the same in both."""

import jax
import numpy as np


def to_columns(v):
    """(…, n) -> (n, m); labels and weights (…) -> (m,)."""
    v = np.asarray(v)
    return v.reshape(-1, v.shape[-1]).T


def from_columns(v, shape):
    """(n, m) -> (…, n)."""
    return np.asarray(v).T.reshape(shape)


def params_to_columns(params):
    """Params -> nested plain tuples."""
    if hasattr(params, "W"):
        return np.asarray(params.W), np.asarray(params.b)[..., None]
    return tuple(map(params_to_columns, params))


def params_from_columns(twin, like):
    """Nested plain tuples -> the tree of `like`."""
    leaves, tree = jax.tree.flatten(like)
    return tree.unflatten([np.reshape(v, leaf.shape) for v, leaf in zip(jax.tree.leaves(twin), leaves, strict=True)])
