"""L = −Σ_k y_k log p_k, p = softmax(z), of logits z; y a label or a distribution, whatever its sum."""

import numpy as np

from reference.losses import shares


def columns(Y, K):
    """Labels (m,) as unit columns (K, m); distributions as they are."""
    return np.eye(K)[:, Y] if np.ndim(Y) == 1 else Y


def forward(loss, Z, Y, w=None):
    """Z (K, m), Y (K, m) or (m,), w (m,) -> J."""
    S = Z - Z.max(axis=0)
    L = -(columns(Y, len(Z)) * (S - np.log(np.exp(S).sum(axis=0)))).sum(axis=0)
    return (shares(L, w) * L).sum()


def gradient(loss, Z, Y, w=None):
    """∂L/∂z_k = Σ_j y_j (p_k − δ_jk) = Σ_j (y_j p_k − y_k p_j), since Σ_j p_j = 1   (K, m).

    The second form has no difference of near-equal numbers where p_k is almost the label's 1.
    """
    P, Y = predict(loss, Z), columns(Y, len(Z))
    return shares(Z[0], w) * sum(Y[j] * P - Y * P[j] for j in range(len(Z)))


def predict(loss, Z):
    """p_k = e^{z_k} / Σ_j e^{z_j}."""
    E = np.exp(Z - Z.max(axis=0))
    return E / E.sum(axis=0)
