"""Where an argument may lie: how drawn numbers are brought there, and along which changes it can move there.

A domain with fewer dimensions than its array has a map `onto` it that leaves its points where they are: a = onto(u).
A gradient g with respect to a is then `tangent(u, g)` with respect to u: at a point of the domain, the orthogonal
projection of g onto the tangent space (Absil, Mahony and Sepulchre, 2008, section 3.6). `onto` and `tangent` are
written with operators and methods alone, so that they take arrays of NumPy, of JAX and of real numbers alike.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jaxnn.protocols import PyTree

SLACK = 16  # roundings by which given numbers may miss a domain
SCHULZ = 3  # steps, of which each squares the distance to the orthogonal matrices


@dataclass(frozen=True)
class Interval:
    """The numbers between low and high, either of which may be infinite. ValueError: there are none."""

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"Interval({self.low:g}, {self.high:g}) is empty: low must be less than high.")


def itself(u: PyTree) -> PyTree:
    return u


def every_change(u: PyTree, g: PyTree) -> PyTree:
    return g


@dataclass(frozen=True)
class Domain:
    """A set of arrays, see above."""

    name: str
    has: Callable[[np.ndarray, float], bool]  # (float64 numbers, their rounding) -> whether they are there
    brought: Callable[[np.ndarray], np.ndarray]  # float64 numbers, drawn or near the domain, to a point in it
    onto: Callable[[PyTree], PyTree] = itself
    tangent: Callable[[PyTree, PyTree], PyTree] = every_change

    @property
    def is_open(self) -> bool:
        """Whether its points can move in any direction."""
        return self.onto is itself


def transposed(a: PyTree) -> PyTree:
    return a.swapaxes(-1, -2)


# onto, and its derivative, which is its own transpose


def symmetrised(u: PyTree) -> PyTree:
    return (u + transposed(u)) / 2


def symmetric_part(u: PyTree, g: PyTree) -> PyTree:
    """a = (u + uᵀ) / 2."""
    return symmetrised(g)


def length(u: PyTree) -> PyTree:
    """‖u‖ of each row."""
    return (u * u).sum(-1, keepdims=True) ** 0.5


def normalised(u: PyTree) -> PyTree:
    return u / length(u)


def without_radial_part(u: PyTree, g: PyTree) -> PyTree:
    """a = u / ‖u‖."""
    a = normalised(u)
    return (g - a * (a * g).sum(-1, keepdims=True)) / length(u)


def with_sum_1(u: PyTree) -> PyTree:
    return u + (1 - u.sum(-1, keepdims=True)) / u.shape[-1]


def without_mean(u: PyTree, g: PyTree) -> PyTree:
    """a = u + (1 − Σu) / n."""
    return g - g.sum(-1, keepdims=True) / g.shape[-1]


def schulz(u: PyTree) -> PyTree:
    """One step to the orthogonal matrix next to u (Björck and Bowie, 1971)."""
    return (3 * u - u @ transposed(u) @ u) / 2


def orthonormal(u: PyTree) -> PyTree:
    for _ in range(SCHULZ):
        u = schulz(u)
    return u


def turning_part(u: PyTree, g: PyTree) -> PyTree:
    """a = schulz(schulz(… u)): where u is orthogonal, g − u (uᵀg + gᵀu) / 2."""
    points = [u]
    for _ in range(SCHULZ - 1):
        points.append(schulz(points[-1]))
    for v in reversed(points):
        vT = transposed(v)
        g = (3 * g - g @ vT @ v - v @ transposed(g) @ v - v @ vT @ g) / 2
    return g


# Drawn numbers, brought there


def sorted_strictly(v: np.ndarray) -> np.ndarray:
    v = np.sort(v, -1)
    if (np.diff(v) == 0).any():
        v = v + np.arange(v.shape[-1]) * (np.abs(v).max() or 1) / (8 * v.shape[-1])
    return v


def positive(v: np.ndarray) -> np.ndarray:
    return np.where(v == 0, 1, np.abs(v))


def definite(v: np.ndarray) -> np.ndarray:
    """The eigenvalues made positive, the least at least 1/8 of the largest."""
    w, V = np.linalg.eigh(symmetrised(v))
    w = np.abs(w)
    w = np.maximum(w, np.where(w.max(-1, keepdims=True) > 0, w.max(-1, keepdims=True) / 8, 1))
    return symmetrised((V * w[..., None, :]) @ transposed(V))


def unit_rows(v: np.ndarray) -> np.ndarray:
    return normalised(np.where((v == 0).all(-1, keepdims=True), 1, v))


def polar(v: np.ndarray) -> np.ndarray:
    U, _, VT = np.linalg.svd(v, full_matrices=False)
    return U @ VT


def distributions(v: np.ndarray) -> np.ndarray:
    v = positive(v)
    return v / v.sum(-1, keepdims=True)


def folded(v: np.ndarray, low: float, high: float) -> np.ndarray:
    """v where it is between them; else as far inside as it was outside, an end of the interval as the middle."""
    if math.isinf(low) and math.isinf(high):
        return v
    if math.isinf(high):
        return low + positive(v - low)
    if math.isinf(low):
        return high - positive(high - v)
    width = high - low
    v = np.mod(v - low, 2 * width)
    v = np.minimum(v, 2 * width - v)
    return low + np.where((v == 0) | (v == width), width / 2, v)


# What is there


def is_square(v: np.ndarray) -> bool:
    return v.ndim > 1 and v.shape[-1] == v.shape[-2]


def is_near(v: np.ndarray, other: PyTree, eps: float) -> bool:
    """Whether two arrays are equal up to rounding."""
    return bool(np.abs(v - other).max(initial=0) <= SLACK * eps * np.abs(v).max(initial=0))


def is_symmetric(v: np.ndarray, eps: float) -> bool:
    return is_square(v) and is_near(v, transposed(v), eps)


def is_definite(v: np.ndarray, eps: float) -> bool:
    return is_symmetric(v, eps) and bool((np.linalg.eigvalsh(v) > 0).all())


def is_unit(v: np.ndarray, eps: float) -> bool:
    return v.ndim > 0 and v.shape[-1] > 1 and is_near(length(v), 1, eps)


def is_orthogonal(v: np.ndarray, eps: float) -> bool:
    if v.ndim < 2 or min(v.shape[-2:]) < 2:
        return False
    tall = v if v.shape[-2] >= v.shape[-1] else transposed(v)
    return is_near(transposed(tall) @ tall, np.eye(tall.shape[-1]), eps)


def is_simplex(v: np.ndarray, eps: float) -> bool:
    return v.ndim > 0 and v.shape[-1] > 1 and bool((v >= 0).all()) and is_near(v.sum(-1), 1, eps)


def is_sorted(v: np.ndarray, eps: float) -> bool:
    return v.ndim > 0 and v.shape[-1] > 1 and bool((np.diff(v) >= 0).all())


SYMMETRIC = Domain("symmetric", is_symmetric, symmetrised, symmetrised, symmetric_part)
DEFINITE = Domain("positive definite", is_definite, definite, symmetrised, symmetric_part)
UNIT = Domain("unit", is_unit, unit_rows, normalised, without_radial_part)
ORTHOGONAL = Domain("orthogonal", is_orthogonal, polar, orthonormal, turning_part)
SIMPLEX = Domain("simplex", is_simplex, distributions, with_sum_1, without_mean)
SORTED = Domain("sorted", is_sorted, sorted_strictly)
POSITIVE = Domain("positive", lambda v, eps: bool((v > 0).all()), positive)
CURVED = (ORTHOGONAL, DEFINITE, SYMMETRIC, UNIT, SIMPLEX)  # those of fewer dimensions, the narrowest first
NAMED = {domain.name: domain for domain in (*CURVED, SORTED, POSITIVE)}


def plain(v: np.ndarray, eps: float) -> Domain | None:
    """The domain that these float64 numbers plainly lie in, as they would not by chance. The identity, zeros, one-hot
    rows, diagonal and constant arrays lie in many by their simplicity alone, and so are plainly in none."""
    is_diagonal = v.ndim > 1 and not (v * (1 - np.eye(*v.shape[-2:]))).any()
    if not np.isfinite(v).all() or is_diagonal or v.size < 2 or np.isin(v, (-1, 0, 1)).all() or (v == v.flat[0]).all():
        return None
    curved = next((domain for domain in CURVED if domain.has(v, eps)), None)
    is_increasing = v.shape[-1] > 3 and bool((np.diff(v) > 0).all())
    return curved or (SORTED if is_increasing else None)


def within_interval(interval: Interval) -> Domain:
    """The open interval, in which every entry of an array lies."""

    def has(v: np.ndarray, eps: float) -> bool:
        return bool(((v > interval.low) & (v < interval.high)).all())

    return Domain(str(interval), has, lambda v: folded(v, interval.low, interval.high))


def values_of(f: Callable[[PyTree], PyTree], v: np.ndarray, eps: float) -> Domain:
    """What f makes of drawn numbers of the shape of v. An argument moves there as in the domain that these values
    plainly lie in, or in any direction if they lie in none. ValueError: f returns another shape, or other than floats.
    """
    name = getattr(f, "__name__", "domain")

    def brought(v: np.ndarray) -> np.ndarray:
        out = np.asarray(f(v))
        if out.shape != v.shape or out.dtype.kind not in "fV":
            raise ValueError(
                f"domain: {name} made {out.dtype} of shape {out.shape} of floats of shape {v.shape}: it must bring an "
                "array of drawn numbers to one of the same shape."
            )
        return out.astype(np.float64)

    sample = brought(np.random.default_rng(0).normal(size=v.shape))
    like = plain(sample, eps)
    if like is None:
        return Domain(name, lambda v, eps: True, brought)
    return Domain(f"{like.name} ({name})", like.has, brought, like.onto, like.tangent)
