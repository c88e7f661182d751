"""L = T² Σ_k q_k log(q_k / p_k), p = softmax(z / T)."""

import numpy as np

CORE = {"z": 1, "q": 1}


def forward(z, q, temperature):
    return temperature**2 * (q * (np.log(q) - log_softmax(z / temperature))).sum()


def jacobians(z, q, temperature):
    """∂L/∂z_k = T Σ_j (q_j p_k − δ_jk q_j),   ∂L/∂q_k = T² (log q_k + 1 − log p_k)."""
    log_p = log_softmax(z / temperature)
    p = np.exp(log_p)
    by_z = temperature * sum(q[j] * p - q * p[j] for j in range(len(z)))
    return {"z": by_z, "q": temperature**2 * (np.log(q) + 1 - log_p)}


def log_softmax(v):
    return v - v.max() - np.log(np.exp(v - v.max()).sum())
