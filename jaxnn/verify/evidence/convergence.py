"""Implicit rules, which are right where iterations have converged: they are judged where these run on.

As the iterations end, such a rule and the derivative of what is computed differ by what is left to converge. Run on, in
exact arithmetic, they come to one value, or the rule comes to the slope of the values; a wrong rule does neither.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import flint
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var, jaxprs_in_params

from jaxnn.verify.arithmetic.balls import is_float, wrap
from jaxnn.verify.arithmetic.control_flow import parts_of_scan
from jaxnn.verify.arithmetic.decisions import Undecided, Unsupported
from jaxnn.verify.arithmetic.evaluation import Evaluation, TooLarge
from jaxnn.verify.evidence.comparison import Comparison
from jaxnn.verify.evidence.differences import along, difference, random_direction
from jaxnn.verify.evidence.judge import DIGITS, Allowed, Judgement, judgements
from jaxnn.verify.evidence.outcome import Check, Iterations, Outcome, entered
from jaxnn.verify.evidence.run_on import TIMES, Sides, agreement, limit, sides
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS
from jaxnn.verify.reports.words import shown
from jaxnn.verify.tracing.jaxprs import equations, without_rules

PRECISION = 1600  # bits
SECONDS = 5  # to see what the values of a right outcome converge to
LEAST = 2  # digits to which iterations must converge
FEWEST = 6  # digits to which differences must be known, and a rule of JAX's own must agree with them
JUMPS = {"gt", "ge", "lt", "le", "eq", "ne", "sign", "floor", "ceil", "round", "argmax", "argmin"}  # of floats


def in_the_limit(outcome: Outcome, check: Check) -> Outcome:
    """An outcome that is not right, or another one where iterations explain the difference: PASS to the digits to which
    they converge if, where all of them run on, the rule is the derivative of the iterates or of the values."""
    n = check.problem.derivatives
    if any(j.verdict == FAIL for j in outcome.judged[n:]):
        return outcome
    needed = check.options.digits or DIGITS
    try:
        if has_rule_of_jax(check.comparison):
            return by_accuracy(outcome, check)
        far = sides(check, outcome.floats, TIMES)
        if agreement(far.hand, far.true) < needed:
            return by_values(outcome, check, far, needed)
        end = judgements(sides(check, outcome.floats, 0).hand, far.true)
    except (Undecided, Unsupported, TooLarge):
        return replace(outcome, iterations=Iterations.UNKNOWN)
    judged = [j._replace(digits=digits_of(e)) for j, e in zip(outcome.judged, end, strict=False)]
    return converged(outcome, judged, "where they run on, the rule and the truth agree", Iterations.CONVERGE)


def by_values(outcome: Outcome, check: Check, far: Sides, needed: float) -> Outcome:
    """The outcome by differences of the values to which the iterations converge. far: the sides where they run on."""
    values, n = limit(check, outcome.floats), check.problem.derivatives
    if values.digits < FEWEST:
        is_slow = values.digits >= LEAST and jumps(check.comparison)  # it ends at a tolerance that is wide
        return replace(outcome, iterations=Iterations.UNKNOWN if is_slow else Iterations.DO_NOT_CONVERGE)
    enough = min(needed, values.digits - 1)
    known = Iterations.CONVERGE if agreement(far.true, values.slopes) >= enough else Iterations.BY_VALUES
    if agreement(far.hand, values.slopes) >= enough:
        end = judgements(sides(check, outcome.floats, 0).hand, values.slopes)
        judged = [j._replace(digits=digits_of(j)) for j in end]
        return converged(outcome, judged, "where they run on, the rule is the slope of their values", known)
    if not values.moves and jumps(check.comparison):  # a flag says that it is done
        return replace(outcome, iterations=Iterations.UNKNOWN)
    if outcome.verdict == FAIL and known == Iterations.BY_VALUES:
        wrong = judgements(far.hand, values.slopes, Allowed.of(enough))
        note = f"{outcome.kind}: the truth is the slope of the values to which the iterations converge"
        outcome = replace(outcome, judged=(*wrong, *outcome.judged[n:]), notes=(*outcome.notes, note))
    return replace(outcome, iterations=known)


def of_steps_alone(outcome: Outcome, check: Check) -> Outcome:
    """A right outcome; INCONCLUSIVE if the rule is the derivative of the steps of an iteration, but not the slope of
    the values to which they converge: that of a bracket's ends."""
    if not jumps(check.comparison):
        return outcome
    check = check._replace(deadline=min(check.deadline, time.process_time() + SECONDS))
    try:
        values = limit(check, outcome.floats)
        if values.digits < FEWEST or not values.moves:
            return outcome
        far = sides(check, outcome.floats, TIMES)
    except (Undecided, Unsupported, TooLarge):
        return outcome
    if agreement(far.true, values.slopes) >= min(FEWEST, values.digits - 1):
        return outcome
    reason = "the rule is the derivative of the steps of an iteration, and not that of what they converge to"
    return replace(outcome, verdict=INCONCLUSIVE, reason=reason, iterations=Iterations.BY_VALUES)


def digits_of(judgement: Judgement) -> float:
    """To how many digits of its leaf the worst entry agrees."""
    error = judgement.errors.max(initial=0)
    return -math.log10(error) if error else math.inf


def converged(outcome: Outcome, judged: Sequence[Judgement], why: str, known: Iterations) -> Outcome:
    """The outcome of a rule whose derivatives are right to the digits to which iterations converge, as judged."""
    digits = min(j.digits for j in judged)
    reason = f"the iterations converge to {shown(digits)} digits"
    if digits < LEAST:
        few = Iterations.DO_NOT_CONVERGE
        return replace(outcome, verdict=INCONCLUSIVE, reason=f"{reason} alone", iterations=few)
    right = [j._replace(verdict=PASS, states=None) for j in (*judged, *outcome.judged[len(judged) :])]
    notes = (*outcome.notes, f"{outcome.kind}: {reason}; {why}")
    return replace(outcome, verdict=PASS, judged=tuple(right), notes=notes, iterations=known)


def by_accuracy(outcome: Outcome, check: Check) -> Outcome:
    """The outcome where the truth is a rule of JAX's own over an iteration, such as that of `odeint`: it is as accurate
    as it agrees with differences of the forward pass, and so is a rule that agrees with it no worse."""
    problem, comparison = check.problem, check.comparison
    cost = comparison.cost(problem)
    ev = Evaluation(PRECISION, deadline=check.deadline)
    with flint.ctx.workprec(ev.precision):
        balls = entered(ev, outcome.floats, problem)
        wanted = problem.arguments.differentiated
        directions = [random_direction(i, problem.arguments.floats[i].shape) for i in wanted]
        true = along(comparison.truth, directions)(ev, balls)[: len(wanted)]
        pairs = zip(wanted, directions, strict=True)
        differences = [wrap(difference(cost, ev, balls, {i: way})) for i, way in pairs]
        known = min(j.digits for j in judgements(differences, true))
    judged = [j._replace(digits=min(known, digits_of(j))) for j in outcome.judged[: problem.derivatives]]
    if min(j.digits for j in judged) < known - 1:
        return outcome
    if known < FEWEST:
        reason = f"JAX's own rule agrees with differences of the forward pass to {shown(known)} digits alone"
        return replace(outcome, verdict=INCONCLUSIVE, reason=reason)
    why = "to so many, JAX's own rule agrees with differences"
    return converged(outcome, judged, why, Iterations.CONVERGE)


def iterates(comparison: Comparison) -> bool:
    """Whether the rule or the forward pass has an iteration."""
    jaxprs = [comparison.hand_jaxpr, comparison.scalar_jaxpr]
    return comparison.mode is not None and any(has_iteration(closed.jaxpr) for closed in jaxprs if closed)


def has_iteration(jaxpr: Jaxpr) -> bool:
    """Whether there is a loop in it that takes and gives nothing step by step."""
    return any(is_iteration(eqn) for eqn in equations(jaxpr))


def is_iteration(eqn: JaxprEqn) -> bool:
    """Whether it is a loop that carries floats, and takes and gives nothing step by step: no search for an index, no
    walk through arrays."""
    if not any(is_float(v.aval) for v in eqn.outvars if hasattr(v.aval, "dtype")):
        return False
    if eqn.primitive.name == "scan":
        body = eqn.params["jaxpr"].jaxpr
        _, carry, xs = parts_of_scan(eqn.params, body.invars)
        return not xs and not counts_places(body, carry)
    if eqn.primitive.name == "while":
        body = eqn.params["body_jaxpr"].jaxpr
        return not counts_places(body, body.invars[eqn.params["body_nconsts"] :])
    return False


def counts_places(body: Jaxpr, carry: Sequence[Var]) -> bool:
    """Whether the steps of a loop read or write at places that they count: behind its end there are none."""
    return counted_outputs(body, {v for v in carry if not is_float(v.aval)}) is None


def counted_outputs(body: Jaxpr, counted: set[Var]) -> set[int] | None:
    """The numbers of the outputs that are made of what is counted; None if a place is."""
    counted = {*counted}
    for eqn in body.eqns:
        inputs = {i for i, v in enumerate(eqn.invars) if not isinstance(v, Literal) and v in counted}
        if inputs.intersection(places(eqn)):
            return None
        outputs = set(range(len(eqn.outvars))) if inputs and eqn.primitive.name != "rem" else set()
        for inner in jaxprs_in_params(eqn.params) if inputs else ():
            same = len(inner.invars) == len(eqn.invars)
            of_inner = counted_outputs(inner, {v for i, v in enumerate(inner.invars) if i in inputs or not same})
            if of_inner is None:
                return None
            outputs = of_inner if eqn.primitive.name == "jit" else outputs
        counted.update(v for i, v in enumerate(eqn.outvars) if i in outputs and not is_float(v.aval))
    return {i for i, v in enumerate(body.outvars) if not isinstance(v, Literal) and v in counted}


def places(eqn: JaxprEqn) -> range:
    """The numbers of the operands of an equation that say where it reads or writes. A place in a ring, which `rem`
    makes, is there behind the end too."""
    name, n = eqn.primitive.name, len(eqn.invars)
    if name.startswith(("gather", "scatter")):
        return range(1, 2)
    return range({"dynamic_slice": 1, "dynamic_update_slice": 2}.get(name, n), n)


def jumps(comparison: Comparison) -> bool:
    """Whether values can jump in an iteration of either side: it ends at a tolerance, or takes a decision."""
    closed = [jaxpr for jaxpr in (comparison.scalar_jaxpr, comparison.hand_jaxpr) if jaxpr]
    every = chain.from_iterable(equations(jaxpr.jaxpr) for jaxpr in closed)
    inner = chain.from_iterable(jaxprs_in_params(eqn.params) for eqn in every if is_iteration(eqn))
    deciding = (eqn for jaxpr in inner for eqn in equations(jaxpr) if eqn.primitive.name in JUMPS)
    return any(is_float(v.aval) for eqn in deciding for v in eqn.invars if hasattr(v.aval, "dtype"))


def has_rule_of_jax(comparison: Comparison) -> bool:
    """Whether a rule of JAX's own stands for the derivative of an iteration in the forward pass."""
    closed = comparison.scalar_jaxpr
    if closed is None:
        return False
    plain = without_rules(closed.jaxpr, [])
    rules = [eqn for eqn in equations(plain) if eqn.primitive.name == "custom_vjp_call"]
    return any(map(has_iteration, chain.from_iterable(jaxprs_in_params(eqn.params) for eqn in rules)))
