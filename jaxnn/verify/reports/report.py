"""What a verification found: a verdict, the evidence for it, and where a wrong formula is wrong."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from jaxnn.verify.reports.findings import (
    FAIL,
    PASS,
    Branch,
    Cause,
    Grade,
    Leaf,
    Link,
    Point,
    Power,
    Survivor,
    Witness,
    shown,
    witness_words,
)


@dataclass(frozen=True)
class Report:
    """The answer of `jaxnn.verify`; printed, it is what a person wants to know, most important first.

    verdict: PASS, FAIL or INCONCLUSIVE; reason: one sentence; evidence: 'exact' (ball arithmetic, proven at the
    points), 'float64' or 'dtype' (a black box, in the dtype in which it runs); digits: decimal digits to which every
    leaf agrees at every decided point; replay: the call that repeats it.
    """

    title: str
    verdict: str
    reason: str
    evidence: str
    digits: float
    leaves: tuple[Leaf, ...]
    points: tuple[Point, ...] = ()
    branches: tuple[Branch, ...] = ()
    witnesses: tuple[Witness, ...] = ()
    notes: tuple[str, ...] = ()
    replay: str = ""
    seconds: float = 0.0
    grade: Callable[..., tuple[Grade, ...]] = field(default=tuple, repr=False, compare=False)
    trail: Callable[..., tuple[Link, ...]] = field(default=tuple, repr=False, compare=False)
    diagnose: Callable[..., tuple[Cause, ...]] = field(default=tuple, repr=False, compare=False)
    measure: Callable[..., Power | None] = field(default=lambda: None, repr=False, compare=False)

    @property
    def ok(self):
        return self.verdict == PASS

    @property
    def unseen(self):
        """Sides of branches that no point reached: of these, nothing is known."""
        return tuple(f"{b.kind} at {b.place}: {side}" for b in self.branches if not b.special for side in b.unseen)

    @functools.cached_property
    def precision(self):
        """How accurate the rule is in float32, bfloat16 and float64, beside `jax.grad`: a `Grade` for each leaf. It is
        measured when it is first asked for: that compiles both in every dtype."""
        return self.grade()

    @functools.cached_property
    def links(self):
        """A `Link` for every named value of the backward pass and every leaf, in the order of the backward pass; ()
        where the rule is right, or names nothing."""
        return self.trail()

    @property
    def first_wrong(self):
        """The name of the first wrong link, None if there is none."""
        return next((link.name for link in self.links if link.verdict == FAIL and not link.inherited), None)

    @functools.cached_property
    def causes(self):
        """`Cause`s that explain a wrong gradient, likeliest first. Looked for when they are first asked for."""
        return self.diagnose()

    def power(self):
        """The `Power` of this check: which changes of the rule it would have noticed; None where it is not traced
        or wrong."""
        return self.measured

    @functools.cached_property
    def measured(self):
        return self.measure()

    @property
    def has_power(self):
        """Whether the power was asked for, and could be measured."""
        return vars(self).get("measured") is not None

    def __str__(self):
        lines = [f"{self.verdict}  {self.title}: {self.reason}", "", *leaf_lines(self.leaves), ""]
        lines += [
            f"evidence   {self.evidence}{f', {shown(self.digits)} digits' if self.ok else ''}; "
            f"points: {', '.join(point_name(p) for p in self.points)}"
        ]
        lines += [f"where      {trail_words(self.links, self.first_wrong)}"] if self.first_wrong else []
        lines += [
            f"cause      {c.sentence} ({c.leaf}: to {shown(c.digits)} digits) To mend it: {c.fix}." for c in self.causes
        ]
        lines += [f"witness    {w.name}: {witness_words(w)}" for w in self.witnesses]
        lines += [f"branch     {b}" for b in self.branches if not b.special]
        lines += [f"unseen     {side}" for side in self.unseen]
        lines += [f"note       {note}" for note in self.notes]
        lines += [f"power      {line}" for line in str(self.measured).splitlines()] if self.has_power else []
        if self.ok:  # a wrong formula has no accuracy
            lines += [f"precision  {line}" for line in precision_lines(self.precision)]
        lines += [f"replay     {self.replay}"] if self.replay else []
        return "\n".join(lines)

    def to_dict(self):
        """Everything but the entry-wise errors, of types that JSON has; what is not finite is a string."""
        return {
            **{k: getattr(self, k) for k in ("title", "verdict", "reason", "evidence", "replay", "seconds")},
            "digits": plain(self.digits),
            **{
                k: [plain(vars(v)) for v in getattr(self, k)]
                for k in ("leaves", "points", "branches", "witnesses", "links", "causes")
            },
            "first_wrong": self.first_wrong,
            "unseen": list(self.unseen),
            "notes": list(self.notes),
            "power": plain(vars(self.measured)) if self.has_power else None,
            "precision": [plain(vars(g)) for g in self.precision],
        }

    def to_html(self):
        """One self-contained page, with a heat map of the entry-wise error of every leaf."""
        from jaxnn.verify.reports.page import page

        return page([self])


def plain(v):
    """Of types that JSON has."""
    if isinstance(v, dict):
        return {k: plain(x) for k, x in v.items() if k != "errors"}
    if isinstance(v, tuple):
        return [plain(x) for x in v]
    if isinstance(v, Survivor):
        return vars(v)
    if isinstance(v, float) and not math.isfinite(v):
        return str(v)
    return v.item() if isinstance(v, np.generic) else v


def point_name(point):
    return (
        point.kind
        if point.verdict == PASS
        else f"{point.kind} ({point.verdict}{': ' * bool(point.reason)}{point.reason})"
    )


def trail_words(links, first):
    """'first wrong at dz1; W1, b1 inherit it; W2, b2 are right'."""
    parts = [f"first wrong at {first}"]
    for wanted, verb in (((FAIL, False), "wrong too"), ((FAIL, True), "inherit it"), ((PASS, False), "right")):
        names = [link.name for link in links if (link.verdict, link.inherited) == wanted and link.name != first]
        if names:
            also = verb if verb == "inherit it" and len(names) > 1 else f"{'is' if len(names) == 1 else 'are'} {verb}"
            parts.append(f"{', '.join(names)} {'inherits it' if verb == 'inherit it' and len(names) == 1 else also}")
    return "; ".join(parts)


def leaf_lines(leaves):
    if not leaves:
        return []
    rows = [("leaf", "verdict", "digits", "worst entry", "by hand", "true")]
    rows += [
        (leaf.path, leaf.verdict, shown(leaf.digits), str(list(leaf.index)), f"{leaf.hand:.9g}", f"{leaf.true:.9g}")
        for leaf in leaves
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def precision_lines(grades):
    """The least accurate leaf of each dtype."""
    for dtype in dict.fromkeys(g.dtype for g in grades):
        g = min((g for g in grades if g.dtype == dtype), key=lambda g: g.hand_digits)
        yield (
            f"{dtype}: hand {shown(g.hand_digits)} digits ({g.hand_ulps:.3g} ulps), "
            f"jax.grad {shown(g.autodiff_digits)} ({g.autodiff_ulps:.3g} ulps), least in {g.path}"
        )
