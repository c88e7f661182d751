"""out_ki = silu(x_ki) x_li, l = k + n."""

import numpy as np

from reference.activations import silu


def names(layer):
    return ()


def columns(layer, params):
    return ()


def forward(layer, params, X):
    """(2n, m) -> (n, m)."""
    n = len(X) // 2
    return silu.g(X[:n]) * X[n:]


def jacobians(layer, params, X):
    """∂out_ki/∂x_lj = δ_ij (δ_kl silu′(x_ki) x_{k+n,i} + δ_{k+n,l} silu(x_ki))   (n, m, 2n, m)."""
    n, m = len(X) // 2, X.shape[1]
    by_X = np.zeros((n, m, 2 * n, m))
    for k, i in np.ndindex(n, m):
        by_X[k, i, k, i] = silu.dg(X[k, i]) * X[k + n, i]
        by_X[k, i, k + n, i] = silu.g(X[k, i])
    return (), by_X
