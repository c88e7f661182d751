"""Whether a kernel's result depends on the order in which the steps of its grid are run."""

from collections.abc import Sequence
from dataclasses import replace

import flint

from jaxnn.verify.arithmetic.balls import Balls
from jaxnn.verify.arithmetic.decisions import Undecided
from jaxnn.verify.arithmetic.evaluation import Evaluation, TooLarge
from jaxnn.verify.arithmetic.kernels import Order
from jaxnn.verify.evidence.outcome import Check, Outcome, entered
from jaxnn.verify.reports.findings import FAIL

PRECISION = 400


def in_other_orders(check: Check, outcome: Outcome) -> Outcome:
    """The outcome of a right rule with kernels, their grids run from the end too: FAIL if the result is then another
    though the device may run them so, and a note if the device may not. A GPU runs a grid in any order; a TPU does on
    the axes called parallel, and runs the others in order."""
    try:
        forwards = sides(check, outcome, Order.FORWARDS)
        if same(sides(check, outcome, Order.BACKWARDS), forwards):
            return outcome
        if same(sides(check, outcome, Order.FREE_BACKWARDS), forwards):
            note = "the result depends on the order of a kernel's grid: a TPU keeps it, a GPU does not"
            return replace(outcome, notes=(*outcome.notes, note))
    except (Undecided, TooLarge):
        return outcome
    reason = "the result depends on the order of a kernel's grid, which its device may run in any order"
    return replace(outcome, verdict=FAIL, reason=reason, judged=())


def sides(check: Check, outcome: Outcome, order: Order) -> list[Balls]:
    """Both sides and the cost at the outcome's point, with the grids in this order."""
    comparison = check.comparison
    ev = Evaluation(PRECISION, outcome.rounded, deadline=check.deadline, order=order)
    balls = entered(ev, outcome.floats, check.problem)
    assert comparison.claim is not None, "a black box is not evaluated in balls"
    with flint.ctx.workprec(PRECISION):
        leaves = [*comparison.claim(ev, balls), *comparison.truth(ev, balls)]
        if comparison.scalar_jaxpr is not None:
            leaves += ev(comparison.scalar_jaxpr, [balls[i] for i in comparison.free(check.problem)])
    return leaves


def same(ours: Sequence[Balls], true: Sequence[Balls]) -> bool:
    """Whether no entry differs; one that is not finite, as what nobody wrote, differs from a number."""
    for a, b in zip(ours, true, strict=True):
        pairs = zip(a.flat, b.flat, strict=True)
        if any(x.is_finite() != y.is_finite() or not x.overlaps(y) for x, y in pairs):
            return False
    return True
