"""The same layer n times, with params of its own each time: the chain rule in forward order."""

import numpy as np

from reference.layers import twin
from reference.vjp import product


def names(layer):
    return twin(layer.layer).names(layer.layer)


def columns(layer, params):
    return twin(layer.layer).columns(layer.layer, params)


def part(params, i):
    """The params of layer i, of those of all stacked."""
    return tuple(part(v, i) for v in params) if isinstance(params, tuple) else params[i]


def forward(layer, params, X):
    """(n, m) -> (n, m)."""
    for i in range(layer.n):
        X = twin(layer.layer).forward(layer.layer, part(params, i), X)
    return X


def jacobians(layer, params, X):
    """∂out/∂v = ∂f/∂X · ∂X/∂v for everything v before the i-th f, then its own ∂f/∂v; those of all stacked."""
    by_params: list = []
    by_X = np.eye(X.size).reshape(X.shape + X.shape)
    for i in range(layer.n):
        f_by_v, f_by_X = twin(layer.layer).jacobians(layer.layer, part(params, i), X)
        by_params, by_X = [product(f_by_X, v, X.ndim) for v in by_params], product(f_by_X, by_X, X.ndim)
        by_params.append(f_by_v)
        X = twin(layer.layer).forward(layer.layer, part(params, i), X)
    return stacked(by_params, X.ndim), by_X


def stacked(trees, axis):
    """Trees of one shape as one, their arrays along a new axis."""
    if isinstance(trees[0], tuple):
        return tuple(stacked(branches, axis) for branches in zip(*trees, strict=True))
    return np.stack(trees, axis)
