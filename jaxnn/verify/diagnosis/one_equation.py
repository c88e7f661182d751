"""What a mistake at one equation changes on the way back through it.

An `Edit` adds to what goes back to the inputs; the gradient that comes out is that of somebody who made the mistake.
"""

from collections.abc import Callable

import numpy as np

from jaxnn.verify.arithmetic.balls import is_float
from jaxnn.verify.diagnosis.edit import after
from jaxnn.verify.diagnosis.values import KNOWN, is_guard, is_mask, softmax

EXAMPLES = 24  # of up to so many each one has an edit
WHERE = {"everywhere": np.ones_like, "nowhere": np.zeros_like, "on the other side": np.logical_not}


def paths(tape, notes, n, active, edit):
    """What goes back to each input."""
    for i in active:
        v = tape.ins[n][i]
        tags = [("path", i)] + [("path", i, "carried")] * (v in notes.made and v not in notes.moves)
        words: dict = {"what": notes.label(v), "other": tape.steps[n].name, "penalty": notes.is_penalty(n, v)}
        yield tags, edit("path", changes={(n, i): lambda tape, D, part: part}, values=(), **words)


def partners(tape, notes, n, i, edit):
    """Other factors than the right one."""
    b = tape.ins[n][1 - i]
    x, out, entrywise = tape.values[b], tape.outs[n][0], tape.steps[n].name == "mul"
    if not np.ndim(x) or not is_float(x):
        return
    what = notes.label(b)

    def of(kind, tags, partner, other, **words):
        """partner(tape, D) in the place of b."""

        def change(tape, D, part):
            inputs = list(tape.steps[n].inputs)
            inputs[1 - i] = partner(tape, D)
            return tape.part(n, i, [D(out)[None]], inputs)[0] - part

        return [(i, tag) for tag in tags], edit(kind, changes={(n, i): change}, other=other, **{"what": what} | words)

    if np.ndim(x) == 2 and x.shape[0] == x.shape[1]:
        yield of("transpose", ["T"], lambda tape, D: tape.values[b].T, "")
    if b in notes.moves and notes.moves[b][0] in tape.true:
        leaf, moves = notes.moves[b]

        def updated(tape, D):
            step = tape.true[leaf]
            for k in moves:
                step = tape.again(k, [step, *tape.steps[k].inputs[1:]])
            return tape.values[b] + step

        once = lambda tape, D: tape.values[b] + tape.part(n, 1 - i, [D(out)[None]])[0]  # noqa: E731
        yield of("updated_weights", ["−"], updated, "", what=notes.label(leaf), values=())
        yield of("updated_weights", ["− part"], once, "", what=notes.label(leaf), values=())
    if entrywise and b not in tape.active:
        what = notes.names.get(b) or f"the factor at {notes.place(n)}"
        ones = lambda tape, D: np.ones_like(tape.values[b])  # noqa: E731
        if b in notes.dout:
            yield of("ignored_cotangent", ["1"], ones, "", what="the result")
        else:
            yield of("wrong_mask", ["1"], ones, "", what=what)
        yield of("wrong_mask", ["1 −"], lambda tape, D: 1 - tape.values[b], "", what=what)
    if entrywise and b in tape.active:
        yield of("stale_residual", ["1 −"], lambda tape, D: 1 - tape.values[b], f"1 − {what}")
        for name in ("sigmoid", "tanh"):
            its = lambda tape, D, f=KNOWN[name].formula: f(tape.values[b])  # noqa: E731
            yield of(
                "extra_activation_derivative", [name], its, "", what=f"a {name}, in terms of {what} as its output,"
            )
    for w in notes.terms(b):
        rest = lambda tape, D, w=w: tape.values[b] - tape.values[w]  # noqa: E731
        yield of("path_left_out", [("term", tag) for tag in notes.tags(w, n)], rest, what, what=notes.label(w))
    for turn in (False, True) if np.ndim(x) == 2 and x.shape[0] != x.shape[1] else (False,):
        for w in notes.like(x.shape[::-1] if turn else x.shape, b, n):
            kind = "other_leaf" if w in notes.moves and b in notes.moves else "stale_residual"
            other = lambda tape, D, w=w, turn=turn: tape.values[w].T if turn else tape.values[w]  # noqa: E731
            yield of(kind, [(turn, tag) for tag in notes.tags(w, n)], other, notes.label(w))


def cotangents(tape, notes, n, i, edit):
    """Other cotangents than that of the result: one from before it, or of another layer."""
    v, (out,) = tape.ins[n][i], tape.outs[n]
    its = [w for w in notes.like(np.shape(tape.values[out]), out, n) if w in tape.true]
    same = {w: np.allclose(tape.true[w], tape.true[out], 1e-9, 1e-300) for w in its}
    before = {notes.root[w] for w in its if w in notes.root}
    later = [w for w in its if notes.root.get(w) in before and same.get(notes.root[w], notes.root[w] == out)]
    if v not in notes.moves and tape.steps[n].name != "dot_general":
        its = later
    for w in [w for w in its if not same[w]]:

        def change(tape, D, part, w=w):
            cotangent = D(w) if notes.made.get(w, -1) > n else tape.true[w]
            return tape.part(n, i, [cotangent[None]])[0] - part

        what = f"d({notes.label(out)}), on the way to d({notes.label(v)}),"
        kind, what = ("missing_activation_derivative", notes.label(w)) if w in later else ("stale_residual", what)
        tags = [(i, "D", tag) for tag in notes.tags(w, n)]
        yield tags, edit(kind, what, changes={(n, i): change}, other=f"d({notes.label(w)})")


def transposed(tape, notes, n, active, edit):
    """A square cotangent, or a result, transposed."""
    (out,) = tape.outs[n]
    shape = np.shape(tape.values[out])
    for i in active:
        v = tape.ins[n][i]
        x = np.shape(tape.values[v])
        if len(shape) == 2 and shape[0] == shape[1]:
            change = lambda tape, D, part, i=i: tape.part(n, i, [D(out).T[None]])[0] - part  # noqa: E731
            what = f"d({notes.label(out)}), where d({notes.label(v)}) is taken from it,"
            yield [(i, "D.T")], edit("transpose", what, changes={(n, i): change})
        if len(x) == 2:
            what = f"what comes back to d({notes.label(v)})" + ", but reshaped," * (x[0] != x[1])
            yield [(i, "part.T")], edit("transpose", what, changes={(n, i): turned})


def turned(tape, D, part):
    return part.T.reshape(part.shape) - part


def terms(n, active, x, examples, edit):
    """One example, or one position, of what goes back."""
    for axis, size in enumerate(x.shape):
        if 1 < size <= EXAMPLES and (size == examples or axis < x.ndim - 1 > 1):
            for e in range(size):
                only = np.reshape(np.arange(size) == e, [size if k == axis else 1 for k in range(x.ndim)])
                alone = {(n, i): lambda tape, D, part, i=i, only=only: part_of(tape, n, i, D, only) for i in active}
                words = {"what": f"{e}", "other": "example" if size == examples else "position"}
                yield [], edit("term", changes=alone, group=(n, axis), **words)


def part_of(tape, n, i, D, only):
    """What goes back from a part of the result; of a sum, to a part of what is summed."""
    (out,) = tape.outs[n]
    if tape.steps[n].name == "reduce_sum" and np.ndim(only) == np.ndim(tape.steps[n].inputs[0]):
        return tape.part(n, i, [D(out)[None]])[0] * only
    return tape.part(n, i, [(D(out) * only)[None]])[0]


def slopes(tape, notes, out, edit):
    """Another derivative of a function of one value."""
    root, key, n = notes.root[out], notes.entry(out), notes.made[out]
    z, a = tape.values[root], tape.values[out]
    right = notes.slope(out, tape)
    if np.ndim(z) == 0 or not np.ptp(right) > 1e-9 * np.abs(right).max():
        return
    called = notes.called.get(out, "")
    where = f"of {notes.names[root]}" if root in notes.names else f"at {notes.place(n)}"
    what = f"{called or 'the function'} {where}"

    def of(kind, tags, other, slope, cotangent=lambda D: D, **words):
        """slope(tape, f′ at the root, D) in the place of f′, cotangent(D) in that of the result's."""

        def change(tape, D, part):
            right = notes.slope(out, tape)
            with np.errstate(all="ignore"):
                new = slope(tape, right, D)
            return cotangent(D(out)) * np.where(np.isfinite(new), new, 0) - D(out) * right

        return tags, edit(kind, changes={key: change}, other=other, **{"what": what} | words)

    def taken_at(w, instead=lambda x: x):
        return lambda tape, right, D: notes.along(out, tape, tape.values[w], instead)

    yield of("missing_activation_derivative", ["1"], "", lambda tape, right, D: 1.0)
    yield of("extra_activation_derivative", ["f′²"], "", lambda tape, right, D: right**2)
    yield of("derivative_at_activation", ["f′(a)"], "at its output instead of its input", taken_at(out))
    formula: Callable = KNOWN[called].formula if called else np.zeros_like
    if called:
        other = "by the formula for its output, but of its input"
        of_input = lambda tape, right, D: formula(tape.values[root])  # noqa: E731
        yield of("derivative_at_activation", ["formula(z)"], other, of_input)
    for name in notes.functions.keys() - {called}:
        (_, slope, its), kind = KNOWN[name], "derivative_of_other_function"
        at_input = lambda tape, right, D, f=slope: f(tape.values[root])  # noqa: E731
        of_output = lambda tape, right, D, f=its: f(tape.values[out])  # noqa: E731
        yield of(kind, [name], f"the derivative of {name}", at_input)
        yield of(kind, [f"{name}(a)"], f"the derivative of {name}, in terms of the output,", of_output)
    yield of("derivative_of_other_function", ["a"], "the output", lambda tape, right, D: tape.values[out])
    yield of("derivative_of_other_function", ["2a"], "twice the output", lambda tape, right, D: 2 * tape.values[out])
    yield of("derivative_of_other_function", ["z"], "the input", lambda tape, right, D: tape.values[root])
    for w in notes.like(z.shape, root, n) if called else ():
        if not np.array_equal(tape.values[w], a):
            tags, kind = notes.tags(w, n), "stale_residual" if called == "exp" else "derivative_of_other_layer"
            yield of(kind, [(tag, "f′") for tag in tags], notes.label(w), taken_at(w))
            as_output = lambda tape, right, D, w=w: formula(tape.values[w])  # noqa: E731
            other = f"{notes.label(w)}, as if that were its output"
            yield of(kind, [(tag, "formula") for tag in tags], other, as_output)
    for w, name in notes.called.items() if called else ():
        if name != called and np.shape(tape.values[w]) == z.shape and notes.made[w] not in notes.chain[out]:
            its = lambda tape, right, D, w=w: notes.slope(w, tape)  # noqa: E731
            other = f"{notes.label(notes.root[w])}, and of {name}"
            yield of("derivative_of_other_layer", [(tag, "other") for tag in notes.tags(w, n)], other, its)
    right_slope = lambda tape, right, D: right  # noqa: E731
    yield of("ignored_cotangent", ["1"], "", right_slope, np.ones_like)
    yield of("nonlinear_in_cotangent", ["D²"], "", right_slope, np.square)
    if called:
        yield of("nonlinear_in_cotangent", ["formula(D)"], "", lambda tape, right, D: formula(D(out)))
        yield of("nonlinear_in_cotangent", ["f′(D)"], "", lambda tape, right, D: notes.along(out, tape, D(out)))
    given = {v for k in notes.chain[out] for v in tape.ins[k] if v not in tape.active and v not in notes.root}
    for v in given:
        if is_guard(tape.values[v]):
            without = taken_at(root, lambda x: np.zeros(()) if is_guard(x) else x)
            yield of("guard_ignored", ["guard"], "", without, what=f"{float(tape.values[v]):g}")
        if is_mask(tape.values[v]):
            without = taken_at(root, lambda x: np.ones_like(x) if is_mask(x) else x)
            yield of("wrong_mask", ["mask"], "", without, what=notes.names.get(v) or f"at {notes.place(n)}")
    if called in ("", "relu", "leaky relu") and notes.branches(out):
        for how, f in WHERE.items():
            if called != "relu" or how == "on the other side" or (how == "everywhere" and out in notes.in_loss):
                its = lambda tape, right, D, f=f: notes.along(out, tape, tape.values[root], where=f)  # noqa: E731
                yield of("wrong_mask", [how], how, its, what=f"1 where {notes.label(root)} is on its side")
                if not called:
                    other = "the derivative of its other branch"
                    yield of("derivative_of_other_function", [how], other, its)
        if called:
            of_cotangent = lambda tape, right, D: notes.along(out, tape, D(out))  # noqa: E731
            yield of("wrong_mask", ["D"], "", of_cotangent, what=f"1 where {notes.label(root)} > 0")


def choices(tape, notes, n, active, edit):
    """Other truth values than those that chose between two arrays."""
    which, (out,) = tape.ins[n][0], tape.outs[n]
    what = f"of where {notes.label(out)} is which"
    its: dict = {how: lambda tape, D, f=f: f(tape.values[which]) for how, f in WHERE.items()}
    its |= {"D": lambda tape, D: D(out) > 0, "a": lambda tape, D: tape.values[out] > 0}
    for how, f in its.items():

        def change(i, f=f):
            def of(tape, D, part):
                inputs = [f(tape, D), *tape.steps[n].inputs[1:]]
                return tape.part(n, i, [D(out)[None]], inputs)[0] - part

            return of

        kind = "derivative_at_activation" if how == "a" else "wrong_mask"
        words = {"what": what, "other": "taken from the result"}
        yield [how], edit(kind, changes={(n, i): change(i) for i in active}, **words)


def largest(tape, notes, n, edit):
    """Others than the largest get what goes back."""
    (v,), (out,) = tape.ins[n], tape.outs[n]
    axes = tape.steps[n].params["axes"]

    its = f"1 where {notes.label(v)} is the largest"

    def of(kind, how, weights, cotangent=lambda D: D, other="", what=its):
        def change(tape, D, part):
            x = tape.values[v]
            right = x == x.max(axes, keepdims=True)
            return np.expand_dims(cotangent(D(out)), axes) * weights(right) - part

        return [how], edit(kind, what, changes={(n, 0): change}, other=other)

    yield of("wrong_mask", "all", np.ones_like)
    yield of("wrong_mask", "others", np.logical_not)
    mean = lambda right: np.full(right.shape, 1 / np.prod([right.shape[k] for k in axes]))  # noqa: E731
    yield of("derivative_of_other_function", "mean", mean, other="the derivative of a mean")
    yield of("ignored_cotangent", "1", lambda right: right, np.ones_like, what=f"the largest of {notes.label(v)}")


def extra(tape, notes, n, active, edit):
    """A derivative that does not belong to a value."""
    (out,) = tape.outs[n]
    its = {f"a {name}": KNOWN[name].slope for name in notes.functions}
    its |= {f"a {name} with that as its output": KNOWN[name].formula for name in notes.functions}
    axes = {-1: "a softmax", 0: "a softmax over the first axis"} if np.ndim(tape.values[out]) > 1 else {}
    its |= {name: lambda z, axis=axis: softmax(z, axis) * (1 - softmax(z, axis)) for axis, name in axes.items()}
    for name, slope in its.items():
        changes = after(tape, n, active, lambda tape, D, f=slope: D * f(tape.values[out]))
        what = f"{name}, of {notes.label(out)},"
        yield [name], edit("extra_activation_derivative", what, changes=changes)
    for axis, name in axes.items():

        def jacobian(tape, D, axis=axis):
            P = softmax(tape.values[out], axis)
            return P * (D - (P * D).sum(axis, keepdims=True))

        what = f"{name}, of {notes.label(out)},"
        yield [f"J {axis}"], edit("extra_activation_derivative", what, changes=after(tape, n, active, jacobian))
    for w in [w for w in notes.like(np.shape(tape.values[out]), out, n) if notes.root.get(w) == out]:
        changes = after(tape, n, active, lambda tape, D, w=w: D * tape.values[w])
        what = f"{notes.label(w)}, as a factor of d({notes.label(out)}),"
        yield notes.tags(w, n), edit("extra_activation_derivative", what, changes=changes)
    label = notes.label(out)
    yield ["1"], edit("ignored_cotangent", label, changes=after(tape, n, active, lambda tape, D: np.ones_like(D)))
    yield ["D²"], edit("nonlinear_in_cotangent", "", changes=after(tape, n, active, lambda tape, D: D**2))
