"""What a check could have seen: the rule's own equations are changed, one at a time, and each change must be noticed.

A change that no point notices is equivalent, if it is not noticed for other data either; else it survives, and whoever
made that mistake would have passed.
"""

import time

import flint
import jax
import numpy as np
from jax import numpy as jnp
from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr, Literal, jaxprs_in_params
from jax.extend.core.primitives import closed_call_p

from jaxnn.verify.arithmetic.balls import enter, finite
from jaxnn.verify.arithmetic.decisions import Undecided
from jaxnn.verify.arithmetic.evaluation import Evaluation, short
from jaxnn.verify.evidence.comparison import of_jaxpr
from jaxnn.verify.evidence.judge import judge, scales
from jaxnn.verify.evidence.points import GENERIC, redraw
from jaxnn.verify.reports.findings import FAIL, PASS, Power, Survivor
from jaxnn.verify.tracing.jaxprs import rewritten

MUTANTS, SECONDS, FRESH = 400, 30, 5
PRECISION = 400


def power(problem, comparison, outcomes, seed):
    """The `Power` of the points that were used; None of a rule that is not traced."""
    if comparison.hand is None or comparison.numpy:
        return None
    deadline = time.monotonic() + SECONDS
    arguments = problem.arguments
    used = [o.floats for o in outcomes if o.verdict == PASS and o.evidence == "exact" and fits(o.floats, arguments)]
    rng = np.random.default_rng(seed)
    everything = tuple(range(len(arguments.floats)))
    data = [i for i in everything if i not in problem.redrawn and i not in problem.always]
    fresh = [redraw(GENERIC, arguments.floats, arguments.dtypes, everything, (), rng) for _ in range(FRESH)]
    points, others = [list(map(lambda v: Point(problem, comparison, v), some)) for some in (used, fresh)]  # noqa: C417
    killed, survivors = 0, []
    every = list(mutants(comparison.hand))
    for what, place, mutant in every[:: max(1, -(-len(every) // MUTANTS))]:
        if time.monotonic() > deadline:
            break
        if any(point.notices(mutant) for point in points):
            killed += 1
        elif any(point.notices(mutant) for point in others):
            survivors.append(Survivor(what, place, hidden(problem, comparison, mutant, data, fresh[0])))
    return Power(killed, killed + len(survivors), tuple(survivors))


def fits(floats, arguments):
    return [v.shape for v in floats] == [v.shape for v in arguments.floats]


def hidden(problem, comparison, mutant, data, fresh):
    """Why the points could not see it: which data, were they others, would have shown it."""
    its = problem.arguments
    for i in data:
        floats = [fresh[k] if k == i or k not in data else v for k, v in enumerate(its.floats)]
        if Point(problem, comparison, floats).notices(mutant):
            return f"{its.name(i)}, as it is given, hides it"
    return "it is seen only where other arguments are drawn anew too"


class Point:
    """Both sides at some floats, evaluated once; a mutant shares with them what it has not changed."""

    def __init__(self, problem, comparison, floats):
        self.problem, self.comparison = problem, comparison
        self.ev = Evaluation(PRECISION, ("literals",))
        self.balls = [enter(v) for v in floats]
        with flint.ctx.workprec(PRECISION):
            try:
                self.true = comparison.truth(self.ev, self.balls)
                self.usable = all(map(finite, self.true))
            except Undecided:
                self.usable = False

    def notices(self, mutant):
        if not self.usable:
            return False
        with flint.ctx.workprec(PRECISION):
            try:
                hand = of_jaxpr(mutant, self.problem.arguments, self.comparison.mode)(self.ev, self.balls)
            except Undecided:
                return False
        pairs = zip(hand, self.true, scales(self.true), strict=True)
        return any(judge(h, t, s).verdict == FAIL for h, t, s in pairs)


def mutants(closed):
    """(what was changed, where, the changed jaxpr) for each equation that computes with floats, inner ones too."""
    for eqn, before in equations(closed.jaxpr, {}):
        place = short(source_info_util.summarize(eqn.source_info))
        for what, mutant in changed(closed, eqn, before):
            yield what, place, mutant


def changed(closed, eqn, before):
    """(what was changed, the jaxpr with this equation changed)."""
    for what, new in mutations(eqn, before):

        def change(e, new=new):
            return new if e.outvars and e.outvars[0] is eqn.outvars[0] else e

        yield what, ClosedJaxpr(rewritten(closed.jaxpr, change), closed.consts)


def equations(jaxpr, seen):
    """Each equation with the variables that were there before it."""
    before = [*jaxpr.invars]
    for eqn in jaxpr.eqns:
        inner = list(jaxprs_in_params(eqn.params))
        for one in inner:
            if id(one) not in seen:
                seen[id(one)] = one
                yield from equations(one, seen)
        floats = [v for v in eqn.outvars if jnp.issubdtype(getattr(v.aval, "dtype", np.int32), jnp.floating)]
        if not inner and len(eqn.outvars) == 1 and floats and type(eqn.outvars[0]).__name__ != "DropVar":
            yield eqn, list(before)
        before += eqn.outvars


def mutations(eqn, before):
    """(what, the equation that takes its place)."""
    name, shape = eqn.primitive.name, eqn.outvars[0].aval.shape

    def altered(f):
        """f(out, *inputs) in the place of out."""
        avals = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars]

        def g(*xs):
            out = eqn.primitive.bind(*xs, **eqn.primitive.get_bind_params(eqn.params))
            return jnp.broadcast_to(f(out, *xs), shape).astype(eqn.outvars[0].aval.dtype)

        with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
            call = jax.make_jaxpr(g)(*avals)
        return eqn.replace(primitive=closed_call_p, params={"call_jaxpr": call})

    computes = name not in (
        "broadcast_in_dim",
        "reshape",
        "convert_element_type",
        "squeeze",
        "transpose",
        "copy",
        "name",
    )
    if computes:
        yield f"the sign of {name} flipped", altered(lambda out, *_: -out)
        if shape:
            yield f"{name} times {max(shape)}", altered(lambda out, *_: out * max(shape))
            yield f"1 % added to a row of {name}", altered(lambda out, *_: out.at[0].multiply(1.01))
    if name in ("mul", "div", "add", "sub"):
        what = "factor" if name in ("mul", "div") else "summand"
        yield f"the second {what} of {name} dropped", altered(lambda out, x, y: x)
        if name != "div":
            yield f"the first {what} of {name} dropped", altered(lambda out, x, y: -y if name == "sub" else y)
    if name == "dot_general":
        for k, v in enumerate(eqn.invars):
            if v.aval.ndim == 2 and v.aval.shape[0] == v.aval.shape[1]:
                turn = lambda out, *xs, k=k: eqn.primitive.bind(  # noqa: E731
                    *(x.T if i == k else x for i, x in enumerate(xs)), **eqn.params
                )
                yield f"operand {k + 1} of a product transposed", altered(turn)
    if name == "transpose" and len(set(shape)) == 1 and len(shape) == 2:
        yield "a transposition dropped", altered(lambda out, x: x)
    if name == "reduce_sum":
        (x,) = eqn.invars
        n = int(np.prod([x.aval.shape[a] for a in eqn.params["axes"]]))
        yield "a sum averaged", altered(lambda out, x: out / n)
        if x.aval.ndim == 2 and x.aval.shape[0] == x.aval.shape[1] and len(eqn.params["axes"]) == 1:
            yield "a sum over the other axis", altered(lambda out, x: x.sum(1 - eqn.params["axes"][0]))
    if name in ("mul", "dot_general", "sub", "add"):
        for k, v in enumerate(eqn.invars):
            if isinstance(v, Literal) or not jnp.issubdtype(v.aval.dtype, jnp.floating):
                continue
            near = [w for w in before if w is not v and same_type(w, v) and type(w).__name__ != "DropVar"][-1:]
            for w in near:
                its = [w if i == k else u for i, u in enumerate(eqn.invars)]
                yield f"operand {k + 1} of {name}: another value of its shape", eqn.replace(invars=its)


def same_type(v, w):
    return (v.aval.shape, getattr(v.aval, "dtype", None)) == (w.aval.shape, w.aval.dtype)
