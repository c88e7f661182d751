"""Arrays of `flint.arb`: real numbers with a proven error bound, and the two ways in which a float becomes one.

An entry is taken exactly, or as the ball of the reals within half an ulp, for which it may stand. A short binary
fraction (0.5, 3, 100, 2⁻²⁰) always stands for itself: 1/3, 0.1, √(2/π) and the like never have few bits.
"""

import functools
from collections.abc import Iterable, Sequence

import numpy as np
from flint import arb
from jax import numpy as jnp
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from jaxnn.protocols import PyTree
from jaxnn.verify.arithmetic.decisions import Undecided

Balls = np.ndarray  # of objects, each an `arb`

ZERO = arb(0)
ONE = arb(1)
NEG_INF = -arb("inf")


def is_float(v: PyTree) -> bool:
    """Whether `v` has, or is, a dtype of real floating-point numbers, bfloat16 and its like among them."""
    return is_float_dtype(v.dtype if hasattr(v, "dtype") else jnp.result_type(v))


@functools.cache
def is_float_dtype(dtype: DTypeLike) -> bool:
    """Whether this is a dtype of real floating-point numbers. The answers are kept: JAX takes long to give one."""
    return jnp.issubdtype(dtype, jnp.floating)


def is_balls(v: PyTree) -> bool:
    """Whether `v` is an array of balls."""
    return isinstance(v, np.ndarray) and v.dtype == object


def wrap(v: PyTree) -> Balls:
    """A ball or a number as an array of no dimensions, which NumPy makes a scalar of; an array as it is."""
    if isinstance(v, (np.ndarray, np.generic)):
        return np.asarray(v)
    box = np.ndarray((), object)
    box[()] = v
    return box


def enter(v: ArrayLike, rounded: bool = False) -> Balls:
    """The floats of `v` as balls: exact, or with `rounded` half an ulp wide if an entry is no short fraction."""
    v = np.asarray(v)
    balls = np.ndarray(v.shape, object)  # not np.empty: numpy_code.py replaces it while NumPy code runs
    entries = v.astype(np.float64).ravel()
    radii = half_ulps(entries, v.dtype) if rounded else np.array([0])
    if radii.any():
        balls.ravel()[:] = [arb(x, r) if r else arb(x) for x, r in zip(entries.tolist(), radii.tolist(), strict=True)]
    else:
        balls.ravel()[:] = list(map(arb, entries.tolist()))
    return balls


def half_ulps(entries: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    """Half the distance from each float64 entry to the next float of `dtype`, or of float32 if the entry is one.

    It is 0 for short fractions, whole numbers, and entries that are not finite."""
    entries = np.where(np.isfinite(entries), entries, 0)
    most = jnp.finfo(dtype).nmant + 1
    with np.errstate(over="ignore"):
        bits = np.where(entries == entries.astype(np.float32), min(24, most), most)
    fraction, exponent = np.frexp(entries)
    numerator = fraction * 2.0 ** (bits // 2)
    is_short = numerator == np.round(numerator)
    is_whole = (entries == np.round(entries)) & (np.abs(entries) < 2.0**bits)
    return np.where(is_short | is_whole, 0, np.ldexp(1.0, exponent - bits - 1))


def absolute(balls: Balls) -> Balls:
    """|v| of every entry."""
    return wrap(np.frompyfunc(abs, 1, 1)(balls))


def magnitude(balls: Balls) -> arb:
    """The largest |midpoint|, as a ball without radius; 0 if there are no entries."""
    return max((abs(v.mid()) for v in balls.flat), default=ZERO)


def finite(balls: Balls) -> bool:
    """Whether every entry is known to be finite."""
    return all(v.is_finite() for v in balls.flat)


def midpoints(balls: Balls) -> np.ndarray:
    """The float64 next to the midpoint of each ball."""
    return np.array([float(v.mid()) for v in balls.flat]).reshape(balls.shape)


def flat(leaves: Iterable[Balls]) -> np.ndarray:
    """The float64 next to the midpoint of every entry of some arrays, in one row."""
    return np.concatenate([np.zeros(0), *(midpoints(leaf).ravel() for leaf in leaves)])


def whole(v: arb) -> int:
    """The integer part of a ball, rounded towards zero; Undecided if the ball has several."""
    if not v.is_finite():
        raise Undecided
    n = (v.floor() if v >= 0 else v.ceil()).unique_fmpz()
    if n is None:
        raise Undecided
    return int(n)


def object_array(entries: Sequence[object], shape: int | tuple[int, ...]) -> Balls:
    """The entries as an array of objects of this shape, filled row by row."""
    out = np.empty(len(entries), object)
    out[:] = entries
    return out.reshape(shape)
