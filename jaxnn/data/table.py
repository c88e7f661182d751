"""A data set as a Table, made from arrays and split in two. NumPy only."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxnn.data.checks import check_data

MOST_CLASSES = 20  # a file's target of whole numbers with more different ones than this is a quantity


class Table(NamedTuple):
    """A data set: y are labels 0 … K − 1 (m,) when there are classes, else values (m, K)."""

    name: str
    x: np.ndarray  # (m, features), or images (m, height, width, …)
    y: np.ndarray
    features: tuple[str, ...]  # names of the columns of x; () for images
    classes: tuple[str, ...]  # names of the labels; () for values
    targets: tuple[str, ...]  # names of the columns of y; () for labels


def from_arrays(
    name: str, x: ArrayLike, y: ArrayLike, features: tuple[str, ...] = (), targets: tuple[str, ...] = ()
) -> Table:
    """A Table from x (m, …) and y (m,) or (m, K): classes or values, as `load` says.

    ValueError: other shapes, a class that is missing, or values that are missing or not finite.
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim < 2 or y.ndim not in (1, 2) or len(x) != len(y):
        raise ValueError(f"x has shape {x.shape} and y {y.shape}: both need one row an example, and x its columns.")
    features = tuple(features) or tuple(f"x{j}" for j in range(x.shape[1]) if x.ndim == 2)
    text = y.dtype.kind == "U" and any(map(is_text, y.flat))
    if text and (y == "").any():
        raise ValueError(f"The class is missing in {(y == '').sum()} of {len(y)} rows.")
    if y.dtype.kind == "U" and not text:
        y = numbers(y.reshape(len(y), -1), targets)
    check_data(x, np.zeros(len(y)) if text else y, features=features, targets=targets)
    labels, index = np.unique(y, return_inverse=True)
    if y.size == len(y) and (text or (len(labels) <= MOST_CLASSES and (y % 1 == 0).all())):
        classes = tuple(label if text else str(int(label)) for label in labels.tolist())
        return Table(name, x, index.reshape(-1), features, classes, ())
    y = y.reshape(len(y), -1).astype(float)
    return Table(name, x, y, features, (), tuple(targets) or tuple(f"y{k}" for k in range(y.shape[1])))


def is_text(cell: str) -> bool:
    """Whether a cell is a word: neither a number nor empty."""
    try:
        float(cell or "nan")
    except ValueError:
        return True
    return False


def numbers(cells: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Cells of text (m, n) as floats; an empty one is NaN. ValueError where there is a word."""
    for column in range(cells.shape[1]):
        words = [cell for cell in cells[:, column] if is_text(cell)]
        if words:
            label = names[column] if names else f"column {column}"
            raise ValueError(
                f"{label} has text, such as {str(words[0])!r}, in {len(words)} of {len(cells)} rows: use numbers only."
            )
    return np.where(cells == "", "nan", cells).astype(float)


def split(table: Table, seed: int, share: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """(train, test) row numbers, in a random order by `seed`: about 80 % and 20 %, of each class if there are classes.

    ValueError when a part would be empty, or a class too rare to be in both.
    """
    m = len(table.y)
    strata = table.y if table.classes else np.zeros(m, int)
    shuffled = np.random.default_rng(seed).permutation(m)
    test = np.zeros(m, bool)
    for label in np.unique(strata):
        rows = shuffled[strata[shuffled] == label]
        if len(rows) < 2:
            what = f"class {table.classes[label]}" if table.classes else "data set"
            raise ValueError(f"The {what} has only {len(rows)} row: two are the least for a training and a test part.")
        test[rows[: max(1, round(share * len(rows)))]] = True
    return shuffled[~test[shuffled]], shuffled[test[shuffled]]
