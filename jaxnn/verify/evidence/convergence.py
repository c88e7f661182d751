"""Implicit rules, which are right where iterations have converged: they are judged where these run on.

As the iterations end, such a rule and the derivative of what is computed differ by what is left to converge. Run on, in
exact arithmetic, they come to one value; a wrong rule does not.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import flint
import jax
import numpy as np
from jax import numpy as jnp
from jax.extend.core import Jaxpr, JaxprEqn, jaxprs_in_params

from jaxnn.verify.arguments import Problem
from jaxnn.verify.arithmetic.balls import Balls, wrap
from jaxnn.verify.arithmetic.control_flow import parts_of_scan
from jaxnn.verify.arithmetic.decisions import Undecided, Unsupported
from jaxnn.verify.arithmetic.evaluation import Evaluation, TooLarge
from jaxnn.verify.evidence.comparison import Comparison, Way, equations, forward_pass, of_jaxpr
from jaxnn.verify.evidence.differences import BallFunction, along, difference, direction, random_direction
from jaxnn.verify.evidence.judge import DIGITS, judgements
from jaxnn.verify.evidence.outcome import Check, Iterations, Outcome, entered
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS, Evidence
from jaxnn.verify.reports.words import shown
from jaxnn.verify.tracing.jaxprs import trace, without_rules

PRECISIONS = (400, 1600, 6400)  # bits
LEAST = 2  # digits to which iterations must converge
FROZEN = 30  # digits, to which what runs on stays as it was: a flag says that it is done
ALIKE = 4  # digits, with which a rule of an iteration that is not understood is not called wrong
FEWEST = 6  # digits to which a rule of JAX's own must agree with differences


def in_the_limit(outcome: Outcome, check: Check) -> Outcome:
    """An outcome that is not right, or another one where iterations explain the difference: PASS to the digits to which
    they converge if the rule and the truth agree where all of them run on; INCONCLUSIVE if that is not known."""
    if any(j.verdict == FAIL for j in outcome.judged[check.problem.derivatives :]):
        return outcome
    error = max(j.errors.max(initial=0) for j in outcome.judged[: check.problem.derivatives])
    digits = -math.log10(error) if error else math.inf
    needed = check.options.digits or DIGITS
    try:
        if has_rule_of_jax(check.comparison):
            return by_accuracy(outcome, check, digits)
        limit = sides(check, outcome.floats, runs_on=True)
        if are_near(limit.hand, limit.true, needed):
            return converged(outcome, digits, "where they run on, the rule and the truth agree")
        end = sides(check, outcome.floats, runs_on=False)
        if are_near(end.true, limit.true, FROZEN):
            return unless_alike(outcome, check)
        if are_near(end.true, limit.true, LEAST):
            return outcome
    except (Undecided, Unsupported, TooLarge):
        return outcome
    return unless_alike(replace(outcome, iterations=Iterations.DO_NOT_CONVERGE), check)


def unless_alike(outcome: Outcome, check: Check) -> Outcome:
    """A wrong outcome; INCONCLUSIVE if it is nearly right, and a loop ends at a tolerance that can explain it."""
    is_near = outcome.verdict == FAIL and outcome.digits >= ALIKE
    goes_back = check.problem.scalar is not None and check.comparison.way != Way.FORWARD_MODE
    if not is_near or goes_back or not ends_at_a_tolerance(check.comparison):
        return outcome
    if outcome.evidence == Evidence.FLOAT64 and outcome.digits > FEWEST + 1:
        return converged(outcome, outcome.digits, "float64 does not tell whether they would agree where they run on")
    agreement = f"the rule and the truth agree to {shown(outcome.digits)} digits"
    reason = f"{agreement}, and it is not known to how many the iterations of the forward pass converge"
    return replace(outcome, verdict=INCONCLUSIVE, reason=reason)


def converged(outcome: Outcome, digits: float, why: str) -> Outcome:
    """The outcome of a rule that is right to the digits to which iterations converge."""
    reason = f"the iterations converge to {shown(digits)} digits"
    if digits < LEAST:
        few = Iterations.DO_NOT_CONVERGE
        return replace(outcome, verdict=INCONCLUSIVE, reason=f"{reason} alone", iterations=few)
    judged = tuple(j._replace(verdict=PASS, digits=min(j.digits, digits), states=None) for j in outcome.judged)
    notes = (*outcome.notes, f"{outcome.kind}: {reason}; {why}")
    return replace(outcome, verdict=PASS, judged=judged, notes=notes, iterations=Iterations.CONVERGE)


def by_accuracy(outcome: Outcome, check: Check, digits: float) -> Outcome:
    """The outcome where the truth is a rule of JAX's own over an iteration, such as that of `odeint`: it is as accurate
    as it agrees with differences of the forward pass, and so is a rule that agrees with it no worse."""
    problem, comparison = check.problem, check.comparison
    cost = comparison.cost(problem)
    ev = Evaluation(PRECISIONS[1], deadline=check.deadline)
    with flint.ctx.workprec(ev.precision):
        balls = entered(ev, outcome.floats, problem)
        wanted = problem.arguments.differentiated
        directions = [random_direction(i, problem.arguments.floats[i].shape) for i in wanted]
        true = along(comparison.truth, directions)(ev, balls)[: len(wanted)]
        pairs = zip(wanted, directions, strict=True)
        differences = [wrap(difference(cost, ev, balls, {i: way})) for i, way in pairs]
        known = min(j.digits for j in judgements(differences, true))
    if digits < known - 1:
        return outcome
    if known < FEWEST:
        reason = f"JAX's own rule agrees with differences of the forward pass to {shown(known)} digits alone"
        return replace(outcome, verdict=INCONCLUSIVE, reason=reason)
    return converged(outcome, min(known, digits), "to so many, JAX's own rule agrees with differences")


class Sides(NamedTuple):
    """The rule and the truth, along one direction of each leaf."""

    hand: list[Balls]
    true: list[Balls]


def sides(check: Check, floats: Sequence[np.ndarray], runs_on: bool) -> Sides:
    """Both sides; Undecided if no precision decides.

    The truth is that of forward mode: what reverse mode saves in an iteration is no longer the same when it runs on."""
    problem, comparison = check.problem, check.comparison
    assert comparison.claim is not None, "a black box is not evaluated in balls"
    rule, derivative = comparison.claim, comparison.truth
    if problem.scalar is not None:  # else they are along tangents as it is
        wanted = problem.arguments.differentiated
        directions = [random_direction(i, problem.arguments.floats[i].shape) for i in wanted]
        rule, derivative = along(rule, directions), slopes(problem, comparison)
    n = problem.derivatives
    for precision in PRECISIONS:
        ev = Evaluation(precision, deadline=check.deadline, runs_on=runs_on)
        with flint.ctx.workprec(precision):
            balls = entered(ev, floats, problem)
            try:
                return Sides(rule(ev, balls)[:n], derivative(ev, balls)[:n])
            except Undecided:
                continue
    raise Undecided


def are_near(a: list[Balls], b: list[Balls], digits: float) -> bool:
    """Whether no entry differs by more than so many digits of its leaf."""
    return all(j.errors.max(initial=0) <= 10.0**-digits for j in judgements(a, b))


def slopes(problem: Problem, comparison: Comparison) -> BallFunction:
    """The derivatives of the forward pass along one direction of each leaf, by forward mode."""
    arguments = problem.arguments
    wanted = arguments.differentiated

    def of(floats: list) -> list[jax.Array]:
        g, inputs = forward_pass(problem, floats), [floats[i] for i in wanted]
        out = []
        for i in wanted:
            ways = [direction(i, v.shape) if k == i else np.zeros(v.shape) for k, v in zip(wanted, inputs, strict=True)]
            tangents = [jnp.asarray(way, v.dtype) for way, v in zip(ways, inputs, strict=True)]
            out.append(jax.jvp(g, (inputs,), (tangents,))[1])
        return out

    assert comparison.mode is not None, "NumPy code has no forward mode"
    return of_jaxpr(trace(of, arguments, comparison.mode), arguments, comparison.mode)


def iterates(comparison: Comparison) -> bool:
    """Whether the rule or the forward pass has an iteration."""
    jaxprs = [comparison.hand_jaxpr, comparison.scalar_jaxpr]
    return comparison.mode is not None and any(has_iteration(closed.jaxpr) for closed in jaxprs if closed)


def has_iteration(jaxpr: Jaxpr) -> bool:
    """Whether there is a loop in it that takes and gives nothing step by step."""
    return any(is_iteration(eqn) for eqn in equations(jaxpr))


def is_iteration(eqn: JaxprEqn) -> bool:
    if eqn.primitive.name == "scan":
        _, _, xs = parts_of_scan(eqn.params, eqn.invars)
        return not xs
    return eqn.primitive.name == "while"


def ends_at_a_tolerance(comparison: Comparison) -> bool:
    """Whether a loop of either side ends at a tolerance, and not when it has counted to its end."""
    closed = [jaxpr for jaxpr in (comparison.scalar_jaxpr, comparison.hand_jaxpr) if jaxpr]
    every = chain.from_iterable(equations(jaxpr.jaxpr) for jaxpr in closed)
    loops = [eqn for eqn in every if eqn.primitive.name == "while"]
    tests = chain.from_iterable(equations(loop.params["cond_jaxpr"].jaxpr) for loop in loops)
    operands = chain.from_iterable(eqn.invars for eqn in tests)
    return any(v.aval.dtype.kind not in "iu" for v in operands if hasattr(v.aval, "dtype"))


def has_rule_of_jax(comparison: Comparison) -> bool:
    """Whether a rule of JAX's own stands for the derivative of an iteration in the forward pass."""
    closed = comparison.scalar_jaxpr
    if closed is None:
        return False
    plain = without_rules(closed.jaxpr, [])
    rules = [eqn for eqn in equations(plain) if eqn.primitive.name == "custom_vjp_call"]
    return any(map(has_iteration, chain.from_iterable(jaxprs_in_params(eqn.params) for eqn in rules)))
