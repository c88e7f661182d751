"""J = Σ_i w_i L_i / Σ_i w_i, or w_i L_i, L_i = softmax cross-entropy of z_i = W h_i + b. All examples are one here."""

import numpy as np

from reference.ops import softmax_cross_entropy as of_z

CORE = {"h": None, "W": 2, "b": 1, "w": None}
WHOLE = {"y": None}


def parts(h, W, y, b, w, ignore, smoothing, z_loss, soft_cap):
    """(L_i, ∂L_i/∂z_i (V,), w_i, which is 0 where the label is ignored) of each example, h (n, m), y and w (m,)."""
    settings = (None, ignore, smoothing, z_loss, soft_cap)
    for i, label in enumerate(y):
        z = W.T @ h[:, i] + (0 if b is None else b)
        by_z = of_z.jacobians(z, label, *settings)["z"]
        yield of_z.forward(z, label, *settings), by_z, (1 if w is None else w[i]) * (label != ignore)


def columns(h, y, w):
    return h.reshape(len(h), -1), y.ravel(), w if w is None else w.ravel()


def forward(h, W, y, b, w, ignore, smoothing, z_loss, soft_cap, reduction, chunk):
    """h (n, …), W (n, V), y (…)."""
    flat_h, flat_y, flat_w = columns(h, y, w)
    found = [*parts(flat_h, W, flat_y, b, flat_w, ignore, smoothing, z_loss, soft_cap)]
    L, weights = (np.array([part[k] for part in found]) for k in (0, 2))
    if reduction == "none":
        return (weights * L).reshape(y.shape)
    return (weights * L).sum() / (weights.sum() if (y != ignore).any() else 1)


def jacobians(h, W, y, b, w, ignore, smoothing, z_loss, soft_cap, reduction, chunk):
    """
    ∂z_vi/∂h_ni = W_nv,   ∂z_vi/∂W_nv = h_ni,   ∂z_vi/∂b_v = 1,   ∂J/∂w_i = (L_i − J) / Σ_i w_i
    """
    flat_h, flat_y, flat_w = columns(h, y, w)
    found = parts(flat_h, W, flat_y, b, flat_w, ignore, smoothing, z_loss, soft_cap)
    L, by_z, weights = map(np.array, zip(*found, strict=True))
    counts = flat_y != ignore
    by = {"h": np.einsum("i,iv,nv,ij->inj", weights, by_z, W, np.eye(len(L)))}
    by["W"] = np.einsum("i,iv,ni->inv", weights, by_z, flat_h)
    by["b"], by["w"] = weights[:, None] * by_z, np.diag(counts * L)
    if reduction == "mean":
        total = weights.sum() if counts.any() else 1
        by = {name: by_v.sum(axis=0) / total for name, by_v in by.items()}
        by["w"] = by["w"] - counts * (weights * L).sum() / total**2
    out = () if reduction == "mean" else y.shape
    given = {name: v for name, v in {"h": h, "W": W, "b": b, "w": w}.items() if v is not None}
    return {name: by[name].reshape(out + v.shape) for name, v in given.items()}
