"""Sources of data, embedded sets and files, as Tables. NumPy only."""

import csv
import zipfile
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from jaxnn.data.checks import check_data
from jaxnn.data.table import Table, from_arrays, is_text, numbers

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
        names, cells = read_csv(path)
        if cells.shape[1] < 2:
            raise ValueError(f"{path} has one column: a row is numbers and a target, with commas between.")
        table = from_arrays(path.stem, numbers(cells[:, :-1], names), cells[:, -1], names[:-1], names[-1:])
    else:
        near = get_close_matches(source, SETS, 1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(SETS)}, or a .csv or .npz file."
        raise ValueError(f"Unknown data set {source!r}: {hint}")
    if len(table.classes) == 1:
        raise ValueError(
            f"All {len(table.y)} rows are of the class {table.classes[0]}: there is nothing to tell apart."
        )
    return table


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
        x = x.reshape(len(x), -1)
    elif path.suffix == ".csv":
        names, cells = read_csv(path)
        if features and set(features) <= set(names):
            columns = [names.index(feature) for feature in features]
        else:
            columns = list(range(cells.shape[1] - (cells.shape[1] == n + 1)))
        x = numbers(cells[:, columns], tuple(names[j] for j in columns) if names else ())
    else:
        raise ValueError(f"{path} is neither a .csv nor a .npz file.")
    if x.shape[1] != n:
        raise ValueError(f"{path} has {x.shape[1]} numbers a row, but the model was trained on {n}.")
    check_data(x, np.zeros(len(x)), features=features)
    return x


def read_npz(path: Path, *names: str) -> list[np.ndarray]:
    """The arrays of these names in a .npz file, one row an example. ValueError: no such file, or not all of them."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = [np.atleast_1d(file[name]) for name in names if name in file]
    except OSError as error:
        raise ValueError(f"Cannot read {path}: {error.strerror or error}.") from None
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile):
        raise ValueError(f"{path} is no .npz file of plain arrays, as numpy.savez makes it.") from None
    if len(arrays) < len(names):
        raise ValueError(f"{path} needs arrays named {' and '.join(names)}.")
    return [array.astype(str) if array.dtype.kind == "S" else array for array in arrays]


def read_csv(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """(names of the columns or (), cells of text (m, n)) of a .csv file; a first line of text alone is the names.

    ValueError: no such file, no text, lines of different lengths, or no rows.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [(n, [cell.strip() for cell in line]) for n, line in enumerate(csv.reader(file), 1) if line]
    except OSError as error:
        raise ValueError(f"Cannot read {path}: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not text with commas: {error}.") from None
    for n, cells in lines:
        if len(cells) != len(lines[0][1]):
            raise ValueError(f"Line {n} of {path} has {len(cells)} cells, but the first line has {len(lines[0][1])}.")
    rows = [cells for _, cells in lines]
    names: tuple[str, ...] = ()
    if rows and all(map(is_text, rows[0])):
        names = tuple(rows.pop(0))
    if not rows:
        raise ValueError(f"{path} has no rows of data.")
    return names, np.array(rows)
