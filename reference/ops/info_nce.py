"""J = −1/2m Σ_i (log p_ii + log q_ii), p the softmax of each row of S_ij = τ a_i · b_j, q of each column."""

import numpy as np

CORE = {"a": 2, "b": 2, "tau": 0}


def forward(a, b, tau):
    """a, b (d, m)."""
    S = tau * (a.T @ b)
    ways = [[log_softmax(row) for row in matrix] for matrix in (S, S.T)]
    return -sum(log_p[i] for way in ways for i, log_p in enumerate(way)) / (2 * len(S))


def jacobians(a, b, tau):
    """
    ∂J/∂S_ij = (p_ij + q_ij − 2 δ_ij) / 2m
    ∂J/∂a_di = τ Σ_j ∂J/∂S_ij b_dj,   ∂J/∂b_dj = τ Σ_i ∂J/∂S_ij a_di,   ∂J/∂τ = Σ_ij ∂J/∂S_ij a_i · b_j
    """
    S = tau * (a.T @ b)
    p, q = (np.array([np.exp(log_softmax(row)) for row in matrix]) for matrix in (S, S.T))
    by_S = (p + q.T - 2 * np.eye(len(S))) / (2 * len(S))
    return {"a": tau * (b @ by_S.T), "b": tau * (a @ by_S), "tau": (by_S * (a.T @ b)).sum()}


def log_softmax(v):
    return v - v.max() - np.log(np.exp(v - v.max()).sum())
