"""The truth in floating point, and how far each entry of it may be off: by autodiff, or by differences in float64."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from jaxnn.verify.arguments import Function, Problem
from jaxnn.verify.arithmetic.evaluation import TooLarge
from jaxnn.verify.evidence.comparison import ENTRIES, run
from jaxnn.verify.evidence.differences import direction
from jaxnn.verify.evidence.float_differences import SMALLEST, UNIT, slope, unit_of

DOWN = 2.0**-29  # from what float32 loses to what float64 does
ROOM = 256  # how many times what is measured may be lost
DIRECTIONS = 1  # of a leaf with too many entries to move each
Floats = Sequence[np.ndarray]
Ways = Mapping[int, np.ndarray]  # {number of a float leaf: a direction in which it moves}


class Truth(NamedTuple):
    """Arrays, and how far each entry may be off. ways: of each array, the directions along which a large leaf was
    differenced; None if the array has the leaf's own entries. how: it was found, in words."""

    leaves: Floats
    tolerances: Floats
    ways: Sequence[Floats | None]
    how: str

    @property
    def scales(self) -> list[float]:
        """The largest entry of each leaf, or of all leaves where that is 0, or 1."""
        return float_scales(self.leaves)

    @property
    def digits(self) -> float:
        """To how many digits of its leaf's scale the least known entry is known."""
        pairs = zip(self.tolerances, self.scales, strict=True)
        lost = max((float(np.max(tolerance, initial=0)) / scale for tolerance, scale in pairs), default=0.0)
        return -math.log10(lost) if lost else math.inf


def float_scales(true: Floats) -> list[float]:
    """The largest entry of each leaf, or of all leaves where that is 0, or 1."""
    own = [float(np.abs(v).max(initial=0)) for v in true]
    return [v or max(own) or 1.0 for v in own]


def by_autodiff(problem: Problem, floats: Floats) -> Truth:
    """Autodiff in float64, within ROOM times the error that float32 is seen to make, scaled down."""
    true, coarse = (run(problem.truth, floats, dtype) for dtype in (np.float64, np.float32))
    tolerances = []
    for c, t, scale in zip(coarse, true, float_scales(true), strict=True):
        noise = float(np.abs(c - t).max(initial=0))
        seen = noise if np.isfinite(noise) else scale  # float32 says nothing
        tolerances.append(np.full(t.shape, ROOM * max(seen * DOWN, UNIT * scale)))
    truth = Truth(true, tolerances, [None] * len(true), "")
    return truth._replace(how=f"decided in float64, to a measured tolerance of {10**-truth.digits:.1g}")


def by_differences(problem: Problem, floats: Floats, numpy: bool, deadline: float) -> Truth:
    """Differences in float64 of the forward pass: along every entry of a leaf, or some directions of a large one; of a
    `custom_jvp`, along its tangents. Then the values that are asked for beside them.

    numpy: whether it is NumPy code. TooLarge: the deadline, in seconds of `time.process_time`, is over."""
    arguments, floats = problem.arguments, [np.asarray(v, np.float64) for v in floats]
    leaves: list[np.ndarray] = []
    errors: list[np.ndarray] = []
    ways: list[Floats | None] = []
    values = partial(run, problem.values, dtype=np.float64, numpy=numpy) if problem.values else None
    if problem.scalar is not None:
        cost = partial(run, problem.cost, dtype=np.float64, numpy=numpy)
        for i in arguments.differentiated:
            is_large = floats[i].size > ENTRIES
            moves = [direction((k, i), floats[i].shape) for k in range(DIRECTIONS)] if is_large else None
            slopes = [slope_along(cost, floats, {i: way}, deadline) for way in moves or units(floats[i].shape)]
            shape = (DIRECTIONS,) if is_large else floats[i].shape
            leaves.append(np.reshape([value for (value,), _ in slopes], shape))
            errors.append(np.reshape([error for _, (error,) in slopes], shape))
            ways.append(moves)
    elif values is not None:
        tangents = {i: floats[k] for i, k in zip(arguments.differentiated, problem.cotangents, strict=True)}
        for parts, part in zip((leaves, errors), slope_along(values, floats, tangents, deadline), strict=True):
            parts += part
        ways += [None] * len(leaves)
    beside = [v * (1 + 2**-11 / 3) for v in floats]  # where no number happens to be short
    for v, near in zip(values(floats), values(beside), strict=True) if values else []:
        leaves.append(v)
        errors.append(np.full(v.shape, ROOM * unit_of(near) * float(np.abs(v).max(initial=0))))
        ways.append(None)
    return Truth(leaves, errors, ways, "decided by differences in float64, which measure their own error")


def units(shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The direction along each entry of an array, one after the other."""
    for index in np.ndindex(shape):
        way = np.zeros(shape)
        way[index] = 1.0
        yield way


def slope_along(
    f: Function, floats: Floats, ways: Ways, deadline: float, smallest: float = SMALLEST
) -> tuple[Floats, Floats]:
    """(the derivatives of the arrays f(floats) along these ways, how far they may be off), by no step that is a smaller
    part of the numbers that move. TooLarge: it is too late."""
    shapes: list[tuple[int, ...]] = []

    def line(t: float) -> np.ndarray:
        if time.process_time() > deadline:
            raise TooLarge("differences in float64 take too long")
        out = f([v + ways[i] * t if i in ways else v for i, v in enumerate(floats)])
        shapes[:] = [np.shape(v) for v in out]
        return np.concatenate([np.ravel(v) for v in out])

    moved = np.concatenate([np.abs(floats[i][way != 0]) for i, way in ways.items()])
    largest = max((float(np.abs(floats[i]).max(initial=0)) for i in ways), default=0.0) or 1.0
    found = slope(line, float(moved.max(initial=0)) or largest, largest, smallest)
    ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
    value, error = (
        [np.reshape(part, shape) for part, shape in zip(np.split(v, ends), shapes, strict=True)] for v in found
    )
    return value, error
