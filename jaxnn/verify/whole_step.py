"""Every custom derivative rule that a whole step calls, checked at the shapes and with the values that it meets there:
exactly, at smaller shapes where these are too large for balls; and once as it is, in its own dtype."""

import dis
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from inspect import Parameter, Signature
from itertools import chain
from math import inf, nan
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.protocols import PyTree
from jaxnn.verify.arguments import BadAnswer, Problem, called, is_float_leaf, parameter_names
from jaxnn.verify.custom_problems import custom_jvp_problem, custom_vjp_problem
from jaxnn.verify.custom_rules.real_shape import at_real_shape
from jaxnn.verify.custom_rules.smaller import Shapes, shapes_of, smaller, smaller_sizes
from jaxnn.verify.evidence.floating import first_line
from jaxnn.verify.evidence.points import seed_of
from jaxnn.verify.options import Options
from jaxnn.verify.questions import custom_jvp, custom_vjp
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, Evidence, Verdict
from jaxnn.verify.reports.report import Report
from jaxnn.verify.reports.rules_report import CheckedRule, RulesReport, SkippedRule, shapes_words
from jaxnn.verify.restriction import within
from jaxnn.verify.tracing.calls import (
    FOLDER_OF_JAX,
    Call,
    Rule,
    calls_of,
    has_values,
    is_array,
    is_own_of_jax,
    place_of,
    source_of,
)
from jaxnn.verify.tracing.jaxprs import AS_WRITTEN, trace

KEYWORDS = ("key", "points", "digits", "strict", "require")
KEYWORDS_OF_ONE = (*KEYWORDS, "domain", "surrogate")
SECONDS = 60.0  # after which no other rule is begun
Seed = int | list[int]
OfRules = Mapping[str, Mapping[str, PyTree]]
NOTHING: OfRules = MappingProxyType({})


def rules(
    step: Callable, *args: PyTree, jax_rules: bool = False, of: OfRules = NOTHING, **options: PyTree
) -> RulesReport:
    """Whether every `jax.custom_vjp` and `jax.custom_jvp` that step(*args) calls is right: a `RulesReport`.

    step is traced, and run as far as the arguments of its rules need it; a rule is found under jit, grad, vmap and
    remat and in loops, whoever wrote it. Once for the same equations and shapes it is asked what `custom_vjp` or
    `custom_jvp` asks, with the values of its first call, cut down axis by axis to what balls can carry; and it is held
    against autodiff of what it computes as it is, in its own dtype on the default device. Skipped are rules that have
    no float arrays or raise an error of their own where they are differentiated, and JAX's own unless `jax_rules`.

    The keywords are those of `Options` that hold for any rule: key, points, digits, strict, require. of: the keywords
    of single rules by their names, as {"spike": {"surrogate": f}}; domain and surrogate too.

    TypeError: another keyword. ValueError: `of` names no rule that was checked. BadAnswer: no rule is left. What step
    raises is raised.
    """
    check_keywords(options, of)
    start, seed = time.monotonic(), seed_of(Options(**options).key)

    def is_asked(rule: Rule) -> bool:
        return jax_rules or not is_own_of_jax(rule)

    calls, why = calls_of(step, args, is_asked)
    found: dict[tuple, CheckedRule | SkippedRule] = {}
    for call in calls:
        met = Met(call, values_of(call, np.random.default_rng(seed)))
        key = equations(met) if is_asked(call.rule) else (place_of(call.rule),)
        if key in found:
            continue
        if not is_asked(call.rule):
            found[key] = skipped(met, "JAX's own (jax_rules=True checks them)")
        elif time.monotonic() - start > SECONDS:
            found[key] = unchecked(met, f"{SECONDS:.0f} s were over")
        else:
            found[key] = check(met, seed, {**options, **of.get(met.name, {})})
    checked = tuple(rule for rule in found.values() if isinstance(rule, CheckedRule))
    if not checked:
        raise BadAnswer(
            f"{called(step)} calls no custom derivative rule that can be checked"
            f"{', only ' if found else ''}{', '.join(sorted({rule.name for rule in found.values()}))}."
        )
    names = {rule.name for rule in checked}
    for name in sorted(of.keys() - names):
        raise ValueError(f"of= names {name}, and no such rule was checked: there are {', '.join(sorted(names))}.")
    return RulesReport(
        title=f"custom rules in {called(step)}",
        rules=checked,
        skipped=tuple(rule for rule in found.values() if isinstance(rule, SkippedRule)),
        notes=(f"the values are drawn, since the step does not run up to its rules: {why}",) if why else (),
        seconds=time.monotonic() - start,
    )


def check_keywords(options: Mapping[str, PyTree], of: OfRules) -> None:
    """TypeError: a keyword that there is not, of all rules or of one."""
    for name in sorted(options.keys() - set(KEYWORDS)):
        raise TypeError(f"{name}= is no option of rules: there are jax_rules, of, {', '.join(KEYWORDS)}.")
    for rule, mine in sorted(of.items()):
        for name in sorted(mine.keys() - set(KEYWORDS_OF_ONE)):
            raise TypeError(f"of= gives {rule} the option {name!r}: there are {', '.join(KEYWORDS_OF_ONE)}.")


def assert_rules(
    step: Callable, *args: PyTree, jax_rules: bool = False, of: OfRules = NOTHING, **options: PyTree
) -> RulesReport:
    """`rules`, raising AssertionError with the whole report unless the verdict is PASS."""
    report = rules(step, *args, jax_rules=jax_rules, of=of, **options)
    if not report.ok:
        raise AssertionError(f"\n{report}")
    return report


class Met(NamedTuple):
    """A call of a rule, and the arguments that it met."""

    call: Call
    args: tuple[PyTree, ...]

    @property
    def rule(self) -> Rule:
        return self.call.rule

    @property
    def name(self) -> str:
        return called(source_of(self.rule))


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
        every = chain.from_iterable(closed.consts for closed in traced)
        constants = [np.asarray(c).tobytes() for c in every if has_values(c)]
    except Exception:  # which `check` says
        return place_of(met.rule), shapes_of(met.args)
    return place_of(met.rule), *map(str, traced), *constants


# One rule


def check(met: Met, seed: Seed, options: dict[str, PyTree]) -> CheckedRule | SkippedRule:
    """The rule at shapes that balls can carry, and as it is."""
    try:
        problem = problem_of(met, options.get("surrogate"), options.get("domain"))
        has_floats = bool(problem.arguments.differentiated)
    except BadAnswer:  # no float array comes out
        has_floats = False
    except Exception as error:  # whatever a user's function raises
        return unchecked(met, first_line(error))
    if not has_floats:
        return skipped(met, "no float array goes in, or none comes out")
    try:
        trace(problem.claim, problem.arguments, AS_WRITTEN)
    except Exception as error:
        if is_refusal(error):
            return skipped(met, f"where it is differentiated it raises {type(error).__name__}")
        return unchecked(met, f"the rule does not run: {first_line(error)}", FAIL)
    real = at_real_shape(problem, seed)
    report, cut = real, None
    for sizes in smaller_sizes(met.args, lambda args: out_shapes(met._replace(args=args))):
        small = met._replace(args=smaller(met.args, sizes))
        try:
            exact = question(small)(*function_of(small), **options)
        except Exception as error:  # what it computes cannot be differentiated
            return unchecked(met, first_line(error))
        report, cut = combined(exact, real, is_cut=bool(sizes)), shapes_of(small.args)
        if exact.verdict != INCONCLUSIVE and not contradicts(exact, real):
            break
    return checked(met, report, cut)


def checked(met: Met, report: Report, cut: Shapes | None) -> CheckedRule:
    """The report under the name of the rule, with its shapes."""
    place, shapes = place_of(met.rule), shapes_of(met.args)
    title = f"rule of {met.name} at {place}, of {shapes_words(shapes)}"
    title += f" cut to {shapes_words(cut)}" if cut not in (None, shapes) else ""
    return CheckedRule(
        name=met.name,
        place=place,
        call=met.call.place,
        shapes=shapes,
        cut=cut,
        report=replace(report, title=title),
    )


def unchecked(met: Met, reason: str, verdict: Verdict = INCONCLUSIVE) -> CheckedRule:
    """A rule of which nothing could be evaluated."""
    report = Report("", verdict, f"{reason.rstrip('.')}.", Evidence.DTYPE, digits=nan, leaves=())
    return checked(met, report, None)


def skipped(met: Met, reason: str) -> SkippedRule:
    return SkippedRule(met.name, place_of(met.rule), reason)


def is_refusal(error: Exception) -> bool:
    """Whether a line of somebody's code raises the error, as in rules that must not be used: no slip, and not JAX."""
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    assert frame, "the error was raised"
    code = frame.tb_frame.f_code
    is_raise = dis.opname[code.co_code[frame.tb_lasti]] == "RAISE_VARARGS"
    return is_raise and not code.co_filename.startswith(FOLDER_OF_JAX)


def question(met: Met) -> Callable[..., Report]:
    return custom_jvp if isinstance(met.rule, jax.custom_jvp) else custom_vjp


def problem_of(met: Met, surrogate: Callable | None = None, domain: PyTree = None) -> Problem:
    question = custom_jvp_problem if isinstance(met.rule, jax.custom_jvp) else custom_vjp_problem
    problem = question(*function_of(met), argnums=None, surrogate=surrogate)
    return problem if domain is None else within(problem, Options(domain=domain))


def function_of(met: Met) -> tuple[PyTree, ...]:
    """(f, *args): the rule as a function of the arguments that it can be differentiated by, and these.

    Left out are `nondiff_argnums`, and arguments that are not finite, such as a mask of −∞.
    """
    free = [i for i, arg in enumerate(met.args) if i not in met.rule.nondiff_argnums and is_finite(arg)]
    rule = copied(met.rule)

    def f(*args: PyTree) -> PyTree:
        every = list(met.args)
        for i, v in zip(free, args, strict=True):
            every[i] = v
        return rule(*every)

    names = parameter_names(source_of(met.rule), len(met.args))
    f.__name__ = met.name
    f.__signature__ = Signature(  # type: ignore[attr-defined]
        [Parameter(names[i] if names[i].isidentifier() else f"x{i}", Parameter.POSITIONAL_ONLY) for i in free]
    )
    return f, *(met.args[i] for i in free)


def is_finite(arg: PyTree) -> bool:
    return all(np.isfinite(np.asarray(v, np.float64)).all() for v in jax.tree.leaves(arg) if is_float_leaf(v))


def copied(rule: Rule) -> Rule:
    """The same rule as one that is not JAX's own, whose rules are taken for right in what is compared."""

    def in_our_name(f: PyTree) -> Callable:
        return lambda *args: f(*args)

    if isinstance(rule, jax.custom_jvp):
        jvp = jax.custom_jvp(in_our_name(rule.fun), rule.nondiff_argnums)
        jvp.defjvp(in_our_name(rule.jvp), rule.symbolic_zeros)
        return jvp
    vjp = jax.custom_vjp(in_our_name(rule.fun), rule.nondiff_argnums)
    vjp.defvjp(in_our_name(rule.fwd), in_our_name(rule.bwd), rule.symbolic_zeros)
    return vjp


def out_shapes(met: Met) -> Shapes:
    """The shapes of the rule's derivatives and values."""
    problem = problem_of(met)
    return tuple(v.shape for v in trace(problem.claim, problem.arguments, AS_WRITTEN).out_avals)


def combined(exact: Report, real: Report, *, is_cut: bool) -> Report:
    """One report of that at the shapes that balls carry, and of that as it is."""
    if real.verdict == FAIL and exact.verdict != FAIL:
        return real
    both = replace(exact, points=(*exact.points, *real.points), notes=(*exact.notes, real.reason))
    if is_cut and contradicts(exact, real):
        reason = f"wrong where it is cut down ({exact.reason}), {real.reason}: does it hold for some sizes alone?"
        return replace(both, verdict=INCONCLUSIVE, reason=reason)
    return both


def contradicts(exact: Report, real: Report) -> bool:
    """Whether a fault that is seen at one size is large enough to be seen at the real one, and is not."""
    seen = min((leaf.digits for leaf in exact.leaves if leaf.verdict == FAIL), default=inf)
    return exact.verdict == FAIL and real.ok and seen < real.digits - 1
