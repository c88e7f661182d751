"""Costs that go in steps, as a loop does that ends at a tolerance, where it is not known what it converges to.

Differences that see one step alone are no truth; those that are wider than the steps are.
"""

import contextlib
import itertools
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import flint
import numpy as np

from jaxnn.verify.arguments import Problem
from jaxnn.verify.arithmetic.decisions import Undecided, Unsupported
from jaxnn.verify.arithmetic.evaluation import Evaluation, TooLarge
from jaxnn.verify.evidence.comparison import of_numpy, run
from jaxnn.verify.evidence.convergence import converged, jumps
from jaxnn.verify.evidence.differences import direction
from jaxnn.verify.evidence.float_truth import Truth, by_differences, slope_along
from jaxnn.verify.evidence.floating import CLEAR, DIGITS, SPARE, outcome_in_float64
from jaxnn.verify.evidence.outcome import Check, Iterations, Outcome, entered, true_floats
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, Evidence
from jaxnn.verify.reports.words import shown

ALIKE = 1  # digits, with which a rule of an iteration that is not understood is not called wrong
WIDE = 2.0**-16  # of the numbers that move, a step that is no smaller than those of a cost
SECONDS = 5  # to see whether a cost goes in steps
SCALES = (1.0, 1 / 64, 8.0)  # of what is differentiated, at which a loop ends sooner or later


def by_wide_steps(outcome: Outcome, check: Check) -> Outcome:
    """The outcome of a rule that differs from the derivative of iterates, where it is not known what these converge to.

    Such a rule is wrong if it is not even like that derivative, and differences of the values, at steps wider than a
    tolerance, say so too."""
    if outcome.verdict != FAIL:
        return outcome
    if outcome.evidence == Evidence.FLOAT64 and outcome.digits > DIGITS + 1:
        judged = outcome.judged[: check.problem.derivatives]
        why = "float64 does not tell whether they would agree where they run on"
        return converged(outcome, judged, why, Iterations.UNKNOWN)
    if outcome.digits >= ALIKE:
        return undecided(outcome)
    if not jumps(check.comparison):
        return outcome
    problem, numpy = check.problem, check.comparison.numpy
    try:
        hand = run(problem.claim, outcome.floats, np.float64, numpy)
        truth = by_differences(problem, outcome.floats, numpy, check.deadline + SPARE)
    except Exception:  # whatever a user's function raises in a dtype that it was not written for
        return undecided(outcome)
    found = outcome_in_float64(outcome.kind, check, hand, truth, outcome.floats)
    return undecided(outcome) if found.verdict == INCONCLUSIVE else replace(found, iterations=Iterations.UNKNOWN)


def undecided(outcome: Outcome) -> Outcome:
    """The outcome of a rule that is like the truth, where it is not known what iterations converge to."""
    agree = f"the rule and the truth agree to {shown(max(outcome.digits, 0))} digits"
    reason = f"{agree}, and it is not known to how many the iterations of the forward pass converge"
    return replace(outcome, verdict=INCONCLUSIVE, reason=reason)


def off_stairs(outcome: Outcome, check: Check) -> Outcome:
    """The outcome of NumPy code; where its cost goes in steps, as a loop does that ends at a tolerance, that by
    differences that are wider than they are, and no longer by those that see a single one. Undecided if such a loop
    can explain the difference."""
    problem, floats = check.problem, outcome.floats
    if problem.scalar is None or outcome.verdict == INCONCLUSIVE:
        return outcome
    if outcome.verdict == FAIL and outcome.digits >= ALIKE and ends_at_a_tolerance(problem, check.deadline):
        return undecided(outcome)
    cost = partial(run, problem.cost, dtype=np.float64, numpy=True)
    wanted = problem.arguments.differentiated
    ways = [direction(i, floats[i].shape) for i in wanted]
    deadline = min(check.deadline, time.process_time() + SECONDS)
    try:
        slopes = [slope_along(cost, floats, {i: way}, deadline, WIDE) for i, way in zip(wanted, ways, strict=True)]
        exact_slopes = true_floats(check.comparison, floats, deadline)
        hand = run(problem.claim, floats, np.float64, numpy=True)
    except Exception:  # whatever a user's function raises in a dtype that it was not written for
        return outcome
    values, errors = (np.array([part[k][0] for part in slopes]) for k in (0, 1))
    steep = [np.sum(v * way) if v.shape == way.shape else v for v, way in zip(exact_slopes, ways, strict=False)]
    if (np.abs(values - np.ravel(steep)) <= CLEAR * errors).all():
        return replace(outcome, iterations=Iterations.CONVERGE)
    leaves, tolerances = (list(v.reshape(-1, 1)) for v in (values, errors))
    how = "the cost goes in steps: decided by differences in float64 that are wider, and measure their own error"
    truth = Truth(leaves, tolerances, [[way] for way in ways], how)
    found = outcome_in_float64(outcome.kind, check, hand[: len(wanted)], truth, floats)
    if found.verdict == FAIL and found.digits >= ALIKE:  # such differences know their own error roughly
        found = undecided(found)
    return replace(found, iterations=Iterations.BY_VALUES)


def ends_at_a_tolerance(problem: Problem, deadline: float) -> bool:
    """Whether a cost in NumPy has a loop that ends by floats: a comparison comes out one way again and again, and once
    the other way; and more or less often where the arguments are smaller or larger."""
    truths = [truths_of(problem, scale, deadline) for scale in SCALES]
    tests = [site for site, v in truths[0].items() if is_test_of_loop(v)]
    return any(len({len(v[site]) for v in truths if site in v}) > 1 for site in tests)


def truths_of(problem: Problem, scale: float, deadline: float) -> dict[tuple[str, str], list[bool]]:
    """How the comparisons in a cost in NumPy come out, by their sites, at so many times what is differentiated."""
    ev = Evaluation(deadline=deadline)
    wanted = problem.arguments.differentiated
    floats = [v * scale if i in wanted else v for i, v in enumerate(problem.arguments.floats)]
    with flint.ctx.workprec(ev.precision), contextlib.suppress(Unsupported, TooLarge, Undecided):
        of_numpy(problem.cost)(ev, entered(ev, floats, problem))
    return ev.truths


def is_test_of_loop(truths: Sequence[bool]) -> bool:
    """Whether the last of these truths always comes alone."""
    return len(truths) > 2 and all(truths[-1] in (not a, not b) for a, b in itertools.pairwise(truths))
