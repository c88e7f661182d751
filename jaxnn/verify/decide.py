"""From two functions and some points to a verdict."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.protocols import PyTree
from jaxnn.verify.arguments import Problem
from jaxnn.verify.arithmetic.decisions import Undecided
from jaxnn.verify.arithmetic.evaluation import TooLarge
from jaxnn.verify.diagnosis.causes import causes
from jaxnn.verify.evidence import beyond, branches, witnesses
from jaxnn.verify.evidence.at_point import at_point
from jaxnn.verify.evidence.branches import Sides
from jaxnn.verify.evidence.comparison import Comparison, check_steady, comparison_of
from jaxnn.verify.evidence.guards import left_out
from jaxnn.verify.evidence.judge import State
from jaxnn.verify.evidence.outcome import ROUNDINGS, Check, Iterations, Outcome, Rounded
from jaxnn.verify.evidence.points import GENERIC, GIVEN, REDRAWN, WIDE, Draw, Kind, redraw, seed_of
from jaxnn.verify.evidence.witnesses import Testimony
from jaxnn.verify.links import links, unlinked
from jaxnn.verify.notes import beside_domain, constants, equal_sizes, hints, rounding_notes
from jaxnn.verify.options import Options
from jaxnn.verify.power import power
from jaxnn.verify.precision import grades
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS, Branch, Evidence, Leaf, Point, Verdict
from jaxnn.verify.reports.later import Questions
from jaxnn.verify.reports.report import Report
from jaxnn.verify.reports.words import differs, shown

SECONDS = 30.0  # of exact arithmetic; what is left then is decided in floating point
NEARER = (1.0, 1 / 8, 1 / 64)  # of a point that is drawn again: how far it is from the given one
SLOWER = 8  # times as long as the first point, at most, a point may take
LATEST = 40.0  # after so many seconds no other point is visited, and no witness asked
DRAWN = 3  # other arguments, where the user draws them
ProblemOf = Callable[[tuple[PyTree, ...]], Problem]  # the problem at other arguments


def decide(
    problem: Problem,
    options: Options,
    replay: str,
    problem_of: ProblemOf,
    args: tuple[PyTree, ...],
    others: Sequence[tuple[PyTree, ...]],
) -> Report:
    """The `Report` on a problem, problem_of(args); on the same at other arguments, `others`; and at drawn args."""

    def case_of(problem: Problem, args: tuple[PyTree, ...]) -> Case:
        return Case(problem, comparison_of(problem), args)

    points, given = Points(options), case_of(problem, args)
    check_steady(problem, given.comparison)
    points.visit(GIVEN, given)
    if options.points == "auto":
        for kind in kinds_for(problem):
            points.visit(kind, given)
        for other in () if points.wrong else others:
            points.visit(Kind(Draw.GENERIC, elsewhere="one example"), case_of(problem_of(other), other))
        if options.draw:
            for i in range(DRAWN):
                if points.wrong:
                    break
                new = options.draw(jax.random.key(int(points.rng.integers(2**31))))
                drawn = case_of(problem_of(new), new)
                points.visit(Kind(Draw.GIVEN, elsewhere=f"drawn {i + 1}"), drawn)
                points.visit(Kind(Draw.GENERIC, elsewhere=f"drawn {i + 1} (redrawn)"), drawn)
        for kind in WIDE if problem.redrawable else ():
            if points.has_unseen and points.seconds < SECONDS / 2:
                points.visit(kind, given)
    return report(given, points, replay, problem_of)


def kinds_for(problem: Problem) -> Sequence[Kind]:
    """The kinds of points beside the given one: where cotangents alone are drawn, one is enough."""
    if problem.redrawable:
        return REDRAWN
    return (GENERIC,) if problem.cotangents else ()


class Case(NamedTuple):
    """A problem, how its sides are compared, and the arguments that it was made of."""

    problem: Problem
    comparison: Comparison
    args: tuple[PyTree, ...]


class Points:
    """The outcomes at the points that were visited; after a FAIL no other point is."""

    def __init__(self, options: Options):
        self.options = options
        self.start = time.process_time()
        self.rng = np.random.default_rng(seed_of(options.key))
        self.first = 0.0  # seconds until the first of them
        self.outcomes: list[Outcome] = []
        self.wrong_case: Case | None = None  # in which the outcome is FAIL
        self.roundings: Sequence[Rounded] = ROUNDINGS

    @property
    def seconds(self) -> float:
        """How long this process has computed since: a busy machine changes no verdict."""
        return time.process_time() - self.start

    @property
    def wrong(self) -> Outcome | None:
        """The outcome whose verdict is FAIL, if any."""
        return next((o for o in self.outcomes if o.verdict == FAIL), None)

    @property
    def has_unseen(self) -> bool:
        """Whether a side of a branch was met by no point."""
        return any(b.unseen for b in branches.table(sides_seen(self.outcomes)) if not b.special)

    def visit(self, kind: Kind, case: Case) -> None:
        """Adds the outcome at this kind of point or, where the formula is not defined, closer to what was given."""
        if self.wrong or (self.outcomes and self.seconds > LATEST):
            return
        # A loop may have no end where it is drawn.
        longest = SLOWER * max(1.0, self.first) if self.outcomes else SECONDS
        deadline = min(self.seconds + longest, SECONDS)
        check = Check(case.problem, case.comparison, self.options, self.start + deadline)
        outcome = self.within_reach(self.outcome_at(kind, check))
        if outcome.verdict == FAIL and kind.draw != Draw.GIVEN:
            outcome = self.where_it_was_written_for(outcome, check)
        for scale in NEARER if kind.draw != Draw.GIVEN else ():
            if outcome.undefined:
                outcome = self.within_reach(self.outcome_at(Kind(Draw.NEAR, scale, kind.elsewhere), check))
        self.first = self.first or self.seconds
        self.outcomes.append(outcome)
        if outcome.verdict == FAIL:
            self.wrong_case = case
        # Constants that are rounded at one point are rounded at all: exact ones need not be tried again.
        if outcome.verdict == PASS and outcome.rounded:
            self.roundings = ROUNDINGS[1:]

    def where_it_was_written_for(self, wrong: Outcome, check: Check) -> Outcome:
        """The outcome at a point like this one, before a pole or, if the rule is not finite, nearer to the given one.
        The wrong one if the rule is right at none of these, or if the forward pass has a branch for what was drawn."""
        passed = [o for o in self.outcomes if o.verdict == PASS]
        if not passed or wrong.evidence == Evidence.DTYPE:
            return wrong
        for why, other in self.instead(wrong, check):
            if other.verdict == FAIL and not beyond.is_without_value(other):
                return other
            sides = sides_seen([*passed, other])
            if other.verdict == PASS and not beyond.is_taken_care_of(wrong, sides, check.comparison):
                return replace(other, notes=(*other.notes, f"{wrong.kind}: {why}"))
        return wrong

    def instead(self, wrong: Outcome, check: Check) -> Iterator[tuple[str, Outcome]]:
        """(why, the outcome at another point) of points that may take the place of a wrong one."""
        before = beyond.before_poles(check, wrong.floats)
        if before:
            why = "the rule is another beyond a pole: drawn again, with the signs that were given"
            yield why, at_point(wrong.kind, check, before, self.roundings)
        elif beyond.is_without_value(wrong):
            why = "the rule is not finite, though the derivative is: drawn again, nearer to the given point"
            for scale in NEARER:
                near = Kind(Draw.NEAR, scale, wrong.kind.elsewhere)
                yield why, self.within_reach(self.outcome_at(near, check))

    def within_reach(self, outcome: Outcome) -> Outcome:
        """The outcome; undefined where iterations of which a point before this one tells more do not converge, or not
        in the time there is, or where no steps are seen in their values: a bracket without a root ends at an end."""
        before = {o.iterations for o in self.outcomes} - {None}
        if outcome.verdict == PASS or not before:
            return outcome
        if outcome.iterations in (Iterations.DO_NOT_CONVERGE, Iterations.UNKNOWN):
            reason = "the iterations do not converge, as far as is seen"
            return replace(outcome, verdict=INCONCLUSIVE, reason=reason, undefined=True)
        if outcome.iterations == Iterations.CONVERGE and Iterations.BY_VALUES in before:
            reason = "the values go in steps elsewhere, and none is seen here: a bracket may hold no root"
            return replace(outcome, verdict=INCONCLUSIVE, reason=reason, undefined=True)
        return outcome

    def outcome_at(self, kind: Kind, check: Check) -> Outcome:
        """The outcome at a point of this kind, newly drawn."""
        problem, arguments = check.problem, check.problem.arguments
        dtypes = [v.dtype for v in arguments.floats] if check.comparison.numpy else arguments.dtypes
        floats = redraw(
            kind, arguments.floats, dtypes, problem.redrawable, problem.cotangents, self.rng, problem.domains
        )
        return at_point(kind, check, floats, self.roundings)


def sides_seen(outcomes: Sequence[Outcome]) -> Sides:
    """The sides that these outcomes saw. Zeros are left out: 0 is on a side, but it is no generic point of it."""
    sides: Sides = defaultdict(set)
    for outcome in outcomes:
        for site, seen in outcome.sides.items() if outcome.kind.draw != Draw.ZEROS else ():
            sides[site] |= seen
    return sides


class Decision(NamedTuple):
    """The verdict, and why: a whole sentence, except for a PASS."""

    verdict: Verdict
    reason: str


def decision(
    outcomes: Sequence[Outcome], table: Sequence[Branch], leaves: Sequence[Leaf], strict: bool, autodiff_is_wrong: bool
) -> Decision:
    """The verdict over all points.

    FAIL at one point. INCONCLUSIVE if no point is PASS, or the given one is undecided though the value does not jump
    there; if the derivative is 0, or an entry's terms cancel, at every point; if a side of a branch was seen by an
    undecided point alone; if `strict` misses a side; if autodiff is not the derivative. Else PASS.
    """
    wrong = next((o for o in outcomes if o.verdict == FAIL), None)
    if wrong:
        why = why_wrong(leaves, str(wrong.kind)) if wrong.judged else f"{wrong.reason}, at the {wrong.kind} point."
        return Decision(FAIL, why)
    passed, open_ = ([o for o in outcomes if o.verdict == v] for v in (PASS, INCONCLUSIVE))
    if not passed:
        return Decision(INCONCLUSIVE, f"{open_[0].reason}.")
    if outcomes[0] in open_ and outcomes[0].kind == GIVEN and not outcomes[0].jump:
        return Decision(INCONCLUSIVE, f"at the given point, {outcomes[0].reason}.")
    if all(o.blind for o in passed):
        return Decision(INCONCLUSIVE, "the derivative is 0 at every point, as if all were saturated.")
    hidden = next(cancelled(passed, leaves), None)
    if hidden:
        return Decision(INCONCLUSIVE, f"the terms of {hidden} cancel at every point: no digit is shown.")
    settled = sides_seen(passed)
    for o in open_:
        if not o.jump and any(seen - settled[site] for site, seen in o.sides.items()):
            return Decision(INCONCLUSIVE, f"at the {o.kind} point, {o.reason}.")
    left = [b for b in table if b.unseen and not b.special]
    if strict and left:
        place = f"{left[0].unseen[0]} of {left[0].kind} at {left[0].place}"
        return Decision(INCONCLUSIVE, f"no point reached {place}, as strict=True asks.")
    if autodiff_is_wrong:
        return Decision(INCONCLUSIVE, "the witnesses disagree.")
    digits, n = min(o.digits for o in passed), len(passed)
    agree = "all" if digits == math.inf else shown(digits)
    return Decision(PASS, f"right, {agree} digits agree at {n} point{'s' if n > 1 else ''}")


def cancelled(outcomes: Sequence[Outcome], leaves: Sequence[Leaf]) -> Iterator[str]:
    """The entries that are neither right nor wrong, because their terms cancel, at every point; those that may be 0 on
    both sides at every point are right."""
    for k, leaf in enumerate(leaves):
        known = [states for o in outcomes if o.judged and (states := o.judged[k].states) is not None]
        states = np.stack([s for s in known if s.shape == known[0].shape]) if known else np.zeros(0)
        hidden = (states == State.CANCELLED).any(0) & ~(states == State.RIGHT).any(0)
        yield from (f"{leaf.path}{list(map(int, index))}" for index in np.argwhere(hidden))


def report(given: Case, points: Points, replay: str, problem_of: ProblemOf) -> Report:
    """What the points say. What is asked of a wrong outcome is asked of the case that it is of."""
    outcomes, wrong, options = points.outcomes, points.wrong, points.options
    problem, comparison, args = points.wrong_case or given
    leaves, table = leaves_of(problem, outcomes), branches.table(sides_seen(outcomes))
    testimony = testimony_on(problem, comparison, points)
    verdict, reason = decision(outcomes, table, leaves, options.strict, testimony.autodiff_is_wrong)
    notes = [*problem.notes, *([str(given.comparison.way)] if given.comparison.way else [])]
    notes += [*chain.from_iterable(o.notes for o in outcomes), *rounding_notes(outcomes)]
    notes += testimony.sentences if verdict == PASS else ()
    notes += [*hints(given.problem, outcomes, wrong), *equal_sizes(given.problem)]
    if wrong:
        notes += [*unlinked(comparison), *left_out(comparison, wrong)]
        notes += [*beside_domain(problem, wrong, options), *constants(problem, wrong)]
    case, seed = (problem, comparison), seed_of(options.key)
    grade = partial(grades, given.problem, given.comparison, outcomes)
    if wrong and wrong.judged:
        diagnose = partial(causes, *case, wrong, problem_of, args, seed)
        later = Questions(grade=grade, trail=partial(links, *case, wrong), diagnose=diagnose)
    elif verdict == PASS:
        later = Questions(grade=grade, measure=partial(power, *case, outcomes, seed))
    else:
        later = Questions(grade=grade)
    evidences = {o.evidence for o in outcomes}
    return Report(
        title=problem.title,
        verdict=verdict,
        reason=reason if verdict == PASS else " ".join([reason, *testimony.sentences]),
        evidence=next((e for e in (Evidence.DTYPE, Evidence.FLOAT64) if e in evidences), Evidence.EXACT),
        digits=min((o.digits for o in outcomes if o.verdict == verdict), default=math.nan),
        leaves=leaves,
        points=tuple(Point(str(o.kind), o.verdict, o.reason, o.digits) for o in outcomes),
        branches=table,
        witnesses=testimony.witnesses,
        notes=tuple(dict.fromkeys(notes)),
        replay=replay,
        seconds=points.seconds,
        later=later,
    )


def testimony_on(problem: Problem, comparison: Comparison, points: Points) -> Testimony:
    """The other witnesses where the rule is wrong, else at a generic point; by then most of the time may be spent."""
    at_generic = next((o for o in points.outcomes if o.kind == GENERIC and o.judged), points.outcomes[0])
    outcome = points.wrong or at_generic
    if outcome.evidence != Evidence.EXACT or not outcome.judged:
        return Testimony()
    directions, deadline = 1 if points.wrong or points.seconds > 3 else 3, points.start + LATEST
    try:
        return witnesses.testimony(problem, comparison, outcome, points.options, directions, deadline)
    except (TooLarge, Undecided):
        return Testimony()


def why_wrong(leaves: Sequence[Leaf], point: str) -> str:
    """Which leaf is wrong at this point, and by how much."""
    worst, *others = sorted((leaf for leaf in leaves if leaf.verdict == FAIL), key=lambda leaf: leaf.digits)
    more = f" ({', '.join(leaf.path for leaf in others)} too)" if others else ""
    how = f"differs {differs(worst.digits)}" if math.isfinite(worst.hand) else "is not finite"
    return f"{worst.path} {how}{more}, at the {point} point."


def leaves_of(problem: Problem, outcomes: Sequence[Outcome]) -> tuple[Leaf, ...]:
    """Each leaf where it agrees least: at the first point that is wrong, else at the least accurate one."""
    order = {FAIL: 0, INCONCLUSIVE: 1, PASS: 2}
    judged = [o for o in outcomes if o.judged]
    leaves = []
    for k, path in enumerate(problem.paths):
        decided = any(o.judged[k].verdict == PASS for o in judged)
        candidates = [o for o in judged if not (decided and o.judged[k].verdict == INCONCLUSIVE)]
        if candidates:
            o = min(candidates, key=lambda o: (order[o.judged[k].verdict], o.judged[k].digits))
            j = o.judged[k]
            leaves.append(
                Leaf(
                    path=path,
                    verdict=j.verdict,
                    digits=j.digits,
                    index=j.at,
                    hand=j.hand,
                    true=j.true,
                    point=str(o.kind),
                    errors=j.errors,
                )
            )
    return tuple(leaves)
