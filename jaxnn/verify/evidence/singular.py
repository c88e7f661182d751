"""What is right at a point where numbers tie, or where the truth is not finite: what the points beside it say.

The one limit of the derivatives beside the point is the derivative, even where autodiff gives something else. If there
are several, any choice between them is right: in their hull, or unit by unit.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import flint
import numpy as np

from jaxnn.verify.arguments import Problem
from jaxnn.verify.arithmetic.balls import Balls, enter, finite, is_balls
from jaxnn.verify.arithmetic.decisions import Ties, Undecided, step_of
from jaxnn.verify.arithmetic.evaluation import PRECISIONS, Evaluation, Step, TooLarge
from jaxnn.verify.evidence import branches
from jaxnn.verify.evidence.branches import Side
from jaxnn.verify.evidence.comparison import Comparison, run
from jaxnn.verify.evidence.differences import is_kinked
from jaxnn.verify.evidence.judge import Judgement, judgements
from jaxnn.verify.evidence.kinks import Explained, choice, kinks
from jaxnn.verify.evidence.limits import Beside, Rays, Search, is_one
from jaxnn.verify.evidence.outcome import Check, Infinite, Judged, Outcome, entered
from jaxnn.verify.evidence.points import Draw
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS

SECONDS = 10.0  # of rays from the user's own point; a quarter of it from others
AT_ZERO = {"abs", "sign", "bessel_i0e", "bessel_i1e"}  # they have a corner where their argument is 0
AT_INTEGERS = {"floor", "ceil", "convert_element_type"}
REASONS = {
    Beside.JUMP: "the value jumps there, so that there is no derivative, and the point decides nothing",
    Beside.NO_LIMIT: "the derivatives beside the point have no limit",
    Beside.APART: "the rule is not between the derivatives beside the point, nor known to be a choice at each tie",
    Beside.UNTRIED: "the derivatives beside the point, or all choices at ties, cannot be tried",
}


def has_tie(problem: Problem, comparison: Comparison, ev: Evaluation, balls: list[Balls]) -> bool:
    """Whether the derivative of what `ev` has evaluated may jump here."""
    if comparison.differenced:
        return is_kinked(comparison.differenced, ev, balls, problem.arguments)
    asked = [balls[i] for i in problem.arguments.differentiated]
    numbers = branches.dependent(ev.steps, asked)
    tied = any(step_of(name) in numbers for name, _, _ in ev.ties.pairs.values())
    return tied or any(is_at_corner(ev.steps[n]) for n in numbers)


def is_at_corner(step: Step) -> bool:
    """Whether an entry is where a function of one number has a corner or a jump."""
    if not step.inputs or not is_balls(step.inputs[0]):
        return False
    x = step.inputs[0]
    if step.name in AT_ZERO:
        return any(v.is_zero() for v in x.flat)
    if step.name == "round":
        return any(v.is_exact() and (2 * v).is_integer() for v in x.flat)
    rounds = step.name in AT_INTEGERS and step.outputs[0] is not x
    return rounds and any(v.is_exact() and v.is_integer() for v in x.flat)


def at_tie(check: Check, decided: Judged, outcome: Outcome) -> Outcome | None:
    """The outcome where numbers tie; None if what was found stands. outcome: of the same point, without its verdict."""
    n, is_wrong = check.problem.derivatives, FAIL in decided.verdicts
    values_are_wrong = any(j.verdict == FAIL for j in decided.judged[n:])
    if INCONCLUSIVE in decided.verdicts or (n and values_are_wrong):
        return None
    if not all(map(finite, decided.hand)):
        return where_the_rule_is_infinite(check, outcome, decided.hand) if n and not is_given(outcome) else None
    if not n:
        return at_tie_of_values(check, decided, outcome) if is_wrong else None
    try:
        return by_limits(check, decided, outcome, search_at(check, decided.hand, outcome))
    except (TooLarge, Undecided):
        return without_derivative(outcome, Beside.UNTRIED) if is_wrong else None


def at_tie_of_values(check: Check, decided: Judged, outcome: Outcome) -> Outcome | None:
    """The same where two functions are compared, which may choose another side each."""
    explained, chosen = unit_by_unit(check, decided, outcome, None)
    return without_derivative(outcome, Beside.UNTRIED) if explained == Explained.TOO_MANY else chosen


def at_pole(check: Check, infinite: Infinite, outcome: Outcome) -> Outcome:
    """The outcome where the truth is not finite. At the user's own point a rule that is nan is wrong if the cost is
    finite, whatever the truth may be. outcome: of the same point, undefined."""
    n, hand = check.problem.derivatives, infinite.hand
    if not n or not is_defined(check, infinite, outcome):
        return outcome
    if all(map(finite, hand)):
        try:
            return by_limits(check, infinite, outcome, search_at(check, hand, outcome)) or outcome
        except (TooLarge, Undecided):
            return outcome
    if not is_given(outcome) or not any(np.isnan(v).any() for v in run(check.problem.claim, outcome.floats)):
        return outcome
    true = infinite.true
    try:
        search = search_at(check, zeros_like(hand), outcome)
        true = [*search.limits[0], *true[n:]] if search.around() == Beside.ONE else true
    except (TooLarge, Undecided):
        pass
    judged = judgements(hand, true, infinite.allowed)
    return replace(outcome, verdict=FAIL, reason="the hand rule is not finite", judged=judged, undefined=False)


def where_the_rule_is_infinite(check: Check, outcome: Outcome, hand: Sequence[Balls]) -> Outcome | None:
    """The outcome at a drawn point where a rule is not finite: the point decides nothing, and reaches no side, if the
    derivatives beside it have no limit either, as those of a guarded √x at 0."""
    try:
        beside = search_at(check, zeros_like(hand), outcome).around()
    except (TooLarge, Undecided):
        return None
    return without_derivative(replace(outcome, sides={}), beside) if beside == Beside.NO_LIMIT else None


def zeros_like(hand: Sequence[Balls]) -> list[Balls]:
    return [enter(np.zeros(v.shape)) for v in hand]


def is_given(outcome: Outcome) -> bool:
    """Whether the point is the user's own."""
    return outcome.kind.draw == Draw.GIVEN and outcome.kind.elsewhere is None


def is_defined(check: Check, infinite: Infinite, outcome: Outcome) -> bool:
    """Whether the forward pass is finite at the point."""
    problem, comparison, _, deadline = check
    if problem.scalar is None:
        return all(map(finite, infinite.true[problem.derivatives :]))
    ev = Evaluation(PRECISIONS[0], deadline=deadline)
    with flint.ctx.workprec(ev.precision):
        return all(map(finite, comparison.cost(problem)(ev, entered(ev, outcome.floats, problem))))


def search_at(check: Check, hand: Sequence[Balls], outcome: Outcome) -> Search:
    """The search for what lies beside the point."""
    deadline = min(check.deadline, time.process_time() + (SECONDS if is_given(outcome) else SECONDS / 4))
    rays = Rays(check.problem, check.comparison, outcome.floats, deadline)
    return Search(rays, hand[: check.problem.derivatives])


def by_limits(check: Check, found: Judged | Infinite, outcome: Outcome, search: Search) -> Outcome | None:
    """What the derivatives beside the point say of the rule: mixed rays first, then rays that are aimed at it. None if
    they say nothing, and autodiff agrees with it."""
    for look in (search.around, search.aim):
        beside = look()
        if beside == Beside.ONE:
            settled = by_one_limit(check, found, outcome, search)
            if settled.verdict == PASS:
                return settled
        elif beside == Beside.SEVERAL:
            return between(check, found, outcome, search)
        elif beside == Beside.APART:
            explained, chosen = unit_by_unit(check, found, outcome, search)
            if chosen:
                return chosen
            if look == search.aim and explained == Explained.TOO_MANY:
                return without_derivative(outcome, beside)
        elif look == search.around and beside == Beside.UNTRIED and isinstance(found, Judged) and found.is_right:
            return None
        else:
            return without_derivative(outcome, beside)
    return by_one_limit(check, found, outcome, search)


def by_one_limit(check: Check, found: Judged | Infinite, outcome: Outcome, search: Search) -> Outcome:
    """The rule against the one limit or, of several, the nearest point between them."""
    n = check.problem.derivatives
    judged = judgements(found.hand, [*search.nearest(), *found.true[n:]], found.allowed)
    verdict = FAIL if any(j.verdict == FAIL for j in judged) else PASS
    same = bool(check.comparison.differenced) or agrees(found.true[:n], search)
    note = f"{outcome.kind}: autodiff is not the derivative here; the limit of the derivatives beside the point is"
    notes = () if same or len(search.limits) > 1 else (note,)
    outcome = replace(seen(outcome, search), verdict=verdict, reason="", judged=judged)
    return replace(outcome, notes=notes, undefined=False, blind=False, by_limit=True)


def between(check: Check, found: Judged | Infinite, outcome: Outcome, search: Search) -> Outcome:
    """The outcome of a rule that is between the limits."""
    n = check.problem.derivatives
    judged = judgements(found.hand, [*found.hand[:n], *found.true[n:]], found.allowed)
    words = f"the derivatives beside it have {len(search.limits)} limits, and the rule lies between them"
    return right(seen(outcome, search), judged, f"at a kink, {words}")


def unit_by_unit(
    check: Check, found: Judged | Infinite, outcome: Outcome, search: Search | None
) -> tuple[Explained, Outcome | None]:
    """(whether a rule makes a choice at each tie, the outcome if it does). A choice that gives an entry on which all
    limits agree another value is wrong. Where the truth is that of differences, no choice can be tried."""
    problem, comparison, _, deadline = check
    if search and not search.keeps_what_is_settled:
        return Explained.WRONG, None
    if comparison.differenced:
        return Explained.TOO_MANY, None
    if isinstance(found, Infinite):
        return Explained.WRONG, None
    ev, asked = found.ev, [found.balls[i] for i in problem.arguments.differentiated]
    names = kinks(found.ties, ev.steps, branches.dependent(ev.steps, asked))
    if not names:
        return Explained.WRONG, None

    def truth(ties: Ties) -> list[Balls]:
        other = Evaluation(ev.precision, ev.rounded, ties, deadline)
        return comparison.truth(other, entered(other, outcome.floats, problem))

    explained, words = choice(found.hand, found.true, truth, names, -math.log10(found.allowed.width))
    if explained != Explained.RIGHT:
        return explained, None
    judged = judgements(found.hand, found.hand, found.allowed)
    return explained, right(seen(outcome, search) if search else outcome, judged, words)


def right(outcome: Outcome, judged: tuple[Judgement, ...], words: str) -> Outcome:
    """The outcome of a rule whose derivative is right here: FAIL only if a value is not."""
    verdict, notes = FAIL if any(j.verdict == FAIL for j in judged) else PASS, (f"{outcome.kind}: {words}",)
    return replace(outcome, verdict=verdict, reason="", judged=judged, notes=notes, undefined=False, blind=False)


def without_derivative(outcome: Outcome, beside: Beside) -> Outcome:
    """The outcome of a point at which nothing is decided. At a jump, not even the user's own point asks for more."""
    judged = tuple(j._replace(verdict=INCONCLUSIVE) if j.verdict == FAIL else j for j in outcome.judged)
    jump, words = beside == Beside.JUMP, REASONS[beside]
    fields = replace(outcome, verdict=INCONCLUSIVE, reason=words, judged=judged, jump=jump, undefined=False)
    return replace(fields, notes=(f"{outcome.kind}: {words}",))


def seen(outcome: Outcome, search: Search) -> Outcome:
    """The outcome, with the directions in which the point was left, if that were not all."""
    if search.is_whole:
        return outcome
    return replace(outcome, sides={**outcome.sides, (f"the {outcome.kind} point", "direction"): {Side("opposite")}})


def agrees(true: Sequence[Balls], search: Search) -> bool:
    """Whether autodiff gives the limit."""
    return all(map(finite, true)) and is_one(list(true), search.limits[0])
