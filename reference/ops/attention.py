"""out_t = Σ_s P_ts v_s, P_ts = e^{S_ts} / Z_t over the keys that t sees, S_ts = c q_t · k_s + b_ts − a |t − s|; log Z_t

In columns, per head: Q (d, T), K (d, S), V (e, S); Z_t has e^{sink} in it where there is a sink.
"""

import numpy as np

CORE = {"q": 3, "k": 3, "v": 3, "mask": 3, "bias": 3, "slopes": 1, "sink": 1}


def forward(q, k, v, mask, bias, slopes, sink, causal, window, scale, block):
    """q (d, H, T), k (d, K, S), v (e, K, S) -> out (e, H, T), ℓ (H, T)."""
    _, H, T = q.shape
    out, ell = np.zeros((len(v), H, T), q.dtype) + 0 * q[:1], np.zeros((H, T), q.dtype)
    for h, t, P, Z, m in rows(q, k, mask, bias, slopes, sink, causal, window, scale):
        out[:, h, t] = (v[:, h // (H // k.shape[1])] * P).sum(axis=1)
        ell[h, t] = -np.inf if m is None else m + np.log(Z)
    return out, ell


def rows(q, k, mask, bias, slopes, sink, causal, window, scale):
    """(h, t, P (S,), Z e^{−m}, m) of every query: m its largest score, None if it sees nothing."""
    d, H, T = q.shape
    _, K, S = k.shape
    c = 1 / np.sqrt(d + 0 * q.flat[0]) if scale is None else scale
    for h, t in np.ndindex(H, T):
        found, P = {}, np.zeros(S, q.dtype)
        for s in range(S):
            if sees(t, s, h, mask, causal, window):
                score = c * (q[:, h, t] * k[:, h // (H // K), s]).sum()
                score += 0 if bias is None else at(bias, s, t, h)
                found[s] = score - (0 if slopes is None else slopes[h] * abs(t - s))
        scores = [*found.values()] + ([] if sink is None else [sink[h]])
        if not scores:
            yield h, t, P, None, None
            continue
        m = max(scores)
        Z = sum(np.exp(score - m) for score in scores)
        for s, score in found.items():
            P[s] = np.exp(score - m) / Z
        yield h, t, P, Z, m


def sees(t, s, h, mask, causal, window):
    near = window is None or (t - s < window and (causal or s - t < window))
    return near and (not causal or s <= t) and (mask is None or at(mask, s, t, h))


def at(v, s, t, h):
    """The entry of v (S or 1, T or 1, H or 1)."""
    return v[place(v, s, t, h)]


def place(v, s, t, h):
    return tuple(0 if n == 1 else i for n, i in zip(v.shape, (s, t, h), strict=True))


def jacobians(q, k, v, mask, bias, slopes, sink, causal, window, scale, block):
    """With ∂ℓ_t/∂S_ts = P_ts and ∂out_t/∂S_ts = P_ts (v_s − out_t):

    ∂S_ts/∂q_t = c k_s,   ∂S_ts/∂k_s = c q_t,   ∂S_ts/∂b_ts = 1,   ∂S_ts/∂a = −|t − s|,   ∂out_t/∂v_s = P_ts
    ∂ℓ_t/∂sink = e^{sink − ℓ_t} =: p,   ∂out_t/∂sink = −p out_t
    """
    d, H, K, e = len(q), q.shape[1], k.shape[1], len(v)
    c = 1 / np.sqrt(d) if scale is None else scale
    out, ell = forward(q, k, v, mask, bias, slopes, sink, causal, window, scale, block)
    arrays = {"q": q, "k": k, "v": v, "bias": bias, "slopes": slopes, "sink": sink}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    by_out = {name: np.zeros(out.shape + array.shape) for name, array in arrays.items()}
    by_ell = {name: np.zeros(ell.shape + array.shape) for name, array in arrays.items()}
    for h, t, P, *_ in rows(q, k, mask, bias, slopes, sink, causal, window, scale):
        g = h // (H // K)
        for s in np.flatnonzero(P):
            by_S: list[tuple] = [("q", (slice(None), h, t), c * k[:, g, s]), ("k", (slice(None), g, s), c * q[:, h, t])]
            if bias is not None:
                by_S.append(("bias", place(bias, s, t, h), 1))
            if slopes is not None:
                by_S.append(("slopes", (h,), -abs(t - s)))
            for name, entry, slope in by_S:
                by_ell[name][(h, t, *entry)] += P[s] * slope
                for i in range(e):
                    by_out[name][(i, h, t, *entry)] += P[s] * (v[i, g, s] - out[i, h, t]) * slope
            by_out["v"][range(e), h, t, range(e), g, s] = P[s]
        if sink is not None:
            p = np.exp(sink[h] - ell[h, t])
            by_ell["sink"][h, t, h] = p
            by_out["sink"][:, h, t, h] = -p * out[:, h, t]
    return by_out, by_ell
