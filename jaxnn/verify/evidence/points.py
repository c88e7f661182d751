"""Where a formula is evaluated: as given, and redrawn so that signs, saturation, smallness and ties are all met."""

from numbers import Integral

import jax
import numpy as np

KINDS = ("generic", "tiny", "saturated", "zeros", "mixed")
WIDE = (4.0, 64.0, 1e-3, 1e3, 1e-6, 1e6)


def seed_of(key):
    """A seed for NumPy from an int or a typed PRNG key."""
    return int(key) if isinstance(key, Integral) else [int(v) for v in np.asarray(jax.random.key_data(key)).ravel()]


def redraw(kind, floats, dtypes, redrawn, always, rng):
    """The floats with those in `redrawn` drawn anew, each a number of its dtype; `always` ones, cotangents, are normal
    at any point, small or large where the kind says so.

    generic: normal, of variance 1 / the longest axis. tiny: that × 2⁻⁷. saturated: × 16. mixed: ± 1 plus a little,
    so that no two entries are equal. zeros: generic with half of the rows 0, the same rows in all leaves of as many
    rows, so that a unit's weights and bias vanish together. wide ×s: generic × s. near: what was given, each entry
    × e^(normal/4), or a little more than 0, for formulas that are not defined everywhere.
    """
    keep: dict[int, np.ndarray] = {}
    out = list(floats)
    for i in sorted({*redrawn, *always}):
        v = floats[i]
        draw = rng.normal(size=v.shape)
        normal = draw / np.sqrt(max(v.shape)) if v.ndim > 1 and v.size else draw
        if i in always and (kind in ("given", "zeros", "mixed", "near") or i not in redrawn):
            scale = {"tiny": 1 / 128, "saturated": 16.0}.get(kind, 1.0)
            new = draw * (float(kind.removeprefix("wide ×")) if kind.startswith("wide") else scale)
        elif kind == "given":
            continue
        elif kind == "tiny":
            new = normal / 128
        elif kind == "saturated":
            new = normal * 16
        elif kind == "mixed":
            new = np.sign(draw) * (1 + rng.uniform(size=v.shape) / 4) / 4
        elif kind == "zeros":
            n = v.shape[0] if v.ndim else 1
            rows = keep.setdefault(n, rng.permutation(n) < (n + 1) // 2)
            new = normal * np.reshape(rows, (n,) + (1,) * (v.ndim - 1)) if v.ndim else normal * 0
        elif kind == "near":
            new = np.where(v == 0, abs(draw) / 4, v.astype(np.float64) * np.exp(draw / 4))
        else:
            new = normal * (float(kind.removeprefix("wide ×")) if kind.startswith("wide") else 1)
        out[i] = np.asarray(new, dtypes[i]).astype(v.dtype)
    return out
