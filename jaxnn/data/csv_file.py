"""A .csv file as numbers, read a piece at a time: what stays in memory is the numbers, not the text."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple, TypeAlias

import numpy as np

from jaxnn.data.arrow import read_plain
from jaxnn.data.files import check_file, check_room
from jaxnn.data.labels import LONGEST_LABEL, is_text, shown

PIECE, ROWS = 2**20, 2**12  # characters, and rows, that are held as text
LONGEST_LINE, MOST_LABELS = 2**24, 2**20
SIMPLE = re.compile(r'"(?<![^,\n]")([^",\r\n]+)"(?=[,\r\n]|\Z)')  # a quoted cell that means the same without quotes

Names: TypeAlias = tuple[str, ...]
Choose: TypeAlias = Callable[[Names, int], Sequence[int]]  # (names or (), how many columns) -> columns


class Columns(NamedTuple):
    """Columns of a file, without its target. names: () if its first line has none. x (m, n): NaN where a cell is empty
    or a word. words: {column of x: (its first word, how many there are)}."""

    names: Names
    x: np.ndarray
    words: dict[int, tuple[str, int]]

    def check_numbers(self) -> None:
        """ValueError: a column has words."""
        for column, (word, count) in sorted(self.words.items()):
            label = shown(self.names[column]) if self.names else f"column {column}"
            raise ValueError(
                f"{label} has text, such as '{shown(word)}', in {count} of {len(self.x)} rows: use numbers only."
            )


class Target(NamedTuple):
    """The last column of a file. y (m,): numbers, NaN where a cell is empty; or labels, if it has words, of `classes`,
    which are sorted."""

    name: Names  # one or none
    y: np.ndarray
    classes: Names


def read_columns(path: Path, choose: Choose, has_target: bool = False) -> tuple[Columns, Target]:
    """The columns that are chosen, and the last if it is a target. A first line of text alone is the names.

    ValueError: no such file, no text, lines of different lengths, a quote that is left open, or no rows.
    """
    check_room(path, check_file(path))
    reading = Reading(path, choose, has_target, None)
    try:
        reading.read()
    except TargetHasWords:
        reading = Reading(path, choose, has_target, {})
        reading.read()
    if not len(reading.x):
        raise ValueError(f"{path} has no rows of data.")
    names = tuple(reading.names[j] for j in reading.columns) if reading.names else ()
    return Columns(names, reading.x, reading.words), reading.target()


class TargetHasWords(Exception):
    """It was read as numbers so far."""


class Reading:
    """A file on its way. labels: the number of each word of the target; None: it is read as numbers."""

    def __init__(self, path: Path, choose: Choose, has_target: bool, labels: dict[str, int] | None) -> None:
        self.path, self.choose, self.has_target, self.labels = path, choose, has_target, labels
        self.line = 0  # records so far, empty ones too
        self.names: Names = ()
        self.width = 0  # cells of a line; 0 before the first
        self.columns: Sequence[int] = ()
        self.x = np.empty((0, 0))
        self.y = np.empty(0, float if labels is None else int)
        self.words: dict[int, tuple[str, int]] = {}

    def read(self) -> None:
        """Reads it all. ValueError: as `read_columns` says."""
        try:
            with open(self.path, newline="", encoding="utf-8-sig") as file:
                while text := self.piece(file):
                    plain = SIMPLE.sub(r"\1", text) if '"' in text else text
                    if '"' in plain:  # a cell may have commas and line ends: pieces are no longer whole lines
                        self.read_quoted(chain(StringIO(text, newline=""), self.lines(file)))
                    elif not self.read_quickly(plain):
                        self.add(csv.reader(StringIO(plain, newline="")))
        except OSError as error:
            raise ValueError(f"Cannot read {self.path}: {error.strerror}.") from None
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path} is not text with commas: {error}.") from None
        except csv.Error as error:
            what = f"is not text with commas: {error}. Is a quote left open there?"
            raise self.refusal(self.line + 1, what) from None

    def refusal(self, line: int, what: str) -> ValueError:
        return ValueError(f"Line {line} of {self.path} {what}")

    def piece(self, file: IO[str]) -> str:
        """Some whole lines."""
        text = file.read(PIECE)
        return text + self.whole(file.readline(LONGEST_LINE), text.count("\n"))

    def lines(self, file: IO[str]) -> Iterator[str]:
        """The lines that are left."""
        while line := self.whole(file.readline(LONGEST_LINE), 0):
            yield line

    def whole(self, line: str, before: int) -> str:
        """The line. ValueError: it is longer than any should be. before: lines before it that are not counted yet."""
        if len(line) == LONGEST_LINE:
            raise self.refusal(self.line + before + 1, f"has more than {LONGEST_LINE:,} characters: is it a table?")
        return line

    def read_quickly(self, text: str) -> bool:
        """Reads some lines without quotes by a faster parser; False if there is none that means the same by them."""
        if not self.width:
            return False
        target = self.width - 1 if self.has_target else None
        columns = read_plain(text, self.width, self.columns, target, self.labels is not None)
        if columns is None or max(map(len, columns.words), default=0) > LONGEST_LABEL:
            return False
        y = columns.y if self.labels is None else np.array([*map(self.label, columns.words)], int)[columns.y]
        self.append(columns.x, y)
        self.line += text.count("\n")
        return True

    def read_quoted(self, lines: Iterable[str]) -> None:
        """Reads all the lines that are left."""
        last = self.add(csv.reader(chain(lines, [""])))  # an empty record comes last, unless a quote is open
        if last:
            raise self.refusal(self.line, "opens a quote that is never closed: close it, or take it out.")

    def add(self, records: Iterable[list[str]]) -> list[str]:
        """Takes the numbers, and the targets, of these records in; the last of them."""
        x: list[list[float]] = []
        y: list[float] = []
        record: list[str] = []
        for record in records:
            self.line += 1
            cells = [cell.strip() for cell in record]
            if not cells or (not self.width and self.is_head(cells)):
                continue
            if len(cells) != self.width:
                for cell in cells:
                    self.check_length(cell)
                hint = " Is a quote left open there?" if "\n" in "".join(cells) else ""
                raise self.refusal(self.line, f"has {len(cells)} cells, but the first line has {self.width}.{hint}")
            x.append(self.numbers([cells[j] for j in self.columns]))
            if self.has_target:
                y.append(self.number(cells[-1]) if self.labels is None else self.label(cells[-1]))
            if len(x) == ROWS:
                self.append(x, y)
                x, y = [], []
        self.append(x, y)
        return record

    def is_head(self, cells: list[str]) -> bool:
        """Whether the first line is that of the names; how many columns there are is known from it."""
        self.width = len(cells)
        self.names = tuple(cells) if all(map(is_text, cells)) else ()
        for name in self.names:
            self.check_length(name)
        self.columns = self.choose(self.names, self.width)
        self.x = np.empty((0, len(self.columns)))
        return bool(self.names)

    def numbers(self, cells: list[str]) -> list[float]:
        try:
            return [*map(float, cells)]
        except ValueError:
            return [self.number_or_nan(column, cell) for column, cell in enumerate(cells)]

    def number_or_nan(self, column: int, cell: str) -> float:
        """NaN for a word, which is counted."""
        if not is_text(cell):
            return float(cell or "nan")
        self.check_length(cell)
        first, count = self.words.get(column, (cell, 0))
        self.words[column] = first, count + 1
        return np.nan

    def number(self, cell: str) -> float:
        """Of the target."""
        if is_text(cell):
            raise TargetHasWords
        return float(cell or "nan")

    def label(self, cell: str) -> int:
        """The number of a word of the target."""
        assert self.labels is not None
        self.check_length(cell)
        if len(self.labels) > MOST_LABELS:
            raise ValueError(f"{self.path} has over {MOST_LABELS:,} different words as targets: they are no classes.")
        return self.labels.setdefault(cell, len(self.labels))

    def check_length(self, cell: str) -> None:
        """ValueError: a word that nobody can read."""
        if len(cell) > LONGEST_LABEL and is_text(cell):
            what = f"has a cell of {len(cell)} characters, '{shown(cell)}': {LONGEST_LABEL} are the most."
            raise self.refusal(self.line, f"{what} Is a quote left open there?")

    def append(self, x: Sequence[Sequence[float]] | np.ndarray, y: Sequence[float] | np.ndarray) -> None:
        """Appends rows in place: there is never a second copy of those before."""
        m = len(self.x)
        self.x.resize((m + len(x), self.x.shape[1]), refcheck=False)
        self.x[m:] = np.reshape(x, self.x[m:].shape)
        self.y.resize(len(self.y) + len(y), refcheck=False)
        self.y[len(self.y) - len(y) :] = y

    def target(self) -> Target:
        if self.labels is None:
            return Target(self.names[-1:], self.y, ())
        classes = tuple(sorted(self.labels))
        place = np.empty(len(classes), int)
        place[[self.labels[name] for name in classes]] = np.arange(len(classes))
        return Target(self.names[-1:], place[self.y], classes)
