"""L = β KL(q‖m) + (1 − β) KL(p‖m), m = β q + (1 − β) p, p = softmax(z), q = softmax(teacher); KL(q‖p) at β = 0, KL(p‖q)
at β = 1."""

import numpy as np

CORE = {"z": 1, "teacher": 1}


def forward(z, teacher, beta):
    p, q = softmax(z), softmax(teacher)
    if beta in (0, 1):
        return kl(q, p) if beta == 0 else kl(p, q)
    m = beta * q + (1 - beta) * p
    return beta * kl(q, m) + (1 - beta) * kl(p, m)


def jacobians(z, teacher, beta):
    """∂L/∂z_j = Σ_k ∂L/∂p_k p_k (δ_kj − p_j), and so for q, with
    ∂L/∂p_k = (1 − β) log(p_k / m_k), ∂L/∂q_k = β log(q_k / m_k), and of KL(q‖p) −q_k / p_k and log(q_k / p_k)."""
    p, q = softmax(z), softmax(teacher)
    if beta == 0:
        by_p, by_q = -q / p, np.log(q / p)
    elif beta == 1:
        by_p, by_q = np.log(p / q), -p / q
    else:
        m = beta * q + (1 - beta) * p
        by_p, by_q = (1 - beta) * np.log(p / m), beta * np.log(q / m)
    return {"z": through(p, by_p), "teacher": through(q, by_q)}


def softmax(v):
    e = np.exp(v - v.max())
    return e / e.sum()


def kl(q, p):
    return (q * np.log(q / p)).sum()


def through(p, by_p):
    """Σ_k ∂L/∂p_k p_k (δ_kj − p_j) = p_j Σ_k p_k (∂L/∂p_j − ∂L/∂p_k)."""
    return p * sum(p[k] * (by_p - by_p[k]) for k in range(len(p)))
