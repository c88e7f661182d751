"""out_ki = W_{x_i k}: the row of W that x_i names, as a column."""

import numpy as np


def names(layer):
    return ("W",)


def columns(layer, params):
    return (params.W,)


def forward(layer, params, x):
    """(m,) -> (width, m)."""
    (W,) = params
    return W[x].T


def jacobians(layer, params, x):
    """∂out_ki/∂W_lj = δ_kj [x_i = l]   (width, m, n, width); whole numbers have none."""
    (W,) = params
    n, width = W.shape
    by_W = np.einsum("kj,il->kilj", np.eye(width), np.eye(n)[x])
    return (by_W,), None
