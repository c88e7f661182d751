"""v ↦ (v − shift) / unit, column by column, and back. NumPy only."""

from typing import NamedTuple

import numpy as np

ROUNDING = 4 * np.finfo(float).eps  # of the largest entry: a column whose entries differ by no more is constant


class Scale(NamedTuple):
    """v ↦ (v − shift) / unit, column by column, and back."""

    shift: np.ndarray  # (n,)
    unit: np.ndarray  # (n,)

    def __call__(self, v: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):  # infinite is what it is then
            return (v - self.shift) / self.unit

    def back(self, v: np.ndarray) -> np.ndarray:
        return v * self.unit + self.shift


def constant(v: np.ndarray) -> np.ndarray:
    """(n,): which columns of v (m, n) are constant, but for how their entries are rounded."""
    v = np.asarray(v, float)
    lowest, highest = v.min(0), v.max(0)
    largest = np.maximum(abs(lowest), abs(highest))
    return highest / 2 - lowest / 2 <= np.maximum(ROUNDING / 2 * largest, 2 * np.spacing(largest))  # denormals too


def standardise(v: np.ndarray) -> Scale:
    """The Scale that brings the columns of v (m, n) to mean 0 and standard deviation 1; constant ones to 0."""
    v, same = np.asarray(v, float), constant(v)
    _, exponent = np.frexp(abs(v).max(0))
    small = np.ldexp(v, -exponent)  # from −1 to 1, exactly: neither sum nor squares overflow
    shift, unit = np.ldexp(small.mean(0), exponent), np.ldexp(small.std(0), exponent)
    return Scale(np.where(same, v[0], shift), np.where(same, 1.0, unit))


def brighten(v: np.ndarray) -> Scale:
    """The Scale that brings images v (m, n), flattened, to 0 … 1: by 255 for bytes, else by the largest entry."""
    white = 255.0 if v.dtype == np.uint8 else float(np.abs(v).max()) or 1.0
    return Scale(np.zeros(v.shape[1]), np.full(v.shape[1], white))
