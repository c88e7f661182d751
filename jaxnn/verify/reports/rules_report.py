"""What was found of every custom rule of a step: a table, and a whole report on each."""

from dataclasses import dataclass, field

from jaxnn.protocols import PyTree
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS, Verdict
from jaxnn.verify.reports.report import Report, columns
from jaxnn.verify.reports.result import plain

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class CheckedRule:
    """A custom rule; where it was written, and where it is called first, as 'file.py:12'; the shapes of the arrays that
    it met, and those at which it was checked exactly: None if they could not be cut to what balls can carry."""

    name: str
    place: str
    call: str
    shapes: Shapes
    cut: Shapes | None
    report: Report

    @property
    def cells(self) -> tuple[str, ...]:
        """The line of the table."""
        cut = "not cut" if self.cut is None else "" if self.cut == self.shapes else shapes_words(self.cut)
        shapes, report = shapes_words(self.shapes), self.report
        return self.name, self.place, self.call, shapes, cut, report.verdict, report.evidence, report.reason


@dataclass(frozen=True)
class SkippedRule:
    """A custom rule that was not checked, and why not."""

    name: str
    place: str
    reason: str


@dataclass(frozen=True)
class RulesReport:
    """The answer of `verify.rules`. rules: each once, in the order in which the step calls them.

    verdict: FAIL if one rule is wrong; INCONCLUSIVE if one is; else PASS.
    """

    title: str
    rules: tuple[CheckedRule, ...]
    skipped: tuple[SkippedRule, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)

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
        heading = ("rule", "written at", "called at", "shapes", "cut to", "verdict", "evidence", "reason")
        lines = [f"{self.verdict}  {self.title}: {counted}", "", *columns([heading, *(r.cells for r in self.rules)])]
        lines += [""] if self.skipped or self.notes else []
        for reason in dict.fromkeys(rule.reason for rule in self.skipped):
            names = [f"{rule.name} ({rule.place})" for rule in self.skipped if rule.reason == reason]
            lines.append(f"skipped    {', '.join(names)}: {reason}")
        lines += [f"note       {note}" for note in self.notes]
        for report in self.reports:
            lines += [] if report.ok else ["", str(report)]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, PyTree]:
        """Everything, of types that JSON has."""
        of_rule = ("name", "place", "call", "shapes", "cut")
        rules = [
            {name: plain(getattr(rule, name)) for name in of_rule} | {"report": rule.report.to_dict()}
            for rule in self.rules
        ]
        found = {name: plain(getattr(self, name)) for name in ("title", "verdict", "skipped", "notes", "seconds")}
        return found | {"rules": rules}


def shapes_words(shapes: Shapes) -> str:
    """'(512, 1024), (1024,)'; of more than four, the first three and how many there are."""
    words = [str(shape) for shape in shapes]
    return ", ".join(words if len(words) <= 4 else [*words[:3], f"… {len(words)} arrays"])
