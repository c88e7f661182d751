"""out_tki = x_tki + P_tk."""

import numpy as np


def names(layer):
    return ("P",)


def columns(layer, params):
    return (params.P,)


def forward(layer, params, X):
    """(T, n, m) -> (T, n, m)."""
    (P,) = params
    return X + P[: len(X), :, None]


def jacobians(layer, params, X):
    """∂out_tki/∂P_sl = δ_ts δ_kl   (T, n, m, L, n);   ∂out_tki/∂x_slj = δ_ts δ_kl δ_ij   (T, n, m, T, n, m)."""
    (P,) = params
    T, n, m = X.shape
    by_P = np.einsum("ts,kl,i->tkisl", np.eye(T, len(P)), np.eye(n), np.ones(m))
    return (by_P,), np.eye(X.size).reshape(X.shape + X.shape)
