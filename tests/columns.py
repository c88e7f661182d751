"""The one transposition between jaxnn and its twin: examples are the first axes here and the last one there; how params
are laid out, the twin of a layer says itself."""

import jax
import numpy as np

from jaxnn.factored import Factored
from reference.layers import twin


def to_columns(v, inner=1):
    """(…, n) -> (n, m); labels and weights (…) with inner=0 -> (m,); sequences (…, T, n) with inner=2 -> (T, n, m)."""
    v = np.asarray(v)
    return np.moveaxis(v.reshape(-1, *v.shape[v.ndim - inner :]), 0, -1)


def out_to_columns(out, inner=1):
    """The same of what a layer gives out; of a `Factored` h alone has examples."""
    return (to_columns(out.h, inner), np.asarray(out.W)) if isinstance(out, Factored) else to_columns(out, inner)


def from_columns(v, shape):
    """(n, m) -> (…, n), and likewise for other layouts; None stays None."""
    return None if v is None else np.moveaxis(np.asarray(v), -1, 0).reshape(shape)


def params_to_columns(layer, params):
    """Params -> nested plain tuples."""
    return twin(layer).columns(layer, jax.tree.map(np.asarray, params))


def params_from_columns(twins, like):
    """Nested plain tuples -> the tree of `like`."""
    leaves, tree = jax.tree.flatten(like)
    return tree.unflatten([np.reshape(v, leaf.shape) for v, leaf in zip(jax.tree.leaves(twins), leaves, strict=True)])
