"""Sources of data as arrays, split and standardised. NumPy only."""

import numpy as np


def check_data(x, y, weights=None, features=None):
    """ValueError unless x (m, …), y (m, …) and weights (m, …) have the same m ≥ 1 rows and are finite throughout."""
    x, y = np.asarray(x), np.asarray(y)
    if len(x) == 0:
        raise ValueError("The data have no rows.")
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} rows and y has {len(y)}: they must have one row an example each.")
    if weights is not None:
        weights = np.asarray(weights)
        if len(weights) != len(x) or not (weights >= 0).all() or not weights.sum() > 0:
            raise ValueError(f"weights must be {len(x)} numbers, none negative and not all 0.")
    for name, v in (("x", x), ("y", y)):
        wrong = ~np.isfinite(v.reshape(len(v), -1).astype(np.float64))
        if wrong.any():
            column = int(wrong.any(0).argmax())
            label = features[column] if features and name == "x" else f"column {column} of {name}"
            raise ValueError(
                f"{label} is NaN or infinite in {wrong[:, column].sum()} of {len(v)} rows"
                f"{' (and other columns too)' if wrong.any(0).sum() > 1 else ''}: leave them out or fill them in."
            )


def check_labels(y, z_shape):
    """ValueError unless integer labels y, one an example, are from 0 to K − 1 for outputs z (…, K)."""
    y, K = np.asarray(y), z_shape[-1]
    if np.issubdtype(y.dtype, np.integer) and y.shape == z_shape[:-1] and (y.min() < 0 or y.max() >= K):
        raise ValueError(f"The labels go from {y.min()} to {y.max()}, but the model has {K} outputs: use 0 to {K - 1}.")
