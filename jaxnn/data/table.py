"""A data set as a Table, made from arrays and split in two. NumPy only."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxnn.data.checks import check_data
from jaxnn.data.labels import LONGEST_LABEL, is_text, shown

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
    if y.dtype.kind == "U" and any(map(is_text, y.flat)):
        if y.size > len(y):
            raise ValueError(f"y has text and shape {y.shape}: give one class an example.")
        words, index = np.unique(y, return_inverse=True)
        return of_classes(name, x, index.reshape(-1), tuple(words.tolist()), features)
    if y.dtype.kind == "U":
        y = np.where(y == "", "nan", y).astype(float)
    features = tuple(features) or default_names(x)
    check_data(x, y, features=features, targets=targets)
    values, index = np.unique(y, return_inverse=True)
    if y.size == len(y) and len(values) <= MOST_CLASSES and (y % 1 == 0).all():
        return Table(name, x, index.reshape(-1), features, tuple(str(int(value)) for value in values.tolist()), ())
    y = y.reshape(len(y), -1).astype(float)
    return Table(name, x, y, features, (), tuple(targets) or tuple(f"y{k}" for k in range(y.shape[1])))


def of_classes(name: str, x: np.ndarray, y: np.ndarray, classes: tuple[str, ...], features: tuple[str, ...]) -> Table:
    """A Table from x (m, …) and labels y 0 … K − 1 (m,) of the classes, which are sorted.

    ValueError: a class that is missing or has a name that nobody can read, or values that are missing or not finite.
    """
    if classes[0] == "":
        raise ValueError(f"The class is missing in {(y == 0).sum()} of {len(y)} rows.")
    for label in classes:
        if len(label) > LONGEST_LABEL:
            raise ValueError(f"A class has a name of {len(label)} characters: {LONGEST_LABEL} are the most.")
    features = tuple(features) or default_names(x)
    check_data(x, y, features=features)
    return Table(name, x, y, features, classes, ())


def default_names(x: np.ndarray) -> tuple[str, ...]:
    """x0, x1, …; () for images."""
    return tuple(f"x{j}" for j in range(x.shape[1]) if x.ndim == 2)


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
            what = f"class {shown(table.classes[label])}" if table.classes else "data set"
            raise ValueError(f"The {what} has only {len(rows)} row: two are the least for a training and a test part.")
        test[rows[: max(1, round(share * len(rows)))]] = True
    return shuffled[~test[shuffled]], shuffled[test[shuffled]]
