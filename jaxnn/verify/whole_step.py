"""Every custom derivative rule that a whole step calls, checked at the shapes and with the values that it meets there:
exactly, at smaller shapes where these are too large for balls; and once as it is, in its own dtype."""

import time
from collections.abc import Callable
from dataclasses import replace
from inspect import Parameter, Signature
from math import nan, prod
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.protocols import PyTree
from jaxnn.verify.arguments import BadAnswer, Problem, called, is_float_leaf, parameter_names
from jaxnn.verify.custom_rules.smaller import Shapes, shapes_of, smaller, smaller_sizes
from jaxnn.verify.decide import leaves_of, why_wrong
from jaxnn.verify.evidence.comparison import run
from jaxnn.verify.evidence.floating import first_line, in_own_dtype
from jaxnn.verify.evidence.outcome import Outcome
from jaxnn.verify.evidence.points import Draw, Kind, redraw, seed_of
from jaxnn.verify.options import Options
from jaxnn.verify.problems import custom_jvp_problem, custom_vjp_problem
from jaxnn.verify.questions import custom_jvp, custom_vjp
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS, Evidence, Point, Verdict
from jaxnn.verify.reports.report import Report
from jaxnn.verify.reports.rules_report import CheckedRule, RulesReport
from jaxnn.verify.reports.words import shown
from jaxnn.verify.tracing.calls import Call, Rule, calls_of, has_values, is_array, is_own_of_jax, place_of, source_of
from jaxnn.verify.tracing.jaxprs import AS_WRITTEN, trace

CARRIED = 3000  # entries of all arguments, beyond which no rule is checked in balls
SECONDS = 60.0  # after which no other rule is begun
AS_IT_IS = Kind(Draw.GIVEN, elsewhere="real shape")


class Met(NamedTuple):
    """A rule and the arguments that it met."""

    rule: Rule
    args: tuple[PyTree, ...]


def rules(step: Callable, *args: PyTree, jax_rules: bool = False, **options: PyTree) -> RulesReport:
    """Whether every `jax.custom_vjp` and `jax.custom_jvp` that step(*args) calls is right: a `RulesReport`.

    step is traced, and run as far as the arguments of its rules need it; a rule is found under jit, grad, vmap and
    remat and in loops, whoever wrote it. Once for the same equations and shapes it is asked what `custom_vjp` or
    `custom_jvp` asks, with the values of its first call, cut down axis by axis to what balls can carry; and it is held
    against autodiff of what it computes as it is, in its own dtype on the default device. JAX's own rules are named,
    and checked with `jax_rules`.

    BadAnswer: step calls no rule. What step raises is raised.
    """
    start, seed = time.monotonic(), seed_of(Options(**options).key)

    def is_asked(rule: Rule) -> bool:
        return jax_rules or not is_own_of_jax(rule)

    calls, why = calls_of(step, args, is_asked)
    checked: dict[tuple, CheckedRule] = {}
    for call in calls:
        met = Met(call.rule, values_of(call, np.random.default_rng(seed)))
        if is_asked(call.rule) and equations(met) not in checked:
            late = time.monotonic() - start > SECONDS
            checked[equations(met)] = without(met, f"{SECONDS:.0f} s were over") if late else check(met, seed, options)
    if not checked:
        raise BadAnswer(f"{called(step)} calls no custom derivative rule, except for JAX's own.")
    return RulesReport(
        title=f"custom rules in {called(step)}",
        rules=tuple(checked.values()),
        skipped=tuple(dict.fromkeys(call.rule.__name__ for call in calls if not is_asked(call.rule))),
        notes=(f"the values are drawn, since the step does not run up to its rules: {why}",) if why else (),
        seconds=time.monotonic() - start,
    )


def values_of(call: Call, rng: np.random.Generator) -> tuple[PyTree, ...]:
    """The arguments of a call: what it met or, if that is not known, normal numbers and zeros."""
    values = iter(call.values or ())

    def value(v: PyTree) -> PyTree:
        if not is_array(v):
            return v
        if not has_values(v):  # one key is as good as another
            return jax.random.split(jax.random.key(0), v.shape) if v.shape else jax.random.key(0)
        if call.values is not None:
            return next(values)
        return np.asarray(rng.normal(size=v.shape) if is_float_leaf(v) else np.zeros(v.shape), v.dtype)

    return jax.tree.map(value, call.args)


def equations(met: Met) -> tuple:
    """What is the same for two calls if they are the same rule, on arrays of the same shapes."""
    try:
        problem = problem_of(met)
        traced = [trace(f, problem.arguments, AS_WRITTEN) for f in (problem.claim, problem.truth)]
    except Exception:  # which `check` says
        return place_of(met.rule), str(shapes_of(met.args))
    constants = [np.asarray(c).tobytes() for closed in traced for c in closed.consts if has_values(c)]
    return place_of(met.rule), *map(str, traced), *constants


# One rule


def check(met: Met, seed: int | list[int], options: dict[str, PyTree]) -> CheckedRule:
    """The rule at shapes that balls can carry, and as it is."""
    try:
        problem = problem_of(met)
        trace(problem.truth, problem.arguments, AS_WRITTEN)
    except Exception as error:  # whatever a user's function raises
        return without(met, f"it cannot be asked: {first_line(error)}")
    try:
        trace(problem.claim, problem.arguments, AS_WRITTEN)
    except Exception as error:
        return without(met, f"what it computes can be differentiated, but the rule does not run: {first_line(error)}", FAIL)
    sizes = smaller_sizes(met.args, lambda args: out_shapes(met._replace(args=args)))
    small = met._replace(args=smaller(met.args, sizes))
    is_carried = sum(map(prod, shapes_of(small.args))) <= CARRIED
    exact = question(small)(*function_of(small), **options) if is_carried else None
    report = combined(exact, as_it_is(problem, seed), bool(sizes))
    return checked(met, report, shapes_of(small.args) if is_carried else None)


def checked(met: Met, report: Report, cut: Shapes | None) -> CheckedRule:
    """The findings, under the name of the rule."""
    name, place = called(source_of(met.rule)), place_of(met.rule)
    report = replace(report, title=f"rule of {name} at {place}")
    return CheckedRule(name=name, place=place, shapes=shapes_of(met.args), cut=cut, report=report)


def without(met: Met, reason: str, verdict: Verdict = INCONCLUSIVE) -> CheckedRule:
    """A rule of which nothing is evaluated."""
    report = Report("", verdict, f"{reason}.", Evidence.DTYPE, digits=nan, leaves=())
    return checked(met, report, None)


def function_of(met: Met) -> tuple[PyTree, ...]:
    """(f, *args): the rule as a function of the arguments that it can be differentiated by, and these.

    Left out are `nondiff_argnums`, and arguments that are not finite, such as a mask of −∞.
    """
    fixed = {i % len(met.args) for i in met.rule.nondiff_argnums}
    free = [i for i, arg in enumerate(met.args) if i not in fixed and is_finite(arg)]
    rule = copied(met.rule) if is_own_of_jax(met.rule) else met.rule

    def f(*args: PyTree) -> PyTree:
        every = list(met.args)
        for i, v in zip(free, args, strict=True):
            every[i] = v
        return rule(*every)

    source = source_of(met.rule)
    names = parameter_names(source, len(met.args))
    f.__name__ = called(source)
    f.__signature__ = Signature([Parameter(names[i], Parameter.POSITIONAL_ONLY) for i in free])
    return f, *(met.args[i] for i in free)


def copied(rule: Rule) -> Rule:
    """The same rule as one that is not JAX's own, which is taken for right elsewhere."""
    copy = type(rule)(lambda *args: rule.fun(*args), rule.nondiff_argnums)
    if isinstance(rule, jax.custom_jvp):
        copy.defjvp(lambda *args: rule.jvp(*args), rule.symbolic_zeros)
    else:
        copy.defvjp(lambda *args: rule.fwd(*args), lambda *args: rule.bwd(*args), rule.symbolic_zeros)
    return copy


def question(met: Met) -> Callable[..., Report]:
    return custom_jvp if isinstance(met.rule, jax.custom_jvp) else custom_vjp


def problem_of(met: Met) -> Problem:
    problem = custom_jvp_problem if isinstance(met.rule, jax.custom_jvp) else custom_vjp_problem
    return problem(*function_of(met), argnums=None)


def is_finite(arg: PyTree) -> bool:
    return all(np.isfinite(np.asarray(v, np.float64)).all() for v in jax.tree.leaves(arg) if is_float_leaf(v))


def out_shapes(met: Met) -> Shapes:
    """The shapes of the derivative and of the values; both sides have them."""
    problem = problem_of(met)
    hand, true = (trace(f, problem.arguments, AS_WRITTEN).out_avals for f in (problem.claim, problem.truth))
    assert len(hand) == len(true), "both sides have the same outputs"
    return tuple(v.shape for v in hand)


def as_it_is(problem: Problem, seed: int | list[int]) -> Report:
    """The rule in its own dtype, on the default device, against autodiff of what it computes in float64."""
    arguments, rng = problem.arguments, np.random.default_rng(seed)
    floats = redraw(AS_IT_IS, arguments.floats, arguments.dtypes, problem.redrawable, problem.cotangents, rng)
    try:
        outcome = in_own_dtype(AS_IT_IS, problem, floats, run(problem.truth, floats, np.float64), "")
    except Exception as error:  # what it computes has no derivative, or needs another device, or more memory
        outcome = Outcome(AS_IT_IS, INCONCLUSIVE, first_line(error), evidence=Evidence.DTYPE)
    leaves = leaves_of(problem, [outcome])
    where = f"at its real shape, in its own dtype on {jax.devices()[0].device_kind}"
    reasons = {
        PASS: f"right, {shown(outcome.digits)} digits agree {where}",
        INCONCLUSIVE: f"{where}: {outcome.reason}.",
    }
    return Report(
        title=problem.title,
        verdict=outcome.verdict,
        reason=why_wrong(leaves, str(AS_IT_IS)) if outcome.verdict == FAIL else reasons[outcome.verdict],
        evidence=Evidence.DTYPE,
        digits=outcome.digits,
        leaves=leaves,
        points=(Point(str(AS_IT_IS), outcome.verdict, outcome.reason, outcome.digits),),
    )


def combined(exact: Report | None, real: Report, is_cut: bool) -> Report:
    """The report at the shapes that balls carry, if they carry it at any, and the one as it is."""
    if exact is None or (real.verdict == FAIL and exact.verdict != FAIL):
        return real
    points, notes = (*exact.points, *real.points), (*exact.notes, real.reason)
    seen = min((leaf.digits for leaf in exact.leaves if leaf.verdict == FAIL), default=nan)
    if exact.verdict == FAIL and is_cut and real.ok and seen < real.digits - 1:
        reason = f"wrong where it is cut down ({exact.reason}) and {real.reason}: does it hold for some sizes alone?"
        return replace(exact, verdict=INCONCLUSIVE, reason=reason, points=points, notes=exact.notes)
    return replace(exact, points=points, notes=notes)


def assert_rules(step: Callable, *args: PyTree, jax_rules: bool = False, **options: PyTree) -> RulesReport:
    """`rules`, raising AssertionError with the whole report unless the verdict is PASS."""
    report = rules(step, *args, jax_rules=jax_rules, **options)
    if not report.ok:
        raise AssertionError(f"\n{report}")
    return report
