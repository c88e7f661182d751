"""L = −Σ_k t_k log p_k + λ ℓ², p = softmax(v), ℓ = log Σ_k e^{v_k}, v = c tanh(z / c), t_k = w_k ((1 − ε) y_k + ε / K),
of logits z; y a label or a distribution, whatever its sum. ε, λ, w and c are the loss's settings, by default none.
"""

import numpy as np

from reference.losses import shares


def columns(Y, K):
    """Labels (m,) as unit columns (K, m); distributions as they are."""
    return np.eye(K)[:, Y] if np.ndim(Y) == 1 else Y


def capped(loss, Z):
    return Z if loss.soft_cap is None else loss.soft_cap * np.tanh(Z / loss.soft_cap)


def weighted(loss, Q):
    """w_k q_k."""
    return Q if loss.class_weights is None else np.array(loss.class_weights)[:, None] * Q


def target(loss, Z, Y):
    """t (K, m)."""
    K = len(Z) + 0 * Z  # in Z's own numbers
    return weighted(loss, (1 - loss.smoothing) * columns(Y, len(Z)) + loss.smoothing / K)


def parts(loss, Z, Y, w):
    """w_i / Σ_j w_j c_j, c the weight of the label; w and c are 0 where the label is ignored   (m,)."""
    ignored = np.ndim(Y) == 1 and loss.ignore is not None and loss.ignore == Y
    w = np.where(ignored, 0, 1) * (1 + 0 * Z[0] if w is None else w)
    return shares(Z[0], w, None if loss.class_weights is None else weighted(loss, columns(Y, len(Z))).sum(axis=0))


def log_sum(V):
    return V.max(axis=0) + np.log(np.exp(V - V.max(axis=0)).sum(axis=0))


def forward(loss, Z, Y, w=None):
    """Z (K, m), Y (K, m) or (m,), w (m,) -> J."""
    V = capped(loss, Z)
    L = (target(loss, Z, Y) * (log_sum(V) - V)).sum(axis=0) + loss.z_loss * log_sum(V) ** 2
    return (parts(loss, Z, Y, w) * L).sum()


def gradient(loss, Z, Y, w=None):
    """∂L/∂v_k = Σ_j t_j (p_k − δ_jk) + 2 λ ℓ p_k = Σ_j (t_j p_k − t_k p_j) + 2 λ ℓ p_k, since Σ_j p_j = 1   (K, m).

    The second form has no difference of near-equal numbers where p_k is almost the label's 1.
    """
    P, T = predict(loss, Z), target(loss, Z, Y)
    by_v = sum(T[j] * P - T * P[j] for j in range(len(Z))) + 2 * loss.z_loss * log_sum(capped(loss, Z)) * P
    slope = 1 if loss.soft_cap is None else 1 - np.tanh(Z / loss.soft_cap) ** 2
    return parts(loss, Z, Y, w) * by_v * slope


def predict(loss, Z):
    """p_k = e^{v_k} / Σ_j e^{v_j}."""
    V = capped(loss, Z)
    E = np.exp(V - V.max(axis=0))
    return E / E.sum(axis=0)
