"""What an explanation is: links with a formula, a shape and values; its table of text and its LaTeX."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jaxnn import verify
from jaxnn.explanation.latex import latex, latex_shape
from jaxnn.explanation.page import page


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
class Link:
    """One value of the forward pass, one derivative of the backward pass, or one update.

    symbol and formula as people write them; value: the array, as the notation has it; local: the formula of the local
    derivative that a ∂J/∂z is the product with, slope: its value; verdict: PASS, FAIL, INCONCLUSIVE or "", of a ∂J/∂v.
    """

    symbol: str
    formula: str
    value: np.ndarray
    local: str = ""
    slope: np.ndarray | None = None
    verdict: str = ""

    @property
    def shape(self):
        return self.value.shape


@dataclass(frozen=True)
class Explanation:
    """The forward pass, the backward pass and the update of one iteration; `report` is the verifier's. notation: None
    of functions that a user wrote, which have their own."""

    forward: tuple[Link, ...]
    backward: tuple[Link, ...]
    update: tuple[Link, ...]
    report: Any
    notation: Notation | None

    def __str__(self):
        lines = [
            *table("forward", self.forward),
            "",
            *table("backward", self.backward),
            "",
            *table("update", self.update),
        ]
        failed = next((link.symbol for link in self.backward if link.verdict == verify.FAIL), None)
        wrong = f"; first wrong: {self.report.first_wrong or failed}" if failed and not self.report.ok else ""
        return "\n".join([*lines, "", f"verdict  {self.report.verdict}{wrong}"])

    def to_html(self):
        """The page of this iteration alone, see page.py."""
        return page([self])

    def to_latex(self):
        """The derivation as one `align*` of the package amsmath."""
        links = [*self.forward, *self.backward, *self.update]
        rows = [f"  {latex(link.symbol)} &= {latex(link.formula)} && {latex_shape(link.shape)}" for link in links]
        return "\\begin{align*}\n" + " \\\\\n".join(rows) + "\n\\end{align*}\n"


def decimal(number):
    return np.format_float_positional(number, trim="-")


def table(title, links):
    """Lines: symbol, verdict, formula, shape, values, and the local derivative with its values."""
    rows = [(title, "", "formula", "shape", "values", "local derivative")]
    rows += [
        (
            link.symbol,
            link.verdict,
            link.formula,
            " × ".join(map(str, link.shape)) or "1",
            shown(link.value),
            f"{link.local} = {shown(link.slope)}" if link.slope is not None else link.local,
        )
        for link in links
    ]
    columns = [k for k in range(len(rows[0])) if any(row[k] for row in rows[1:])]
    widths = {k: max(len(row[k]) for row in rows) for k in columns}
    return ["  ".join(row[k].ljust(widths[k]) for k in columns).rstrip() for row in rows]


def shown(v):
    """A small array whole, of a large one its mean, standard deviation and range."""
    if v.size <= WHOLE:
        return np.array2string(v, precision=4, suppress_small=True, separator=" ").replace("\n", "")
    return f"mean {v.mean():.3g}, σ {v.std():.3g}, {v.min():.3g} … {v.max():.3g}"
