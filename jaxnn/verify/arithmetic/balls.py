"""Arrays of `flint.arb`: real numbers with a proven error bound, and the two ways in which a float becomes one.

An entry is taken exactly, or as the ball of the reals within half an ulp, for which it may stand. A short binary
fraction (0.5, 3, 100, 2⁻²⁰) always stands for itself: 1/3, 0.1, √(2/π) and the like never have few bits.
"""

import functools
from typing import Any

import numpy as np
from flint import arb
from jax import numpy as jnp

from jaxnn.verify.arithmetic.decisions import Undecided

ZERO: Any = arb(0)
ONE: Any = arb(1)
NEG_INF = -arb("inf")


def is_float(v):
    """Whether `v` has, or is, a dtype of real floating-point numbers, bfloat16 and its like among them."""
    return is_float_dtype(v.dtype if hasattr(v, "dtype") else jnp.result_type(v))


@functools.cache
def is_float_dtype(dtype):
    return jnp.issubdtype(dtype, jnp.floating)


def is_balls(v):
    return isinstance(v, np.ndarray) and v.dtype == object


def wrap(v):
    """An array of objects; of no dimensions where NumPy has made it a scalar."""
    if isinstance(v, np.ndarray):
        return v
    box = np.ndarray((), object)
    box[()] = v
    return box


def enter(v, rounded=False):
    """The floats of `v` as balls: exact, or with `rounded` half an ulp wide where an entry is no short fraction."""
    v = np.asarray(v)
    balls = np.ndarray(v.shape, object)  # not np.empty: numpy_code.py replaces it while NumPy code runs
    entries = v.astype(np.float64).ravel()
    radii = half_ulps(entries, v.dtype) if rounded else np.array([0])
    if radii.any():
        balls.ravel()[:] = [arb(x, r) if r else arb(x) for x, r in zip(entries.tolist(), radii.tolist(), strict=True)]
    else:
        balls.ravel()[:] = list(map(arb, entries.tolist()))
    return balls


def half_ulps(entries, dtype):
    """Half the distance to the next float of this dtype, or of float32 where the entry is one; 0 for short fractions
    and what is not finite."""
    entries = np.where(np.isfinite(entries), entries, 0)
    most = jnp.finfo(dtype).nmant + 1
    with np.errstate(over="ignore"):
        bits = np.where(entries == entries.astype(np.float32), min(24, most), most)
    fraction, exponent = np.frexp(entries)
    short = fraction * 2.0 ** (bits // 2)
    whole = (entries == np.round(entries)) & (np.abs(entries) < 2.0**bits)
    return np.where((short == np.round(short)) | whole, 0, np.ldexp(1.0, exponent - bits - 1))


def magnitude(balls):
    """The largest |midpoint|, as a ball without radius; 0 of no entries."""
    return max((abs(v.mid()) for v in balls.flat), default=ZERO)


def finite(balls):
    return all(v.is_finite() for v in balls.flat)


def midpoints(balls):
    return np.array([float(v.mid()) for v in balls.flat]).reshape(balls.shape)


def whole(v):
    """The integer part of a ball, towards zero, where it has one alone."""
    if not v.is_finite():
        raise Undecided
    n = (v.floor() if v >= 0 else v.ceil()).unique_fmpz()
    if n is None:
        raise Undecided
    return int(n)


def boxes(values, shape):
    out = np.empty(len(values), object)
    out[:] = values
    return out.reshape(shape)
