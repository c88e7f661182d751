"""Functions of NumPy, SciPy and math on real numbers, where NumPy's own code would ask for floats.

A linear system is solved in balls, with an error bound; a Fourier transform is the sum that defines it.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from flint import acb, arb, arb_mat

from jaxnn.protocols import PyTree
from jaxnn.verify.arithmetic.balls import Balls, midpoints
from jaxnn.verify.arithmetic.decisions import Undecided
from jaxnn.verify.arithmetic.linear_algebra import cholesky as cholesky_of_balls
from jaxnn.verify.arithmetic.linear_algebra import on_matrices
from jaxnn.verify.arithmetic.real_numbers import (
    UNARY,
    Real,
    Reals,
    as_real,
    ball,
    current,
    of_balls,
    one,
    plain,
    real_ball,
    reals,
    to_balls,
    whole_tree,
)
from jaxnn.verify.arithmetic.stand_ins import COMMON, FLOATS, holds

Special = dict[Callable, Callable]  # by the function that is called: the one that is called instead


def array(v: PyTree, dtype: PyTree = None, *, copy: bool | None = True, ndmin: int = 0, **settings: PyTree) -> PyTree:
    """np.array of real numbers, of rows of them, or of plain numbers among them."""
    kind = np.dtype(dtype).kind if dtype is not None else "f"
    out = reals(np.array(v, object, copy=copy, ndmin=ndmin))
    return out if kind in "fcO" else out.astype(dtype)


def view(v: PyTree, dtype: PyTree = None, *args: PyTree, **settings: PyTree) -> PyTree:
    """np.asarray: the same array if it is one."""
    return array(v, dtype, copy=None)


def number(v: PyTree = 0.0) -> PyTree:
    """float(v): a real number as it is."""
    return v[()] if isinstance(v, Reals) and v.ndim == 0 else v.item() if isinstance(v, Reals) else v


# Linear algebra, of the matrices in the last two axes


class Slogdet(NamedTuple):
    """What np.linalg.slogdet returns."""

    sign: PyTree
    logabsdet: PyTree


def in_flint(a: Balls) -> arb_mat:
    """A matrix as flint's."""
    return arb_mat(a.tolist())


def from_flint(a: arb_mat) -> Balls:
    """A matrix of flint's as an array."""
    out = np.ndarray((a.nrows(), a.ncols()), object)
    out.ravel()[:] = a.entries()
    return out


def decided(f: Callable[..., arb_mat], *args: arb_mat) -> arb_mat:
    """f of matrices; Undecided if one may be singular, as far as its balls say."""
    try:
        return f(*args)
    except ZeroDivisionError:
        raise Undecided from None


def square(a: PyTree) -> Balls:
    """The balls of square matrices; LinAlgError if they are not."""
    balls = to_balls(a)
    if balls.ndim < 2 or balls.shape[-1] != balls.shape[-2]:
        raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square")
    return balls


def inv(a: PyTree) -> Reals:
    """a⁻¹"""
    return of_balls(on_matrices(lambda a: from_flint(decided(arb_mat.inv, in_flint(a))), square(a)))


def solve(a: PyTree, b: PyTree, **settings: PyTree) -> Reals:
    """x with a x = b."""
    a, b = square(a), to_balls(b)
    columns = b[..., None] if b.ndim == 1 else b
    lead = np.broadcast_shapes(a.shape[:-2], columns.shape[:-2])
    a, columns = (np.broadcast_to(v, (*lead, *v.shape[-2:])) for v in (a, columns))
    x = on_matrices(lambda a, b: from_flint(decided(arb_mat.solve, in_flint(a), in_flint(b))), a, columns)
    return of_balls(x[..., 0] if b.ndim == 1 else x)


def det(a: PyTree) -> PyTree:
    """The determinant, or an array of them."""
    a = square(a)
    out = np.ndarray(a.shape[:-2], object)
    for i in np.ndindex(out.shape):
        out[i] = in_flint(a[i]).det()
    return of_balls(out)[()]


def slogdet(a: PyTree) -> Slogdet:
    """(the sign of the determinant, log of its absolute value)"""
    d = det(a)
    return Slogdet(np.sign(d), np.log(np.abs(d)))


def cholesky(a: PyTree, *, upper: bool = False) -> Reals:
    """L, lower triangular, with L Lᵀ = a; its transpose if `upper`."""
    L = of_balls(cholesky_of_balls(current.get(), {}, 0, square(a)))
    return np.swapaxes(L, -1, -2) if upper else L


def pinv(a: PyTree, *args: PyTree, **settings: PyTree) -> PyTree:
    """(aᵀ a)⁻¹ aᵀ, or aᵀ (a aᵀ)⁻¹ of a matrix that is wider than high: of one of full rank."""
    t = np.swapaxes(a, -1, -2)
    return inv(t @ a) @ t if a.shape[-2] >= a.shape[-1] else t @ inv(a @ t)


def lstsq(a: PyTree, b: PyTree, rcond: PyTree = None) -> tuple[PyTree, PyTree, int, None]:
    """(x with the least ‖a x − b‖, its square, the rank, no singular values) for a matrix of full rank."""
    x = pinv(a) @ b
    return x, ((b - a @ x) ** 2).sum(0, keepdims=b.ndim == 1), min(a.shape), None


def norm(x: PyTree, *args: PyTree, **settings: PyTree) -> PyTree:
    """np.linalg.norm; of complex numbers that of their absolute values."""
    x = np.abs(x) if any(isinstance(ball(v), acb) for v in np.asarray(x, object).flat) else array(x)
    return whole_tree(np.ndarray.__array_function__(x, np.linalg.norm, (Reals,), (x, *args), settings))


# Fourier transforms along an axis


def transform(
    a: PyTree,
    n: int | None,
    axis: int,
    norm: str | None,
    *,
    sign: int,
) -> PyTree:
    """Σⱼ aⱼ exp(sign 2πi jk / n) for k < n, of a cut or filled with zeros to n entries; times what `norm` says."""
    a = np.moveaxis(array(a), axis, -1)
    n = a.shape[-1] if n is None else n
    a = a[..., :n]
    turns = [acb(arb(2 * sign * k) / n).exp_pi_i() for k in range(n)]
    matrix = np.ndarray((a.shape[-1], n), object)
    for j, k in np.ndindex(matrix.shape):
        matrix[j, k] = turns[j * k % n]
    inverse = sign > 0
    scale = {None: n if inverse else 1, "backward": n if inverse else 1, "forward": 1 if inverse else n}
    factor = 1 / arb(n).sqrt() if norm == "ortho" else 1 / arb(scale[norm])
    return np.moveaxis(a @ of_balls(matrix * factor), -1, axis)


def fft(a: PyTree, n: int | None = None, axis: int = -1, norm: str | None = None, **out: PyTree) -> Reals:
    """Xₖ = Σⱼ aⱼ exp(−2πi jk / n)"""
    return transform(a, n, axis, norm, sign=-1)


def ifft(a: PyTree, n: int | None = None, axis: int = -1, norm: str | None = None, **out: PyTree) -> Reals:
    """aⱼ = (1/n) Σₖ Xₖ exp(2πi jk / n)"""
    return transform(a, n, axis, norm, sign=1)


def rfft(a: PyTree, n: int | None = None, axis: int = -1, norm: str | None = None, **out: PyTree) -> PyTree:
    """The first n // 2 + 1 entries of `fft`."""
    X = np.moveaxis(fft(a, n, axis, norm), axis, -1)
    return np.moveaxis(X[..., : X.shape[-1] // 2 + 1], -1, axis)


def irfft(a: PyTree, n: int | None = None, axis: int = -1, norm: str | None = None, **out: PyTree) -> PyTree:
    """`ifft` of the spectrum of real numbers, of which the first n // 2 + 1 entries are given."""
    a = np.moveaxis(array(a), axis, -1)
    n = 2 * (a.shape[-1] - 1) if n is None else n
    half = a[..., : n // 2 + 1]
    missing = n // 2 + 1 - half.shape[-1]
    half = np.concatenate([half, array(np.zeros((*half.shape[:-1], missing)))], -1) if missing else half
    ends = [half[..., :1].real, half[..., 1 : (n + 1) // 2], half[..., (n + 1) // 2 :].real]
    whole = np.concatenate([*ends, np.conj(ends[1][..., ::-1])], -1)
    return np.moveaxis(ifft(whole, n, -1, norm).real, -1, axis)


def along_axes(f: Callable, count: int | None = None) -> Callable:
    """f, a transform along one axis, along several: the last `count`, all if it is None, or those that are given."""

    def transforms(a: PyTree, s: PyTree = None, axes: PyTree = None, norm: str | None = None, **out: PyTree) -> PyTree:
        axes = axes or range(-(count or len(s or np.shape(a))), 0)
        for i, n in zip(axes, s or [None] * len(axes), strict=True):
            a = f(a, n, i, norm)
        return a

    return transforms


# Others


def bincount(x: PyTree, weights: PyTree = None, minlength: int = 0) -> PyTree:
    """The sum of the weights at each whole number."""
    out = array(np.zeros(max(minlength, np.max(x, initial=-1) + 1)))
    np.add.at(out, x, weights)
    return out


def interp(
    x: PyTree, xp: PyTree, fp: PyTree, left: PyTree = None, right: PyTree = None, period: float | None = None
) -> PyTree:
    """The piecewise linear function through the points (xp, fp), which are in order, at x."""
    if period is not None:
        raise NotImplementedError("np.interp with a period")
    places, values = array(xp), array(fp)

    def at(v: Real) -> PyTree:
        k = sum(bool(place <= v) for place in places)
        if k == 0:
            return values[0] if left is None else left
        if k == len(places):
            beyond = right is not None and places[-1] != v
            return right if beyond else values[-1]
        return values[k - 1] + (values[k] - values[k - 1]) * (v - places[k - 1]) / (places[k] - places[k - 1])

    return reals(np.frompyfunc(at, 1, 1)(plain(array(x))).reshape(np.shape(x)))[()] if np.ndim(x) else at(as_real(x))


def nan_to_num(x: PyTree, *args: PyTree, **settings: PyTree) -> PyTree:
    """x, all of which is finite; NotImplementedError if it is not."""
    if not np.isfinite(x).all():
        raise NotImplementedError("np.nan_to_num of what is not finite")
    return array(x)


def angle(z: PyTree, deg: bool = False) -> PyTree:
    """The argument of complex numbers."""
    out = np.arctan2(array(z).imag, array(z).real)
    return out * 180 / of_balls(np.full((), arb.pi(), object)) if deg else out


def floats_of(v: PyTree) -> PyTree:
    """The floats next to real numbers, anywhere in lists, tuples and dicts: a test looks at no more."""
    if isinstance(v, Real):
        return float(real_ball(v).mid())
    if isinstance(v, Reals):
        return midpoints(to_balls(v))
    if isinstance(v, dict):
        return {key: floats_of(entry) for key, entry in v.items()}
    return type(v)(map(floats_of, v)) if type(v) in (list, tuple) else v


def as_array(v: PyTree) -> PyTree:
    """A number of ours, or a list that has some, as an array: NumPy then asks the array's class, `Reals`."""
    return one(v) if isinstance(v, Real) else array(v) if type(v) in (list, tuple) and holds(v, (Real, Reals)) else v


def special_functions() -> Special:
    """By the function that a user's code calls: the one that is called instead if a real number is an argument."""
    linalg: Special = {
        getattr(np.linalg, f.__name__): f for f in (inv, solve, det, slogdet, cholesky, pinv, lstsq, norm)
    }
    transforms = {getattr(np.fft, f.__name__): f for f in (fft, ifft, rfft, irfft)}
    transforms |= {np.fft.fftn: along_axes(fft), np.fft.ifftn: along_axes(ifft)}
    transforms |= {np.fft.fft2: along_axes(fft, 2), np.fft.ifft2: along_axes(ifft, 2)}
    others = {getattr(np, f.__name__): f for f in (array, interp, nan_to_num, angle, bincount)}
    copies: Special = dict.fromkeys((np.asarray, np.asanyarray, np.ascontiguousarray, np.asfortranarray), view)
    entrywise: Special = {np.sinc: UNARY["sinc"], np.i0: UNARY["i0"]}
    classes: Special = dict.fromkeys(FLOATS, number)
    return {**COMMON, **linalg, **transforms, **others, **copies, **entrywise, **classes}
