"""A line of an explanation: a value with its symbol, its formula and its shape; and lines as a table of text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Notation(NamedTuple):
    """How a layer is written: its output z, ∂J/∂W, ∂J/∂b and ∂J/∂x; and which arrays are transposed for it."""

    z: str
    dW: str
    db: str
    dx: str
    columns: bool  # one example a column
    transposed: bool  # W is (n_in, n_out)


WHOLE = 10  # entries of an array that is shown as it is


@dataclass(frozen=True)
class Line:
    """One value of the forward pass, one derivative of the backward pass, or one update.

    symbol and formula as people write them; value: the array, as the notation has it; local: the formula of the local
    derivative that a ∂J/∂z is the product with, local_value: its value; verdict: PASS, FAIL, INCONCLUSIVE or "", of a
    ∂J/∂v.
    """

    symbol: str
    formula: str
    value: np.ndarray
    local: str = ""
    local_value: np.ndarray | None = None
    verdict: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape


def decimal(number: float) -> str:
    return np.format_float_positional(number, trim="-")


def updated(symbol: str, value: np.ndarray, derivative: np.ndarray, learning_rate: float) -> Line:
    """The line of one step of gradient descent."""
    with np.errstate(all="ignore"):  # it may diverge
        new = value - learning_rate * derivative
    return Line(symbol, f"{symbol} − {decimal(learning_rate)} ∂J/∂{symbol}", new)


def table(title: str, lines: Sequence[Line]) -> list[str]:
    """Text: symbol, verdict, formula, shape, values, and the local derivative with its values, a line a row."""
    rows = [(title, "", "formula", "shape", "values", "local derivative")]
    rows += [
        (
            line.symbol,
            line.verdict,
            line.formula,
            " × ".join(map(str, line.shape)) or "1",
            shown(line.value),
            f"{line.local} = {shown(line.local_value)}" if line.local_value is not None else line.local,
        )
        for line in lines
    ]
    columns = [k for k in range(len(rows[0])) if any(row[k] for row in rows[1:])]
    widths = {k: max(len(row[k]) for row in rows) for k in columns}
    return ["  ".join(row[k].ljust(widths[k]) for k in columns).rstrip() for row in rows]


def shown(v: np.ndarray) -> str:
    """A small array whole, of a large one its mean, standard deviation and range."""
    if v.size <= WHOLE:
        return np.array2string(v, precision=4, suppress_small=True, separator=" ").replace("\n", "")
    return f"mean {v.mean():.3g}, σ {v.std():.3g}, {v.min():.3g} … {v.max():.3g}"
