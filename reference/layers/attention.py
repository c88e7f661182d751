"""out_t = Σ_s P_ts v_s of each head, from q, k, v side by side; q and k turned by their positions first."""

import numpy as np

from reference.ops import attention, rope
from reference.vjp import product


def names(layer):
    return ()


def columns(layer, params):
    return ()


def settings(layer):
    """What the twin of the op takes after q, k, v."""
    return (None,) * 4, (layer.causal, layer.window, None, layer.block)


def heads(layer, x):
    """x (T, n) of one example -> q (d, H, T), k and v (d, K, T), not turned."""
    K = layer.heads if layer.kv_heads is None else layer.kv_heads
    columns = np.moveaxis(x.reshape(len(x), layer.heads + 2 * K, -1), (0, 1, 2), (2, 1, 0))
    return columns[:, : layer.heads], columns[:, layer.heads : layer.heads + K], columns[:, layer.heads + K :]


def turned(layer, v):
    return v if layer.rotary is None else rope.forward(v, None, layer.rotary, "halves", None)


def forward(layer, params, X):
    """(T, n, m) -> (T, H d, m)."""
    return np.stack([of_one(layer, X[:, :, i]) for i in range(X.shape[2])], axis=2)


def of_one(layer, x):
    """(T, n) -> (T, H d)."""
    q, k, v = heads(layer, x)
    arrays, rest = settings(layer)
    out, _ = attention.forward(turned(layer, q), turned(layer, k), v, *arrays, *rest)
    return np.moveaxis(out, (0, 1, 2), (2, 1, 0)).reshape(len(x), -1)


def jacobians(layer, params, X):
    """∂out_t/∂q_s = ∂out_t/∂(R_s q_s) R_s, and so for k; no example sees another   (T, H d, m, T, n, m)."""
    out = forward(layer, params, X)
    by_X = np.zeros(out.shape + X.shape)
    for i in range(X.shape[2]):
        by_X[:, :, i, :, :, i] = jacobian_of_one(layer, X[:, :, i])
    return (), by_X


def jacobian_of_one(layer, x):
    """(T, H d, T, n)."""
    q, k, v = heads(layer, x)
    arrays, rest = settings(layer)
    by_out, _ = attention.jacobians(turned(layer, q), turned(layer, k), v, *arrays, *rest)
    parts = []
    for name, w in (("q", q), ("k", k), ("v", v)):
        by_w = by_out[name]  # (d, H, T, d, heads, T)
        if name != "v" and layer.rotary is not None:
            by_w = product(by_w, rope.jacobians(w, None, layer.rotary, "halves", None)["x"], 3)
        parts.append(by_w)
    by_columns = np.concatenate(parts, axis=4)
    return np.moveaxis(by_columns, range(6), (2, 1, 0, 5, 4, 3)).reshape(len(x), -1, *x.shape)
