"""v ↦ (v − shift) / unit, column by column, and back. NumPy only."""

from typing import NamedTuple

import numpy as np


class Scale(NamedTuple):
    """v ↦ (v − shift) / unit, column by column, and back."""

    shift: np.ndarray  # (n,)
    unit: np.ndarray  # (n,)

    def __call__(self, v: np.ndarray) -> np.ndarray:
        return (v - self.shift) / self.unit

    def back(self, v: np.ndarray) -> np.ndarray:
        return v * self.unit + self.shift


def standardise(v: np.ndarray) -> Scale:
    """The Scale that brings the columns of v (m, n) to mean 0 and standard deviation 1; constant ones to 0."""
    unit = v.std(0)
    return Scale(v.mean(0), np.where(unit > 0, unit, 1.0))


def brighten(v: np.ndarray) -> Scale:
    """The Scale that brings images v (m, n), flattened, to 0 … 1: by 255 for bytes, else by the largest entry."""
    white = 255.0 if v.dtype == np.uint8 else float(np.abs(v).max()) or 1.0
    return Scale(np.zeros(v.shape[1]), np.full(v.shape[1], white))
