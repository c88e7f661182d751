"""Derivatives by differences in float64, extrapolated to a step of 0 (Ridders, 1982), each with its own error.

A limit is worth what it is at every smaller step, up to rounding: no narrow cell, pole or jump is stepped over. Where
the two sides have other limits, at a kink, the error is half of what lies between them.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

UNIT = 2.0**-52  # of float64
RATIO = 4.0  # of one step to the next
ORDERS = 4  # powers of the step, of the error that is extrapolated away
SMALLEST = 2.0**-34  # step, relative to the number that moves
WIDEST = 2.0**-14  # stair that is rounding, relative to the number that moves
NOISY = 3  # smallest steps: what is left of a bend there is rounding
ROOM = 4  # how many times its estimate an error may be
Line = Callable[[float], np.ndarray]  # t -> f(v + t·way)


class Slope(NamedTuple):
    """A derivative, entry by entry, and how far each entry may be off: infinitely where there is none."""

    value: np.ndarray
    error: np.ndarray


def slope(line: Line, size: float, largest: float, smallest: float = SMALLEST) -> Slope:
    """d line/dt at 0, for numbers of this size that move: by steps from the `largest` size to the `smallest` part."""
    start, end = (2.0 ** math.ceil(math.log2(v)) for v in (max(size, largest), size * smallest))
    steps = start * RATIO ** -np.arange(1.0, math.log(start / end, RATIO))
    here = np.asarray(line(0.0), np.float64)
    after, before = (np.stack([value_at(line, sign * h, here.shape) for h in steps]) for sign in (1, -1))
    h = steps.reshape(-1, *(1 for _ in here.shape))
    with np.errstate(all="ignore"):
        slopes, bends = (after - before) / (2 * h), after - 2 * here + before
        noise = np.nan_to_num(np.abs(bends[1:] - bends[:-1] / RATIO**2)[-NOISY:].max(0), nan=0.0)
        noise = np.maximum(noise, stair(np.maximum(np.abs(after - here), np.abs(before - here)), h, size))
        unit = unit_of(np.concatenate([after, before])) if np.any(after != before) else 0.0
        rounding = (noise + unit * (np.abs(after) + np.abs(before)) + UNIT * np.abs(slopes) * size) / h
        value, error = limit(slopes, rounding, orders=range(2, 2 * ORDERS + 1, 2))
        jump, unknown = limit(bends / h, 2 * rounding, orders=range(1, 2 * ORDERS, 2))
        error = error + np.nan_to_num(np.maximum(np.abs(jump) - unknown, 0), nan=np.inf) / 2
    return Slope(value, ROOM * error)


def stair(moves: np.ndarray, steps: np.ndarray, size: float) -> np.ndarray:
    """How high a stair is on which a function stands still for small steps alone: it was rounded, to float32 say."""
    moving = moves > 0
    last = len(moves) - 1 - np.argmax(moving[::-1], 0)  # the smallest step at which it moves
    height = np.take_along_axis(moves, last[None], 0)[0]
    return np.where(moving.any(0) & ~moving[-1] & (steps.ravel()[last] < WIDEST * size), height, 0.0)


def value_at(line: Line, t: float, shape: tuple[int, ...]) -> np.ndarray:
    """line(t); nan where it is not defined."""
    try:
        return np.asarray(line(t), np.float64)
    except (ArithmeticError, ValueError):  # a singular matrix, a number out of range
        return np.full(shape, np.nan)


def unit_of(values: np.ndarray) -> float:
    """The rounding unit of the narrowest dtype that holds all of these numbers."""
    with np.errstate(all="ignore"):
        fits = [t for t in (np.float16, np.float32) if np.array_equal(values.astype(t), values, equal_nan=True)]
    return float(np.finfo(fits[0] if fits else np.float64).eps)


def limit(values: np.ndarray, rounding: np.ndarray, orders: Sequence[int]) -> Slope:
    """The limit of values[k], at steps each RATIO times smaller, whose error is a sum of these powers of the step.

    Of all extrapolations it is the one that differs least from those beside it, and from every value at a smaller step,
    that value's rounding allowed for."""
    best, least = values[-1], np.full(values.shape[1:], np.inf)
    table = values
    for order in orders:
        finer = table[1:] + (table[1:] - table[:-1]) / (RATIO**order - 1)
        if not len(finer):
            break
        errors = np.maximum(np.abs(finer - table[1:]), np.abs(finer - table[:-1]))
        first = len(values) - len(finer)
        for k, row in enumerate(finer):
            beyond = np.abs(values - row)[first + k + 1 :] - rounding[first + k + 1 :]
            errors[k] = np.maximum(errors[k] + rounding[first + k], beyond.max(0, initial=0))
        errors = np.where(np.isfinite(errors), errors, np.inf)
        surest = np.expand_dims(np.argmin(errors, 0), 0)
        error, row = (np.take_along_axis(v, surest, 0)[0] for v in (errors, finer))
        best, least = np.where(error < least, row, best), np.minimum(error, least)
        table = finer
    return Slope(best, least)
