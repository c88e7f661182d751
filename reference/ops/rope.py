"""out_t = R_t x_t of each head: the pair (a, b) at i becomes (a cos φ − b sin φ, a sin φ + b cos φ).

φ = t base^{−2i/r}.
"""

import numpy as np

CORE = {"x": 3}
WHOLE = {"positions": 1}


def rotation(t, d, base, layout, turned):
    """R_t (d, d)."""
    r = d if turned is None else turned
    R = np.eye(d)
    for i in range(r // 2):
        a, b = (i, i + r // 2) if layout == "halves" else (2 * i, 2 * i + 1)
        angle = t * base ** (-2 * i / r)
        R[a, a] = R[b, b] = np.cos(angle)
        R[a, b], R[b, a] = -np.sin(angle), np.sin(angle)
    return R


def rotations(x, positions, base, layout, turned):
    positions = range(x.shape[2]) if positions is None else positions
    return [rotation(t, len(x), base, layout, turned) for t in positions]


def forward(x, positions, base, layout, turned):
    """x (d, H, T)."""
    return np.stack([R @ x[:, :, t] for t, R in enumerate(rotations(x, positions, base, layout, turned))], axis=2)


def jacobians(x, positions, base, layout, turned):
    """∂out_kht/∂x_lgs = (R_t)_kl δ_hg δ_ts"""
    R = np.stack(rotations(x, positions, base, layout, turned))
    return {"x": np.einsum("tkl,hg,ts->khtlgs", R, *map(np.eye, x.shape[1:]))}
