"""Sources of data as arrays, split and scaled. NumPy only."""

import csv
import zipfile
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnn.checks import check_data

SETS = {path.stem: path for path in sorted((Path(__file__).parent / "sets").glob("*.npz"))}
MOST_CLASSES = 20  # a file's target of whole numbers with more different ones than this is a quantity


class Table(NamedTuple):
    """A data set: y are labels 0 … K − 1 (m,) when there are classes, else values (m, K)."""

    name: str
    x: np.ndarray  # (m, features), or images (m, height, width, …)
    y: np.ndarray
    features: tuple[str, ...]  # names of the columns of x; () for images
    classes: tuple[str, ...]  # names of the labels; () for values
    targets: tuple[str, ...]  # names of the columns of y; () for labels


class Scale(NamedTuple):
    """v ↦ (v − shift) / unit, column by column, and back."""

    shift: np.ndarray  # (n,)
    unit: np.ndarray  # (n,)

    def __call__(self, v):
        return (v - self.shift) / self.unit

    def back(self, v):
        return v * self.unit + self.shift


def standardise(v):
    """The Scale that brings the columns of v (m, n) to mean 0 and standard deviation 1; constant ones to 0."""
    unit = v.std(0)
    return Scale(v.mean(0), np.where(unit > 0, unit, 1.0))


def brighten(v):
    """The Scale that brings images v (m, n), flattened, to 0 … 1: by 255 for bytes, else by the largest entry."""
    white = 255.0 if v.dtype == np.uint8 else float(np.abs(v).max()) or 1.0
    return Scale(np.zeros(v.shape[1]), np.full(v.shape[1], white))


def load(source):
    """A Table from an embedded set by its name, a .npz file of arrays x and y, or a .csv file.

    A .csv file has one example a line, numbers separated by commas, the target last; a line of names may come first.
    Text, or at most 20 different whole numbers, in the target are classes; other numbers are values.
    ValueError for an unknown name, a file of another form, values that are missing or not finite, or only one class.
    """
    path = Path(source)
    if source in SETS:
        table = embedded(source)
    elif path.suffix == ".npz":
        table = from_arrays(path.stem, *read_npz(path, "x", "y"))
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


def embedded(name):
    """The Table of one of `jaxnn/sets`."""
    with np.load(SETS[name]) as file:
        x, y, *names = (file[field] for field in Table._fields[1:])
    return Table(name, x, y, *(tuple(v.tolist()) for v in names))


def from_arrays(name, x, y, features=(), targets=()):
    """A Table from x (m, …) and y (m,) or (m, K): classes or values, as `load` says."""
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


def load_rows(path, features, n):
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
        x = numbers(cells[:, columns], [names[j] for j in columns] if names else ())
    else:
        raise ValueError(f"{path} is neither a .csv nor a .npz file.")
    if x.shape[1] != n:
        raise ValueError(f"{path} has {x.shape[1]} numbers a row, but the model was trained on {n}.")
    check_data(x, np.zeros(len(x)), features=features)
    return x


def read_npz(path, *names):
    """The arrays of these names in a .npz file, one row an example."""
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


def read_csv(path):
    """(names of the columns or (), cells of text (m, n)) of a .csv file; a first line of text alone is the names."""
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
    names = tuple(lines[0][1]) if lines and all(map(is_text, lines[0][1])) else ()
    rows = [cells for _, cells in lines][bool(names) :]
    if not rows:
        raise ValueError(f"{path} has no rows of data.")
    return names, np.array(rows)


def is_text(cell):
    try:
        float(cell or "nan")
    except ValueError:
        return True
    return False


def numbers(cells, names):
    """Cells of text (m, n) as floats; an empty one is NaN. ValueError where there is a word."""
    for column in range(cells.shape[1]):
        words = [cell for cell in cells[:, column] if is_text(cell)]
        if words:
            label = names[column] if names else f"column {column}"
            raise ValueError(
                f"{label} has text, such as {str(words[0])!r}, in {len(words)} of {len(cells)} rows: use numbers only."
            )
    return np.where(cells == "", "nan", cells).astype(float)


def split(table, seed, share=0.2):
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
