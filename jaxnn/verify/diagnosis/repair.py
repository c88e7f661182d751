"""What would make a wrong rule right: at one equation of it, another value in the place of an operand, or one factor or
one summand more. For mistakes that are none of the known ones.
"""

import collections
import itertools

import numpy as np

from jaxnn.verify.arithmetic.balls import is_float
from jaxnn.verify.tracing.tape import Record

EQUATIONS = {"add", "sub", "mul", "div", "dot_general", "reduce_sum"}
OTHERS = 24  # values that may have been meant
EVALUATIONS = 60_000  # of equations, at most


def repairs(hand, points, right, names):
    """(kind, words) of each change of one equation of the rule, a jaxpr, that makes it right.

    points: its inputs, of these names, at each point; right(results, point): whether its results are right there."""
    first, *others = records = [Record(hand, inputs, unused=True) for inputs in points]
    if any((other.ins, other.outs) != (first.ins, first.outs) for other in others):
        return

    def mended(record, steps, ins, does):
        """The results where these steps are others."""
        compute = {n: lambda xs, n=n: does(lambda xs: record.again(n, xs), xs) for n in steps}
        return record.results_with({n: (compute[n], its) for n, its in zip(steps, ins, strict=True)})

    with np.errstate(all="ignore"):
        for kind, words, *change in changes(first, names):
            if first.evaluations > EVALUATIONS:
                return
            if all(right(mended(record, *change), k) for k, record in enumerate(records)):
                yield kind, words


def changes(record, names):
    """(kind, words, the steps of one equation, of which values each is now, what it does with them)."""
    equations = collections.defaultdict(list)  # in a loop one equation is several steps
    for n, step in enumerate(record.steps):
        equations[id(step.eqn) if step.eqn else n].append(n)
    inputs = dict(zip(record.inputs, names, strict=True))

    def label(v):
        shape = np.shape(record.values[v])
        return inputs.get(v) or record.label(v) or (f"the array of shape {shape}" if shape else "")

    made = {v: its for its in equations.values() for n in its for v in record.outs[n]}

    def others(v, before):
        """(value, what it is at each step) of what was there before, of the shape of v and not the same."""
        x = np.asarray(record.values[v])
        seen = {x.tobytes()}
        for w in range(before - 1, -1, -1):
            y = np.asarray(record.values[w])
            new = y.shape == x.shape and is_float(y) and y.tobytes() not in seen
            if new and label(w) and (y.size == 1 or np.ptp(y) > 0):
                seen.add(y.tobytes())
                its = made.get(w, ())
                yield w, [record.outs[n][0] for n in its] if len(its) == len(steps) else [w] * len(steps)

    for steps in equations.values():
        n = steps[-1]
        step = record.steps[n]
        if step.name not in EQUATIONS or not is_float(step.outputs[0]):
            continue
        (out,) = record.outs[n]
        for i, v in enumerate(record.ins[n]):
            for w, each in itertools.islice(others(v, out), OTHERS) if label(v) else ():
                kind = "other_leaf" if {v, w} <= {*record.inputs} else "stale_residual"
                words = {"what": label(w), "other": label(v)}
                if words["what"] == words["other"]:
                    continue
                ins = [replaced(record.ins[s], i, its) for s, its in zip(steps, each, strict=True)]
                yield kind, words, steps, ins, lambda again, xs: again(xs)
        for v, into in ((out, False), (record.ins[n][0], True)) if step.name == "reduce_sum" else ((out, False),):
            for w, each in itertools.islice(others(v, out), OTHERS):
                words = {"what": label(w), "place": step.place, "other": step.name}
                ins = [[*record.ins[s], its] for s, its in zip(steps, each, strict=True)]
                if into:
                    yield "wrong_mask", words, steps, ins, lambda again, xs: again([xs[0] * xs[1]])
                else:
                    yield "wrong_mask", words, steps, ins, lambda again, xs: again(xs[:-1]) * xs[-1]
                    yield "path_left_out", words, steps, ins, lambda again, xs: again(xs[:-1]) + xs[-1]


def replaced(its, i, new):
    return [new if k == i else v for k, v in enumerate(its)]
