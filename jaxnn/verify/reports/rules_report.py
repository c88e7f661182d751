"""What was found of every custom rule of a step: a table, and a whole report on each."""

from dataclasses import dataclass

from jaxnn.protocols import PyTree
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS, Verdict
from jaxnn.verify.reports.report import Report, columns

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class CheckedRule:
    """A custom rule, the shapes of the arrays that it met, and those at which it was checked exactly: the same, or cut
    down; None if they could not be cut to what balls can carry."""

    name: str
    place: str  # 'file.py:12'
    shapes: Shapes
    cut: Shapes | None
    report: Report

    @property
    def cells(self) -> tuple[str, ...]:
        """The line of the table."""
        cut = "not cut" if self.cut is None else "" if self.cut == self.shapes else shapes_words(self.cut)
        report = self.report
        return self.name, self.place, shapes_words(self.shapes), cut, report.verdict, report.evidence, report.reason


@dataclass(frozen=True)
class RulesReport:
    """The answer of `verify.rules`. rules: each once, in the order in which the step meets them; skipped: the names of
    JAX's own rules, which were not checked.

    verdict: FAIL if one rule is wrong; INCONCLUSIVE if one is; else PASS.
    """

    title: str
    rules: tuple[CheckedRule, ...]
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def reports(self) -> tuple[Report, ...]:
        """The `Report` on each rule."""
        return tuple(rule.report for rule in self.rules)

    @property
    def verdict(self) -> Verdict:
        verdicts = {report.verdict for report in self.reports}
        return next((v for v in (FAIL, INCONCLUSIVE) if v in verdicts), PASS)

    @property
    def ok(self) -> bool:
        return self.verdict == PASS

    def __str__(self) -> str:
        counts = {v: sum(report.verdict == v for report in self.reports) for v in (FAIL, INCONCLUSIVE, PASS)}
        counted = ", ".join(f"{n} {v}" for v, n in counts.items() if n)
        lines = [f"{self.verdict}  {self.title}: {counted}", ""]
        lines += columns([("rule", "place", "shapes", "cut to", "verdict", "evidence", "reason"), *self.cells])
        lines += [""] if self.skipped or self.notes else []
        lines += [f"skipped    {', '.join(self.skipped)}: JAX's own (jax_rules=True checks them)"] if self.skipped else []
        lines += [f"note       {note}" for note in self.notes]
        for report in self.reports:
            lines += [] if report.ok else ["", str(report)]
        return "\n".join(lines)

    @property
    def cells(self) -> list[tuple[str, ...]]:
        """The lines of the table."""
        return [rule.cells for rule in self.rules]

    def to_dict(self) -> dict[str, PyTree]:
        """Everything, of types that JSON has."""
        rules = [
            {"name": r.name, "place": r.place, "shapes": r.shapes, "cut": r.cut, "report": r.report.to_dict()}
            for r in self.rules
        ]
        names = ("title", "verdict", "skipped", "notes", "seconds")
        return {**{name: getattr(self, name) for name in names}, "rules": rules}


def shapes_words(shapes: Shapes) -> str:
    """'(512, 1024), (1024,)'; of more than four, the first three and how many there are."""
    words = [str(shape) for shape in shapes]
    return ", ".join(words if len(words) <= 4 else [*words[:3], f"… {len(words)} arrays"])
