"""out = x, where all stay. The one of the op, reference/ops/dropout.py, is given what is drawn."""

import numpy as np


def names(layer):
    return ()


def columns(layer, params):
    return ()


def forward(layer, params, X):
    """Of keep = 1 alone: (n, m) -> (n, m)."""
    assert layer.keep == 1
    return X


def jacobians(layer, params, X):
    """∂out_ki/∂x_lj = δ_kl δ_ij   (n, m, n, m)."""
    return (), np.eye(X.size).reshape(2 * X.shape)
