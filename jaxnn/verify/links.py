"""Where a backward pass goes wrong first: every named value with the cotangent that the rule itself put into it.

The forward pass names v with `checkpoint_name(v, "z2")`, the backward pass its ∂J/∂v with "dz2". If downstream of v the
rule's own cotangents are taken for the true ones, a value that is then right has no fault of its own: it inherits one.
"""

import time

import flint
from flint import arb
from jax.extend.core import Literal, Primitive, jaxprs_in_params
from jax.interpreters import ad

from jaxnn.verify.arithmetic.balls import enter, wrap
from jaxnn.verify.arithmetic.decisions import Undecided, Unsupported
from jaxnn.verify.arithmetic.evaluation import Evaluation, TooLarge
from jaxnn.verify.evidence.comparison import of_jaxpr
from jaxnn.verify.evidence.judge import judge, magnitude, scales
from jaxnn.verify.reports.findings import FAIL, PASS, Link
from jaxnn.verify.tracing.jaxprs import rewritten, through, trace, without_rules

PRECISION, SECONDS = 400, 10

# f(v) = v, whose derivative leaves a mark: the evaluation says what it is (`Evaluation.pull`)
named_p, pull_p = Primitive("named"), Primitive("pull")
named_p.def_abstract_eval(lambda v, name: v)
pull_p.def_abstract_eval(lambda v, name: v)
ad.deflinear2(named_p, lambda dv, v, *, name: [dv if type(dv) is ad.Zero else pull_p.bind(dv, name=name)])


def marked(J):
    """J with `named_p` for every name, and its custom rules taken away."""

    def mark(eqn):
        return eqn.replace(primitive=named_p) if eqn.primitive.name == "name" else eqn

    return through(J, lambda jaxpr: rewritten(without_rules(jaxpr, []), mark))


def links(problem, comparison, outcome):
    """A `Link` for every named value and every leaf, in the order of the backward pass.

    () where nothing is named, or where the rule is no JAX code. Names that are not compared are left out: those without
    a value of that name in the forward pass, or of another shape."""
    if (
        problem.by_autodiff is None
        or comparison.mode is None
        or comparison.claim is None
        or outcome.evidence != "exact"
    ):
        return ()
    try:
        return compared(problem, comparison, outcome)
    except (TooLarge, Undecided, Unsupported):
        return ()


def compared(problem, comparison, outcome):
    ev = Evaluation(PRECISION, outcome.rounded, deadline=time.monotonic() + SECONDS)
    balls = [enter(v) for v in outcome.floats]
    n = len(problem.arguments.differentiated)
    with flint.ctx.workprec(PRECISION):
        hand = comparison.claim(ev, balls)
        if not any(name.startswith("d") for name in ev.named_values):
            return ()
        where = {id(v): k for k, step in enumerate(ev.steps) for v in step.outputs}
        own = {name[1:]: found for name, found in ev.named_values.items() if name.startswith("d")}
        closed = trace(lambda floats: problem.by_autodiff(floats, own=marked), problem.arguments, comparison.mode)
        jaxpr = of_jaxpr(closed, problem.arguments, comparison.mode)

        def pulled(values):
            """∂J/∂v of every named v, where those in `values` are put in their places downstream; the leaves."""
            met: dict[str, list] = {}

            def pull(name, dv):
                met.setdefault(name, []).append(dv)
                return values[name][len(met[name]) - 1] if name in values else dv

            ev.pull = pull
            leaves = jaxpr(ev, balls)
            return met, leaves

        true, true_leaves = pulled({})
        values = {name: in_order([v for _, v in own[name]], true[name]) for name in own if name in true}
        values = {name: v for name, v in values.items() if v is not None}
        expected, expected_leaves = pulled(values)
        leaf_ok = [same([h], [t]) for h, t in zip(hand, true_leaves, strict=True)]
        scaled = [c for name in values if (c := factor(values[name], true[name])) is not None]
        if scaled and any(ok and not same([h], [e]) for ok, h, e in zip(leaf_ok, hand, expected_leaves, strict=True)):
            # m ∂J/∂z for ∂J/∂z, as courses have it, and 1/m further down: no fault
            values = {name: [wrap(v / scaled[0]) for v in its] for name, its in values.items()}
            expected, expected_leaves = pulled(values)
        out = [(own[name][-1][0], link(f"d{name}", values[name], true[name], expected[name])) for name in values]
        out += [
            (where.get(id(h), 0), link(path, [h], [t], [e]))
            for path, h, t, e in zip(problem.paths[:n], hand, true_leaves, expected_leaves, strict=False)
        ]
    return tuple(link for _, link in sorted(out, key=lambda pair: pair[0]))


def link(name, mine, true, expected):
    judged = judge_all(mine, true)
    digits = min(j.digits for j in judged)
    if all(j.verdict == PASS for j in judged):
        return Link(name, PASS, False, digits)
    return Link(name, FAIL, same(mine, expected), digits)


def judge_all(mine, true):
    whole = max((magnitude(t) for t in true), default=arb(0))
    return [judge(a, t, whole if whole > 0 else s) for a, t, s in zip(mine, true, scales(true), strict=True)]


def same(mine, true):
    return all(j.verdict == PASS for j in judge_all(mine, true))


def in_order(mine, true):
    """Mine as a list like true: one array of all steps taken apart, and in the order of a loop that runs the other way
    if that agrees better; None where shapes differ."""
    if len(mine) == 1 and mine[0].shape == (len(true), *true[0].shape) != true[0].shape:
        mine = [wrap(v) for v in mine[0]][::-1]
    if [v.shape for v in mine] != [v.shape for v in true]:
        return None
    return max((mine, mine[::-1]), key=lambda its: sum(same([a], [b]) for a, b in zip(its, true, strict=True)))


def factor(mine, true):
    """c ≠ 1 where mine is c times true, else None."""
    pairs = [(a, t) for m, v in zip(mine, true, strict=True) for a, t in zip(m.flat, v.flat, strict=True)]
    a, t = max(pairs, key=lambda pair: abs(pair[1].mid()))
    if t.contains(0) or (a / t).contains(1):
        return None
    return a / t if same(mine, [wrap(v * (a / t)) for v in true]) else None


def unlinked(comparison):
    """Of each named cotangent that is no link: why."""
    if comparison.hand is None or comparison.scalar is None:
        return
    forward = {name for name, _ in names(comparison.scalar.jaxpr)}
    for name, used in dict(names(comparison.hand.jaxpr)).items():
        if name.startswith("d") and name[1:] in forward and not used:
            yield f"{name} is named but not used: go on with what checkpoint_name returns"
        elif name.startswith("d") and name[1:] and forward and name[1:] not in forward:
            yield f"{name} is no link: the forward pass names no {name[1:]}"


def names(jaxpr):
    """(name, whether what has it is used) of every named value."""
    used = {v for eqn in jaxpr.eqns for v in eqn.invars if not isinstance(v, Literal)}
    used |= {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "name":
            yield eqn.params["name"], eqn.outvars[0] in used
        for inner in jaxprs_in_params(eqn.params):
            yield from names(inner)
