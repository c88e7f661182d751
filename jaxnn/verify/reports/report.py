"""What a verification found: a verdict, the evidence for it, and where a wrong formula is wrong."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jaxnn.protocols import PyTree
from jaxnn.verify.reports.findings import Grade, Leaf
from jaxnn.verify.reports.page import page
from jaxnn.verify.reports.result import Result, plain
from jaxnn.verify.reports.words import cause_words, point_words, shown, trail_words, witness_words

IN_JSON = (
    *("title", "verdict", "reason", "evidence", "replay", "seconds", "digits", "leaves", "points", "branches"),
    *("witnesses", "links", "causes", "first_wrong", "unseen", "notes", "precision"),
)


@dataclass(frozen=True, eq=False)
class Report(Result):
    """The answer of `jaxnn.verify`; printed, it is what a person wants to know, most important first."""

    def __str__(self) -> str:
        lines = [f"{self.verdict}  {self.title}: {self.reason}", "", *leaf_lines(self.leaves), ""]
        digits = f", {shown(self.digits)} digits" if self.ok else ""
        lines += [f"evidence   {self.evidence}{digits}; points: {', '.join(map(point_words, self.points))}"]
        lines += [f"where      {trail_words(self.links, self.first_wrong)}"] if self.first_wrong else []
        lines += [f"cause      {cause_words(cause)}" for cause in self.causes]
        lines += [f"witness    {witness.name}: {witness_words(witness)}" for witness in self.witnesses]
        lines += [f"branch     {branch}" for branch in self.branches if not branch.special]
        lines += [f"unseen     {side}" for side in self.unseen]
        lines += [f"note       {note}" for note in self.notes]
        lines += [f"power      {line}" for line in str(self.power()).splitlines()] if self.has_power else []
        if self.ok:  # a wrong formula has no accuracy
            lines += [f"precision  {line}" for line in precision_lines(self.precision)]
        lines += [f"replay     {self.replay}"] if self.replay else []
        return "\n".join(lines)

    def to_dict(self) -> dict[str, PyTree]:
        """Everything except the entry-wise errors, of types that JSON has; what is not finite is a string."""
        power = self.power() if self.has_power else None
        return {**{name: plain(getattr(self, name)) for name in IN_JSON}, "power": plain(power)}

    def to_html(self) -> str:
        """One self-contained page, with a heat map of the entry-wise error of every leaf."""
        return page([self])


def leaf_lines(leaves: Sequence[Leaf]) -> list[str]:
    """A table of the leaves."""
    if not leaves:
        return []
    rows = [("leaf", "verdict", "digits", "worst entry", "by hand", "true")]
    rows += [
        (leaf.path, leaf.verdict, shown(leaf.digits), str(list(leaf.index)), f"{leaf.hand:.9g}", f"{leaf.true:.9g}")
        for leaf in leaves
    ]
    return columns(rows)


def columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The lines of a table."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def precision_lines(grades: Sequence[Grade]) -> Iterator[str]:
    """The least accurate leaf of each dtype."""
    for dtype in dict.fromkeys(grade.dtype for grade in grades):
        worst = min((grade for grade in grades if grade.dtype == dtype), key=lambda grade: grade.hand_digits)
        yield (
            f"{dtype}: hand {shown(worst.hand_digits)} digits ({worst.hand_ulps:.3g} ulps), "
            f"jax.grad {shown(worst.autodiff_digits)} ({worst.autodiff_ulps:.3g} ulps), least in {worst.path}"
        )
