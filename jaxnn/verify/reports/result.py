"""All that a verification found, as data: the findings, and what is answered later."""

import math
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import chain

import numpy as np

from jaxnn.protocols import PyTree
from jaxnn.verify.reports.findings import (
    FAIL,
    PASS,
    Branch,
    Cause,
    Evidence,
    Grade,
    Leaf,
    Link,
    Point,
    Power,
    Verdict,
    Witness,
)
from jaxnn.verify.reports.later import Answers, Questions

NOT_COMPARED = ("seconds", "later")


@dataclass(frozen=True, eq=False)
class Result:
    """verdict: PASS, FAIL or INCONCLUSIVE; reason: one sentence; evidence: 'exact' (ball arithmetic, proven at the
    points), 'float64' or 'dtype' (a black box, in the dtype in which it runs); digits: decimal digits to which every
    leaf agrees at every decided point; replay: the call that repeats it; later: what is answered when it is asked.

    Plain data, except `later`: results with the same findings are equal, and one that was pickled has its answers.
    """

    title: str
    verdict: Verdict
    reason: str
    evidence: Evidence
    digits: float
    leaves: tuple[Leaf, ...]
    points: tuple[Point, ...] = ()
    branches: tuple[Branch, ...] = ()
    witnesses: tuple[Witness, ...] = ()
    notes: tuple[str, ...] = ()
    replay: str = ""
    seconds: float = 0.0
    later: Questions | Answers = field(default=Answers(), repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Result):
            return NotImplemented
        names = [f.name for f in fields(self) if f.name not in NOT_COMPARED]
        return all(plain(getattr(self, name)) == plain(getattr(other, name)) for name in names)

    def __hash__(self) -> int:
        return hash((self.title, self.verdict, self.reason))

    @property
    def ok(self) -> bool:
        return self.verdict == PASS

    @property
    def unseen(self) -> tuple[str, ...]:
        """Sides of branches that no point reached: of these, nothing is known."""
        return tuple(chain.from_iterable(unseen_lines(branch) for branch in self.branches if not branch.special))

    @property
    def precision(self) -> tuple[Grade, ...]:
        """How accurate the rule is in float32, bfloat16 and float64, beside `jax.grad`: a `Grade` for each leaf. It is
        measured when it is first asked for: that compiles both in every dtype."""
        return self.later.precision

    @property
    def links(self) -> tuple[Link, ...]:
        """A `Link` for every named value of the backward pass and every leaf, in the order of the backward pass; () if
        the rule is right, or names nothing."""
        return self.later.links

    @property
    def first_wrong(self) -> str | None:
        """The name of the first wrong link, None if there is none."""
        return next((link.name for link in self.links if link.verdict == FAIL and not link.inherited), None)

    @property
    def causes(self) -> tuple[Cause, ...]:
        """`Cause`s that explain a wrong gradient, likeliest first. Looked for when they are first asked for."""
        return self.later.causes

    def power(self) -> Power | None:
        """The `Power` of this check: which changes of the rule it would have noticed; None for a rule that is wrong or
        cannot be traced."""
        return self.later.power

    @property
    def has_power(self) -> bool:
        """Whether the power was asked for, and could be measured."""
        return self.later.has_power


def plain(v: PyTree) -> PyTree:
    """Of types that JSON has: a finding as a dict of its fields, except the entry-wise errors."""
    if is_dataclass(v):
        return {f.name: plain(getattr(v, f.name)) for f in fields(v) if f.name != "errors"}
    if isinstance(v, tuple):
        return [plain(x) for x in v]
    if isinstance(v, float) and not math.isfinite(v):
        return str(v)
    return v.item() if isinstance(v, np.generic) else v


def unseen_lines(branch: Branch) -> list[str]:
    return [f"{branch.kind} at {branch.place}: {side}" for side in branch.unseen]
