"""Large arguments of a rule cut down, axis by axis, to what balls can carry. Sizes that are equal stay equal."""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain, count, islice
from math import prod

import jax
import numpy as np

from jaxnn.protocols import PyTree

SMALL = 4  # an axis so long stays
FEW = 200  # entries of all arguments, of which nothing is cut
CARRIED = 3000  # entries of all arguments that balls carry in a few seconds

Sizes = dict[int, int]  # of an axis: what it is cut to
Shapes = tuple[tuple[int, ...], ...]


def smaller_sizes(args: PyTree, out_shapes: Callable[[PyTree], Shapes]) -> Iterator[Sizes]:
    """To what the axes of the arrays in `args` are cut: first to little, then to as much as balls carry. {} says that
    nothing is cut; there is none if all is large and runs at no other sizes.

    out_shapes(args): the shapes of the outputs, which must be cut as those of `args` are; it raises if there are none.
    """
    axes, true = set(chain.from_iterable(shapes_of(args))), out_shapes(args)

    def entries(sizes: Sizes) -> int:
        return sum(prod(cut(shape, sizes)) for shape in shapes_of(args))

    def runs(sizes: Sizes) -> bool:
        try:
            out = out_shapes(smaller(args, sizes))
        except Exception:  # whatever a rule says that was written for other sizes
            return False
        return len(out) == len(true) and all(fits(new, old, sizes) for new, old in zip(out, true, strict=True))

    if entries({}) > FEW:
        sizes = next(filter(runs, all_at_once(axes)), None) or one_by_one(axes, runs)
        yield from [sizes] if sizes and entries(sizes) <= CARRIED else []
    if entries({}) <= CARRIED:
        yield {}
    else:
        yield from islice((sizes for sizes in halved(axes) if entries(sizes) <= CARRIED and runs(sizes)), 1)


def all_at_once(axes: set[int]) -> Iterator[Sizes]:
    """Sizes of all long axes: small numbers, small even ones, or all of them divided by the same power of 2."""
    large = sorted(n for n in axes if n > SMALL)
    for first, step in ((3, 1), (4, 2)):
        free = (n for n in count(first, step) if n > SMALL or n not in axes)
        yield {n: min(n, k) for n, k in zip(large, free, strict=False)}
    yield from reversed(list(halved(axes)))


def halved(axes: set[int]) -> Iterator[Sizes]:
    """All long axes divided by 2, by 4 and so on, as long as they can be."""
    large = [n for n in axes if n > SMALL]
    for power in range(1, max(axes).bit_length()):
        if all(n % 2**power == 0 and n > 2**power for n in large):
            yield {n: n >> power for n in large}


def one_by_one(axes: set[int], runs: Callable[[Sizes], bool]) -> Sizes:
    """Each long axis cut as far as it goes: to a small number, or divided by a power of 2."""
    sizes: Sizes = {}
    for n in sorted((n for n in axes if n > SMALL), reverse=True):
        taken = axes | {*sizes.values()}
        candidates = [k for k in (3, 5, 7, 4, 6) if k < n and k not in taken]
        candidates += [n >> power for power in reversed(range(1, n.bit_length() - 1)) if n % 2**power == 0]
        sizes |= next(({n: k} for k in candidates if runs(sizes | {n: k})), {})
    return sizes


def cut(shape: tuple[int, ...], sizes: Mapping[int, int]) -> tuple[int, ...]:
    """A shape with its axes cut."""
    return tuple(sizes.get(n, n) for n in shape)


def fits(new: tuple[int, ...], old: tuple[int, ...], sizes: Mapping[int, int]) -> bool:
    """Whether an output of the shape `old` may have become one of the shape `new`."""
    return len(new) == len(old) and all(k == sizes.get(n, k) for k, n in zip(new, old, strict=True))


def shapes_of(args: PyTree) -> Shapes:
    """The shapes of the arrays."""
    return tuple(v.shape for v in jax.tree.leaves(args) if hasattr(v, "dtype"))


def smaller(args: PyTree, sizes: Mapping[int, int]) -> PyTree:
    """args with all arrays cut, and with the new length in the place of every integer that is the length of an axis."""

    def new(v: PyTree) -> PyTree:
        if isinstance(v, np.ndarray):
            return smaller_array(v, sizes)
        return sizes.get(v, v) if type(v) is int else v

    return jax.tree.map(new, args)


def smaller_array(v: np.ndarray, sizes: Mapping[int, int]) -> np.ndarray:
    """The array with its axes cut. Whole numbers that may count along a longer axis are taken modulo the new size, or
    at most the last if they are sorted; in a distribution, such as one-hot rows, entries so far apart are added up; a
    mask keeps a 0 and a 1."""
    shape = cut(v.shape, sizes)
    if v.dtype.kind in "iu":
        small = v[corner(shape)]
        k = min((k for n, k in sizes.items() if n > np.max(v, initial=0)), default=None)
        if k is None:
            return small
        is_sorted = v.ndim > 0 and (np.diff(v) >= 0).all()
        return np.where(small < 0, small, np.minimum(small, k - 1) if is_sorted else small % k).astype(v.dtype)
    axis = axis_of_distribution(v)
    if axis is not None:
        rows = np.moveaxis(np.asarray(v, np.float64), axis, -1)
        k = shape[axis]
        sums = np.stack([rows[..., j::k].sum(-1) for j in range(k)], -1) / rows.sum(-1, keepdims=True)
        v = np.moveaxis(sums, -1, axis).astype(v.dtype)
    small = v[corner(shape)].copy()
    if is_mask(v) and not is_mask(small):
        small[(-1,) * v.ndim] = 1 - small[(-1,) * v.ndim]
    return small


def corner(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The index of the first entries of an array, so many along each axis."""
    return tuple(slice(0, n) for n in shape)


def axis_of_distribution(v: np.ndarray) -> int | None:
    """The axis along which rows or columns sum to 1 up to rounding, None if there is none."""
    numbers = np.asarray(v, np.float64)
    axes = (-1, 0) if v.ndim and v.size and (numbers >= 0).all() else ()
    return next((axis for axis in axes if (np.abs(numbers.sum(axis) - 1) < 0.02).all()), None)


def is_mask(v: np.ndarray) -> bool:
    """Whether both zeros and ones are here, and nothing else."""
    return np.array_equal(np.unique(np.asarray(v, np.float64)), (0, 1))
