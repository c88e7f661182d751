"""What is found at one point, by the best evidence that can be had: balls, else floating point."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jaxnn.verify.arithmetic.decisions import Endless, Unsupported
from jaxnn.verify.arithmetic.evaluation import TooLarge
from jaxnn.verify.evidence.by_balls import outcome_by_balls
from jaxnn.verify.evidence.convergence import in_the_limit, iterates, jumps, of_steps_alone
from jaxnn.verify.evidence.floating import black_box, in_floats, where_balls_are_infinite
from jaxnn.verify.evidence.grid_order import in_other_orders
from jaxnn.verify.evidence.outcome import Check, Iterations, Outcome, Rounded
from jaxnn.verify.evidence.points import GIVEN, Kind
from jaxnn.verify.evidence.stairs import by_wide_steps, off_stairs
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS, Evidence

ROUNDING = 4  # digits: what differs earlier differs by more than any rounding


def at_point(kind: Kind, check: Check, floats: Sequence[np.ndarray], roundings: Sequence[Rounded]) -> Outcome:
    """The `Outcome` at these values of the float leaves; of iterations in floats, by differences that are wide."""
    outcome = best_outcome(kind, check, floats, roundings)
    in_floats = outcome.evidence != Evidence.EXACT and outcome.iterations is None
    return by_wide_steps(outcome, check) if in_floats and jumps(check.comparison) else outcome


def best_outcome(kind: Kind, check: Check, floats: Sequence[np.ndarray], roundings: Sequence[Rounded]) -> Outcome:
    """The `Outcome` by balls if that can be, else in floating point."""
    if check.comparison.claim is None:
        return black_box(kind, check, floats)
    if time.process_time() > check.deadline:
        return in_floats(kind, check, floats, "no time is left for exact arithmetic")
    try:
        outcome = by_balls(kind, check, floats, roundings)
        if outcome.undefined:
            return where_balls_are_infinite(outcome, check)
        if not outcome.judged and outcome.verdict == INCONCLUSIVE and jumps(check.comparison):
            return in_floats(kind, check, floats, outcome.reason)  # where a line search divides 0 by 0
        ordered = outcome.verdict == PASS and kind == GIVEN and check.comparison.has_kernel
        return in_other_orders(check, outcome) if ordered else outcome
    except Endless as error:  # in floats it would not end at all
        return Outcome(kind, INCONCLUSIVE, f"{error} does not end", floats=tuple(floats), undefined=True)
    except Unsupported as error:
        return in_floats(kind, check, floats, f"it cannot be evaluated exactly ({error})")
    except TooLarge as error:
        return in_floats(kind, check, floats, f"it is too large to be evaluated exactly ({error})")


def by_balls(kind: Kind, check: Check, floats: Sequence[np.ndarray], roundings: Sequence[Rounded]) -> Outcome:
    """The `Outcome` by balls; with iterations, of what they converge to before constants are rounded."""
    if not iterates(check.comparison):
        outcome = outcome_by_balls(kind, check, floats, roundings)
        may_step = check.comparison.numpy and outcome.sides and (kind == GIVEN or outcome.verdict == FAIL)
        return off_stairs(outcome, check) if may_step else outcome
    outcome = outcome_by_balls(kind, check, floats, roundings[:1])
    if outcome.verdict == FAIL or outcome.has_cancelled:
        outcome = in_the_limit(outcome, check)
    elif outcome.verdict == PASS and kind == GIVEN:
        outcome = of_steps_alone(outcome, check)
    if outcome.verdict == FAIL and outcome.iterations == Iterations.UNKNOWN:
        outcome = by_wide_steps(outcome, check)
    if outcome.verdict != FAIL or outcome.iterations == Iterations.BY_VALUES or outcome.digits < ROUNDING:
        return outcome
    return replace(outcome_by_balls(kind, check, floats, roundings), iterations=outcome.iterations)
