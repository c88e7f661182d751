"""What an explanation is: the lines of the forward pass, the backward pass and the update; as text, page and LaTeX."""

from dataclasses import dataclass

from jaxnn import verify
from jaxnn.explanation.latex import latex, latex_shape
from jaxnn.explanation.lines import Line, Notation, table
from jaxnn.explanation.page import page
from jaxnn.verify import Report


@dataclass(frozen=True)
class Explanation:
    """The forward pass, the backward pass and the update of one iteration; `report` is the verifier's.

    notation: that of a network of `Dense` and `Activation` layers alone; None where the code has its own.
    """

    forward: tuple[Line, ...]
    backward: tuple[Line, ...]
    update: tuple[Line, ...]
    report: Report
    notation: Notation | None

    def __str__(self) -> str:
        lines = [
            *table("forward", self.forward),
            "",
            *table("backward", self.backward),
            "",
            *table("update", self.update),
        ]
        first_wrong = next((line.symbol for line in self.backward if line.verdict == verify.FAIL), None)
        wrong = f"; first wrong: {first_wrong}" if first_wrong and not self.report.ok else ""
        return "\n".join([*lines, "", f"verdict  {self.report.verdict}{wrong}"])

    def to_html(self) -> str:
        """The page of this iteration alone, see page.py."""
        return page([self])

    def to_latex(self) -> str:
        """The derivation as one `align*` of the package amsmath."""
        lines = [*self.forward, *self.backward, *self.update]
        rows = [f"  {latex(line.symbol)} &= {latex(line.formula)} && {latex_shape(line.shape)}" for line in lines]
        return "\\begin{align*}\n" + " \\\\\n".join(rows) + "\n\\end{align*}\n"
