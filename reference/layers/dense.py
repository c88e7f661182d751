"""Z = W X + b: z_ki = Σ_j W_kj x_ji + b_k."""

import numpy as np


def names(layer):
    return ("W", "b") if layer.bias else ("W",)


def columns(layer, params):
    """b as a column; W is the same."""
    return (params.W, params.b[..., None]) if layer.bias else (params.W,)


def forward(layer, params, X):
    """(n_in, m) -> (n_out, m)."""
    W, *b = params
    return sum(b, W @ X)


def jacobians(layer, params, X):
    """
    ∂z_ki/∂W_lj = δ_kl x_ji   (n_out, m, n_out, n_in)
    ∂z_ki/∂b_l  = δ_kl        (n_out, m, n_out, 1)
    ∂z_ki/∂x_jq = W_kj δ_iq   (n_out, m, n_in, m)
    """
    W, *b = params
    neurons, examples = np.eye(len(W)), np.eye(X.shape[1])
    by_W = np.einsum("kl,ji->kilj", neurons, X)
    by_b = np.einsum("kl,i,u->kilu", neurons, np.ones(X.shape[1]), np.ones(1))
    by_X = np.einsum("kj,iq->kijq", W, examples)
    return (by_W, by_b)[: 1 + len(b)], by_X
