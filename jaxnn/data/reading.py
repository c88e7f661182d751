"""Sources of data, embedded sets and files, as Tables. NumPy only."""

import math
from collections.abc import Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path

import numpy as np

from jaxnn.data.checks import check_data
from jaxnn.data.csv_file import read_columns
from jaxnn.data.labels import shown
from jaxnn.data.npz_file import read_npz
from jaxnn.data.table import Table, from_arrays, of_classes

SETS = {path.stem: path for path in sorted((Path(__file__).parent / "sets").glob("*.npz"))}


def load(source: str) -> Table:
    """A Table from an embedded set by its name, a .npz file of arrays x and y, or a .csv file.

    A .csv file has one example a line, numbers separated by commas, the target last; a line of names may come first.
    Text, or at most 20 different whole numbers, in the target are classes; other numbers are values.
    ValueError for an unknown name, a file of another form, values that are missing or not finite, or only one class.
    """
    path = Path(source)
    if source in SETS:
        table = embedded(source)
    elif path.suffix == ".npz":
        x, y = read_npz(path, "x", "y")
        table = from_arrays(path.stem, x, y)
    elif path.suffix == ".csv":
        table = from_csv(path)
    elif path.suffix == ".txt":
        raise ValueError(f"{source} is a text, and no table: give --model gpt or --model llama too.")
    else:
        near = get_close_matches(source, SETS, 1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(SETS)}, or a .csv or .npz file."
        raise ValueError(f"Unknown data set {source!r}: {hint}")
    if len(table.classes) == 1:
        raise ValueError(
            f"All {len(table.y)} rows are of the class {shown(table.classes[0])}: there is nothing to tell apart."
        )
    return table


def from_csv(path: Path) -> Table:
    """The Table of a .csv file, whose last column is the target."""
    columns, target = read_columns(path, lambda names, width: range(width - 1), has_target=True)
    if not columns.x.shape[1]:
        raise ValueError(f"{path} has one column: a row is numbers and a target, with commas between.")
    columns.check_numbers()
    if target.classes:
        return of_classes(path.stem, columns.x, target.y, target.classes, columns.names)
    return from_arrays(path.stem, columns.x, target.y, columns.names, target.name)


def embedded(name: str) -> Table:
    """The Table of one of `jaxnn/data/sets`."""
    with np.load(SETS[name]) as file:
        x, y, *names = (file[field] for field in Table._fields[1:])
    return Table(name, x, y, *(tuple(v.tolist()) for v in names))


def load_rows(path: Path, features: tuple[str, ...], n: int) -> np.ndarray:
    """x (m, n) to predict: the array x of a .npz file, or columns of a .csv file. Those whose names are `features` when
    its first line has these; else the n it has, or the n before its last, which is then the target.

    ValueError for a file of another form, or values that are missing or not finite."""
    if path.suffix == ".npz":
        (x,) = read_npz(path, "x")
        x = x.reshape(len(x), math.prod(x.shape[1:]))
    elif path.suffix == ".csv":
        columns, _ = read_columns(path, partial(columns_of, features, n))
        columns.check_numbers()
        x = columns.x
    else:
        raise ValueError(f"{path} is neither a .csv nor a .npz file.")
    if x.shape[1] != n:
        raise ValueError(f"{path} has {x.shape[1]} numbers a row, but the model was trained on {n}.")
    check_data(x, np.zeros(len(x)), features=features)
    return x


def columns_of(features: tuple[str, ...], n: int, names: tuple[str, ...], width: int) -> Sequence[int]:
    """Those of a file of so many columns, with these names or none, that `load_rows` is to take."""
    if features and set(features) <= set(names):
        return [names.index(feature) for feature in features]
    return range(width - (width == n + 1))


def read_csv(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """(names of the columns or (), numbers (m, n)) of a .csv file; a first line of text alone is the names. An empty
    cell is NaN.

    ValueError: no such file, words, lines of different lengths, or no rows.
    """
    columns, _ = read_columns(path, lambda names, width: range(width))
    columns.check_numbers()
    return columns.names, columns.x
