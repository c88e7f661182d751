"""What training data must be; each refusal is one sentence. NumPy only."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from jaxnn.data.labels import shown

BLOCK = 2**22  # numbers looked at together: what is found of them needs memory too


def check_data(
    x: ArrayLike,
    y: ArrayLike,
    weights: ArrayLike | None = None,
    features: tuple[str, ...] = (),
    targets: tuple[str, ...] = (),
    part: str = "",
) -> None:
    """ValueError unless x (m, …), y (m, …) and weights (m, …) have the same m ≥ 1 rows and are finite numbers.

    `features` and `targets` are what the message calls the columns of x and y, `part` what it calls the data.
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim == 0 or y.ndim == 0 or len(x) == 0:
        raise ValueError(f"The {part}data have no rows.")
    if len(x) != len(y):
        raise ValueError(f"{part}x has {len(x)} rows and y has {len(y)}: both need one row an example.")
    if weights is not None:
        w = np.asarray(weights)
        if len(w) != len(x) or not (w >= 0).all() or not 0 < w.sum() < np.inf:
            raise ValueError(f"weights must be {len(x)} finite numbers, none negative and not all 0.")
    for name, v, names in ((f"{part}x", x, features), (f"{part}y", y, targets)):
        if v.dtype.kind in "OUSMmc" or v.dtype.names:  # objects, text, dates, complex; not V, NumPy's kind for bfloat16
            raise ValueError(f"{name} is of dtype {v.dtype}: it must be real numbers.")
        if not all(np.isfinite(rows).all() for rows in blocks(v)):
            wrong = ~np.isfinite(v).reshape(len(v), -1)
            columns = np.flatnonzero(wrong.any(0))
            label = shown(names[columns[0]]) if names else f"column {columns[0]} of {name}"
            more = f"; columns like it: {len(columns) - 1} more" if len(columns) > 1 else ""
            count = wrong[:, columns[0]].sum()
            raise ValueError(f"{label} is missing, NaN or infinite in {count} of {len(v)} rows{more}.")


def blocks(v: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of v, some at a time."""
    rows = max(1, BLOCK * len(v) // max(1, v.size))
    return (v[i : i + rows] for i in range(0, len(v), rows))


def check_labels(y: ArrayLike, z_shape: tuple[int, ...], part: str = "") -> None:
    """ValueError unless integer labels y, one an example, are 0 … K − 1 for outputs z (…, K)."""
    y, K = np.asarray(y), z_shape[-1]
    if y.dtype.kind in "iu" and y.shape == z_shape[:-1] and (y.min() < 0 or y.max() >= K):
        raise ValueError(
            f"The {part}labels go from {y.min()} to {y.max()}, but the model has {K} outputs: use 0 to {K - 1}."
        )
