"""L = −Σ_k t_k log p_k + λ ℓ², p = softmax(v), ℓ = log Σ_k e^{v_k}, v = c tanh(z / c), t_k = w_k ((1 − ε) y_k + ε / K).

y a label or a distribution.
"""

import numpy as np

CORE = {"z": 1, "y": 1, "class_weights": 1}


def forward(z, y, class_weights, ignore, smoothing, z_loss, soft_cap):
    if np.ndim(y) == 0 and y == ignore:
        return 0 * z.sum()
    ell = logsumexp(capped(z, soft_cap))
    return (target(z, y, class_weights, smoothing) * (ell - capped(z, soft_cap))).sum() + z_loss * ell**2


def jacobians(z, y, class_weights, ignore, smoothing, z_loss, soft_cap):
    """
    ∂L/∂z_k = (Σ_j (t_j p_k − t_k p_j) + 2 λ ℓ p_k) (1 − tanh²(z_k / c))
    ∂L/∂y_k = (1 − ε) w_k (ℓ − v_k)
    ∂L/∂w_k = ((1 − ε) y_k + ε / K) (ℓ − v_k)
    """
    counts = 0 if np.ndim(y) == 0 and y == ignore else 1
    v, t = capped(z, soft_cap), target(z, y, class_weights, smoothing)
    ell = logsumexp(v)
    p = np.exp(v - ell)
    by_v = sum(t[j] * p - t * p[j] for j in range(len(z))) + 2 * z_loss * ell * p
    slope = 1 if soft_cap is None else 1 - np.tanh(z / soft_cap) ** 2
    found = {"z": counts * by_v * slope}
    if np.ndim(y) == 1:
        found["y"] = counts * (1 - smoothing) * (1 if class_weights is None else class_weights) * (ell - v)
    if class_weights is not None:
        found["class_weights"] = counts * target(z, y, None, smoothing) * (ell - v)
    return found


def logsumexp(v):
    return v.max() + np.log(np.exp(v - v.max()).sum())


def capped(z, soft_cap):
    return z if soft_cap is None else soft_cap * np.tanh(z / soft_cap)


def target(z, y, class_weights, smoothing):
    y = y if np.ndim(y) == 1 else np.eye(len(z))[y]
    q = (1 - smoothing) * y + smoothing / (len(z) + 0 * z)
    return q if class_weights is None else q * class_weights
