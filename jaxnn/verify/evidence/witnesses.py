"""Other ways to the derivative, and what follows from who agrees with whom.

differences    of the forward pass alone, at high precision, along random directions: no derivative rule takes part
reference      a NumPy gradient that the user gave
"""

import flint
import numpy as np

from jaxnn.verify.arithmetic import numpy_code
from jaxnn.verify.arithmetic.balls import enter, wrap
from jaxnn.verify.arithmetic.decisions import Undecided, Unsupported
from jaxnn.verify.arithmetic.evaluation import Evaluation
from jaxnn.verify.evidence.comparison import of_jaxpr, of_numpy
from jaxnn.verify.evidence.differences import difference, random_direction
from jaxnn.verify.evidence.judge import judge, scales
from jaxnn.verify.reports.findings import PASS, Witness
from jaxnn.verify.tracing.jaxprs import trace, without_rules

PRECISION = 400


def testimony(problem, comparison, outcome, options, directions, deadline):
    """(witnesses, sentences) at one point."""
    ev = Evaluation(PRECISION, outcome.rounded[:1], deadline=deadline)
    balls = [enter(v) for v in outcome.floats]
    witnesses, said = [], []
    with flint.ctx.workprec(PRECISION):
        hand, true = comparison.claim(ev, balls), comparison.truth(ev, balls)
        if ev.ties.pairs or not all(v.is_finite() for leaf in (*hand, *true) for v in leaf.flat):
            return (), []
        if comparison.scalar is not None:
            side = of_jaxpr(comparison.scalar, problem.arguments, comparison.mode)
            if all(v.is_finite() for leaf in side(ev, balls) for v in leaf.flat):
                witness = differences(problem, side, ev, balls, hand, true, directions)
                witnesses.append(witness)
                said += what_differences_say(witness, agree(hand, true), stops(comparison.scalar.jaxpr))
            said += custom_rules(problem, comparison, ev, balls, hand, true)
        if options.reference is not None:
            witness = reference(problem, options.reference, ev, balls, hand, true)
            witnesses.append(witness)
            if not witness.agrees_with_truth:
                said.append(
                    "The reference agrees with the hand rule: the formula was derived wrongly in both."
                    if witness.agrees_with_hand
                    else "The reference is wrong, and differently."
                )
    return tuple(witnesses), said


def differences(problem, scalar, ev, balls, hand, true, count):
    slopes: list = []
    along_hand: list = []
    along_true: list = []
    wanted = problem.arguments.differentiated
    for k in range(count):
        ways = {i: random_direction((k, i), balls[i].shape) for i in wanted}
        slopes.append(difference(scalar, ev, balls, ways))
        for sums, leaves in ((along_hand, hand), (along_true, true)):
            sums.append(sum(np.sum(v * ways[i]) for i, v in zip(wanted, leaves, strict=False)))
    its, hand, true = ([np.array(v, object)] for v in (slopes, along_hand, along_true))
    return Witness("differences at high precision", *compared(its, hand, true))


def reference(problem, f, ev, balls, hand, true):
    taken = lambda floats: problem.taken(f(*problem.arguments.build(floats)))  # noqa: E731
    try:
        its = of_numpy(taken)(ev, balls)
    except (Unsupported, Undecided):
        its = [
            numpy_code.to_balls(v)
            for v in taken([np.array([float(b.mid()) for b in v.flat]).reshape(v.shape) for v in balls])
        ]
    n = len(its)
    return Witness("reference", *compared([wrap(v) for v in its], hand[:n], true[:n], 9))


def custom_rules(problem, comparison, ev, balls, hand, true):
    """What is to be said of custom derivative rules in the forward pass."""
    names: list[str] = []
    without_rules(comparison.scalar.jaxpr, names)
    if not names or problem.by_autodiff is None:
        return
    ruled = trace(lambda floats: problem.by_autodiff(floats, own=lambda J: J), problem.arguments, comparison.mode)
    its = of_jaxpr(ruled, problem.arguments, comparison.mode)(ev, balls)
    if not agree(its, true):
        whose = f"The custom rule of {', '.join(dict.fromkeys(names))} in the forward pass"
        also = ", and the hand rule agrees with it" if agree(hand, its) else ""
        yield f"{whose} is not the derivative of what it computes (a surrogate gradient, or wrong){also}."


def compared(its, hand, true, digits=12):
    """(agrees with hand, agrees with truth, digits of the latter)."""
    to_truth = [judge(a, t, s, digits) for a, t, s in zip(its, true, scales(true), strict=True)]
    return agree(its, hand, digits), all(j.verdict == PASS for j in to_truth), min(j.digits for j in to_truth)


def agree(a, b, digits=12):
    return all(judge(x, y, s, digits).verdict == PASS for x, y, s in zip(a, b, scales(b), strict=True))


def what_differences_say(witness, right, stop):
    if witness.agrees_with_truth:
        return []
    why = "the forward pass has a stop_gradient" if stop else "autodiff is not the derivative of what is computed"
    if right:
        return [
            f"Differences of the forward pass disagree with autodiff and the hand rule: {why}, a surrogate gradient."
        ]
    if witness.agrees_with_hand:
        return [f"The hand rule is the derivative of what is computed, autodiff is not: {why}."]
    return []


def stops(jaxpr):
    """Whether there is a stop_gradient in it."""
    inner = [
        getattr(v, "jaxpr", v)
        for eqn in jaxpr.eqns
        for v in eqn.params.values()
        if hasattr(getattr(v, "jaxpr", v), "eqns")
    ]
    return any(eqn.primitive.name == "stop_gradient" for eqn in jaxpr.eqns) or any(map(stops, inner))
