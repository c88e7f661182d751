"""Where a backward pass goes wrong first: every named value with the cotangent that the rule itself put into it.

The forward pass names v with `checkpoint_name(v, "z2")`, the backward pass its ∂J/∂v with "dz2". If downstream of v the
rule's own cotangents are taken for the true ones, a value that is then right has no fault of its own: it inherits one.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import flint
from flint import arb
from jax import Array
from jax.core import AbstractValue
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Primitive, jaxprs_in_params
from jax.interpreters import ad

from jaxnn.protocols import PyTree
from jaxnn.verify.arguments import Problem
from jaxnn.verify.arithmetic.balls import ZERO, Balls, enter, wrap
from jaxnn.verify.arithmetic.decisions import Undecided, Unsupported
from jaxnn.verify.arithmetic.evaluation import Evaluation, Step, TooLarge
from jaxnn.verify.evidence.comparison import Comparison, of_jaxpr
from jaxnn.verify.evidence.differences import BallFunction
from jaxnn.verify.evidence.judge import DIGITS, Allowed, Judgement, judge, magnitude, scales
from jaxnn.verify.evidence.outcome import Outcome
from jaxnn.verify.reports.findings import FAIL, PASS, Evidence, Link
from jaxnn.verify.tracing.jaxprs import rewritten, through, trace, without_rules

PRECISION, SECONDS = 400, 10

# f(v) = v, whose derivative leaves a mark: the evaluation says what it is (`Evaluation.pull`)
named_p, pull_p = Primitive("named"), Primitive("pull")


def same_type(v: AbstractValue, name: str) -> AbstractValue:
    """The type of what either primitive returns."""
    return v


def transposed(dv: Array | ad.Zero, v: Array, *, name: str) -> list[Array | ad.Zero]:
    """The cotangent of the input of `named_p`."""
    return [dv if type(dv) is ad.Zero else pull_p.bind(dv, name=name)]


named_p.def_abstract_eval(same_type)
pull_p.def_abstract_eval(same_type)
ad.deflinear2(named_p, transposed)


class Cotangents(NamedTuple):
    """What a backward pass gives: ∂J/∂v of every named v, once for each time that it was named; and of the leaves."""

    named: dict[str, list[Balls]]
    leaves: list[Balls]


def marked(J: Callable) -> Callable:
    """J with `named_p` for every name, and its custom rules taken away."""

    def mark(eqn: JaxprEqn) -> JaxprEqn:
        return eqn.replace(primitive=named_p) if eqn.primitive.name == "name" else eqn

    return through(J, lambda jaxpr: rewritten(without_rules(jaxpr, []), mark))


def links(problem: Problem, comparison: Comparison, outcome: Outcome) -> tuple[Link, ...]:
    """A `Link` for every named value and every leaf, in the order of the backward pass.

    () if nothing is named, or the rule is no JAX code. Names that are not compared are left out: those without
    a value of that name in the forward pass, or of another shape."""
    known = comparison.claim is not None and comparison.mode is not None and problem.by_autodiff is not None
    if not known or outcome.evidence != Evidence.EXACT:
        return ()
    try:
        return links_of_jaxprs(problem, comparison, outcome)
    except (TooLarge, Undecided, Unsupported):
        return ()


def links_of_jaxprs(problem: Problem, comparison: Comparison, outcome: Outcome) -> tuple[Link, ...]:
    """The links of a rule that is JAX code; what the evaluation raises is raised."""
    assert comparison.claim is not None, "a black box has no links"
    ev = Evaluation(PRECISION, outcome.rounded, deadline=time.process_time() + SECONDS)
    balls = [enter(v) for v in outcome.floats]
    with flint.ctx.workprec(PRECISION):
        hand = comparison.claim(ev, balls)
        named = {name[1:]: pairs for name, pairs in ev.named_values.items() if name.startswith("d")}
        if not named:
            return ()
        number = numbers_of(ev.steps)
        backward = backward_pass(problem, comparison)
        true = cotangents(backward, ev, balls, {})
        rule_values = {name: [v for _, v in pairs] for name, pairs in named.items()}
        hand_cotangents = comparable(rule_values, true.named)
        expected = cotangents(backward, ev, balls, hand_cotangents)
        c = common_factor(hand_cotangents, true.named)
        leaves = list(zip(hand, true.leaves, expected.leaves, strict=True))
        if c is not None and any(same([h], [t]) and not same([h], [e]) for h, t, e in leaves):
            # Courses often write dz without the 1/m and divide later: a common factor that the leaves do not have is no
            # fault.
            hand_cotangents = {name: [wrap(v / c) for v in values] for name, values in hand_cotangents.items()}
            expected = cotangents(backward, ev, balls, hand_cotangents)
            leaves = list(zip(hand, true.leaves, expected.leaves, strict=True))
        numbered = [
            (named[name][-1][0], link_of(f"d{name}", values, true.named[name], expected.named[name]))
            for name, values in hand_cotangents.items()
        ]
        paths = problem.paths[: len(problem.arguments.differentiated)]
        numbered += [
            (number.get(id(h), 0), link_of(path, [h], [t], [e])) for path, (h, t, e) in zip(paths, leaves, strict=False)
        ]
    return tuple(link for _, link in sorted(numbered, key=lambda pair: pair[0]))


def numbers_of(steps: Sequence[Step]) -> dict[int, int]:
    """The number of the step that gave a value, by the value's id."""
    numbers: dict[int, int] = {}
    for n, step in enumerate(steps):
        numbers.update(dict.fromkeys(map(id, step.outputs), n))
    return numbers


def backward_pass(problem: Problem, comparison: Comparison) -> BallFunction:
    """Autodiff of the forward pass, in which every named value leaves its mark."""
    by_autodiff, mode = problem.by_autodiff, comparison.mode
    assert by_autodiff is not None, "a problem without a cost has no autodiff"
    assert mode is not None, "NumPy code has no jaxprs"
    closed = trace(lambda floats: by_autodiff(floats, own=marked), problem.arguments, mode)
    return of_jaxpr(closed, problem.arguments, mode)


def cotangents(
    backward: BallFunction, ev: Evaluation, balls: list[Balls], values: Mapping[str, list[Balls]]
) -> Cotangents:
    """The `Cotangents` of a backward pass, where those in `values` are put in their places downstream."""
    named: dict[str, list[Balls]] = {}

    def pull(name: str, dv: Balls) -> Balls:
        seen = named.setdefault(name, [])
        seen.append(dv)
        return values[name][len(seen) - 1] if name in values else dv

    ev.pull = pull
    return Cotangents(named, backward(ev, balls))


def comparable(hand: Mapping[str, list[Balls]], true: Mapping[str, list[Balls]]) -> dict[str, list[Balls]]:
    """The cotangents by hand that are of the shapes of the true ones, in the order of these."""
    values: dict[str, list[Balls]] = {}
    for name in hand:
        ordered = in_order(hand[name], true[name]) if name in true else None
        if ordered is not None:
            values[name] = ordered
    return values


def common_factor(hand: Mapping[str, list[Balls]], true: Mapping[str, list[Balls]]) -> arb | None:
    """The `factor` of the first that has one, None if there is none."""
    factors = [factor(values, true[name]) for name, values in hand.items()]
    return next((c for c in factors if c is not None), None)


def link_of(name: str, hand: Sequence[Balls], true: Sequence[Balls], expected: Sequence[Balls]) -> Link:
    """The link of this name. expected: the true cotangents, if those by hand were right downstream."""
    judgements = judge_all(hand, true)
    digits = min(j.digits for j in judgements)
    if all(j.verdict == PASS for j in judgements):
        return Link(name, PASS, False, digits)
    return Link(name, FAIL, same(hand, expected), digits)


def judge_all(hand: Sequence[Balls], true: Sequence[Balls]) -> list[Judgement]:
    """Judgements of arrays, to the scale of the largest of them."""
    whole = max(map(magnitude, true), default=ZERO)
    return [
        judge(a, t, whole if whole > 0 else s, Allowed.of(DIGITS))
        for a, t, s in zip(hand, true, scales(true), strict=True)
    ]


def same(hand: Sequence[Balls], true: Sequence[Balls]) -> bool:
    return all(j.verdict == PASS for j in judge_all(hand, true))


def in_order(hand: list[Balls], true: list[Balls]) -> list[Balls] | None:
    """The cotangents by hand as a list like true: one array of all steps taken apart, and in the order of a loop that
    runs the other way if that agrees better; None if shapes differ."""
    if len(hand) == 1 and hand[0].shape == (len(true), *true[0].shape) != true[0].shape:
        hand = [wrap(v) for v in hand[0]][::-1]
    if [v.shape for v in hand] != [v.shape for v in true]:
        return None

    def agreements(values: list[Balls]) -> int:
        return sum(same([a], [b]) for a, b in zip(values, true, strict=True))

    return max((hand, hand[::-1]), key=agreements)


def factor(hand: Sequence[Balls], true: Sequence[Balls]) -> arb | None:
    """c ≠ 1 if the cotangents by hand are c times the true ones, else None."""
    pairs: list[tuple[arb, arb]] = []
    for m, v in zip(hand, true, strict=True):
        pairs += zip(m.flat, v.flat, strict=True)
    if not pairs:
        return None
    a, t = max(pairs, key=lambda pair: abs(pair[1].mid()))
    if t.contains(0) or (a / t).contains(1):
        return None
    return a / t if same(hand, [wrap(v * (a / t)) for v in true]) else None


def unlinked(comparison: Comparison) -> Iterator[str]:
    """Why a named cotangent is no link, for each that is none."""
    if comparison.hand_jaxpr is None or comparison.scalar_jaxpr is None:
        return
    forward = {name for name, _ in names(comparison.scalar_jaxpr.jaxpr)}
    for name, is_used in dict(names(comparison.hand_jaxpr.jaxpr)).items():
        if name.startswith("d") and name[1:] in forward and not is_used:
            yield f"{name} is named but not used: go on with what checkpoint_name returns"
        elif name.startswith("d") and name[1:] and forward and name[1:] not in forward:
            yield f"{name} is no link: the forward pass names no {name[1:]}"


def names(jaxpr: Jaxpr) -> Iterator[tuple[str, bool]]:
    """(name, whether what has it is used) of every named value."""
    operands: list[PyTree] = [*jaxpr.outvars]
    for eqn in jaxpr.eqns:
        operands += eqn.invars
    used = {v for v in operands if not isinstance(v, Literal)}
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "name":
            yield eqn.params["name"], eqn.outvars[0] in used
        for inner in jaxprs_in_params(eqn.params):
            yield from names(inner)
