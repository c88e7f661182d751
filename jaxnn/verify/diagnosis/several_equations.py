"""What mistakes in a known formula of several equations change on the way back: in the gradient of a loss, a softmax,
a normalisation; and what two equations, or all before a value, have changed at once.
"""

import itertools

import numpy as np

from jaxnn.verify.arithmetic.balls import is_float
from jaxnn.verify.diagnosis.edit import Edit, after
from jaxnn.verify.diagnosis.values import softmax
from jaxnn.verify.tracing.floats import logistic

PAIRS = 150  # of factors that may have been exchanged
CUTS = 12  # values before which somebody may have computed all again


def losses(tape, notes, n, active, edit):
    """The gradient of another loss: another prediction P of z, or another target Y, in dz = c (P − Y)."""
    (out,) = tape.outs[n]
    z, label = tape.values[out], notes.label(out)
    given = [v for v in notes.candidates if v not in tape.active and np.shape(tape.values[v]) == np.shape(z)]
    for axis in range(-1, -1 - max(1, min(2, np.ndim(z))), -1):  # of the classes: the last, or the first of columns
        P: dict = {"the sigmoid": logistic, "the value itself": lambda z: z, "the tanh": np.tanh}
        targets: dict = {v: lambda tape, v=v: tape.values[v] for v in given}
        targets["nothing"] = lambda tape: np.zeros(np.shape(z))  # as of a log Σ exp
        if np.ndim(z) > 1:
            other = 0 if axis != -np.ndim(z) else -1
            P["the softmax"] = lambda z, axis=axis: softmax(z, axis)
            P["the softmax over the other axis"] = lambda z, other=other: softmax(z, other)
            P["the largest alone"] = lambda z, axis=axis: (z == z.max(axis, keepdims=True)).astype(float)
            if classes(tape.true[out], softmax(z, axis), axis) is not None:
                targets["the target"] = lambda tape, axis=axis: classes(
                    tape.true[out], softmax(tape.values[out], axis), axis
                )
        pairs = itertools.product(list(P)[:4], targets)
        right = (its for its in pairs if factor(tape.true[out], P[its[0]](z) - targets[its[1]](tape), axis))
        name, y = next(right, (None, None))
        if name:
            break
    if name is None:
        return
    Y, target = targets[y], notes.label(y) if y in given else y

    def of(kind, tags, what, instead, other=""):
        """instead(tape): P − Y."""

        def change(tape, D):
            residual = P[name](tape.values[out]) - Y(tape)
            return D / np.where(residual == 0, np.inf, residual) * instead(tape)

        return tags, edit(kind, what, changes=after(tape, n, active, change), other=other)

    for other in P.keys() - {name}:
        kind = "wrong_axis" if "axis" in other else "derivative_of_other_function"
        its = lambda tape, f=P[other]: f(tape.values[out]) - Y(tape)  # noqa: E731
        yield of(kind, [other], f"{name} of {label}", its, other)
    for w in notes.terms(out):
        what = f"{label}, in the gradient of the loss,"
        rest = lambda tape, w=w: P[name](tape.values[out] - tape.values[w]) - Y(tape)  # noqa: E731
        yield of("stale_residual", notes.tags(w, n), what, rest, f"{label} without {notes.label(w)}")
        if np.shape(tape.values[w]) == np.shape(z):
            alone = lambda tape, w=w: P[name](tape.values[w]) - Y(tape)  # noqa: E731
            yield of("stale_residual", [("alone", tag) for tag in notes.tags(w, n)], what, alone, notes.label(w))
    for w in notes.like(np.shape(z), out, n) + notes.like(np.shape(z)[-1:], out, n) * (np.ndim(z) > 1):
        its = lambda tape, w=w: tape.values[w] - Y(tape)  # noqa: E731
        yield of("stale_residual", [("P", tag) for tag in notes.tags(w, n)], f"{name} of {label}", its, notes.label(w))
    for axis, shift, f in itertools.product(range(np.ndim(z)), (1, -1), (np.roll, moved)):
        other_rows = lambda tape, by=(shift, axis), f=f: P[name](tape.values[out]) - f(Y(tape), *by)  # noqa: E731
        yield of("shifted_labels", [(axis, shift, f.__name__)], target, other_rows)
    for w in given:
        if y in given and w != y:
            its = lambda tape, w=w: P[name](tape.values[out]) - tape.values[w]  # noqa: E731
            kind = "shifted_labels" if notes.sites_differ(w, y) else "stale_residual"
            yield of(kind, notes.tags(w, n), target, its, notes.label(w))


def classes(D, P, axis):
    """Y, one 1 among the classes, of D = c (P − Y) with a number c for each example; None if that is not what D is."""
    with np.errstate(all="ignore"):
        c = np.median(D / P, axis, keepdims=True)
        Y = P - D / c
    whole = np.isfinite(Y).all() and np.allclose(Y, np.round(Y), 0, 1e-9) and (np.round(Y).sum(axis) == 1).all()
    return np.round(Y) if whole else None


def factor(D, residual, axis):
    """Whether D is the residual, times a number for each example, or for each entry of a mask."""
    with np.errstate(all="ignore"):
        c = D / residual
    if not np.isfinite(c).all():
        return False
    spread = np.ptp(c, axis=axis) if np.ndim(c) else 0.0
    return np.max(spread) <= 1e-9 * np.abs(c).max() or len(np.unique(np.round(c / np.abs(c).max(), 9))) <= 2


def moved(x, shift, axis):
    """np.roll with zeros for what comes in at the end."""
    index = np.arange(x.shape[axis]) - shift
    there = (index >= 0) & (index < x.shape[axis])
    return np.roll(x, shift, axis) * there.reshape([-1 if k == axis else 1 for k in range(x.ndim)])


def of_softmax(tape, notes, out, edit):
    """A softmax, and what its derivative is mistaken for."""
    a = tape.values[out]
    alike = [v for v in range(out) if v in tape.active and np.shape(tape.values[v]) == np.shape(a) != ()]
    axes = {
        v: axis
        for v in alike
        for axis in range(-1, -1 - np.ndim(a), -1)
        if a.shape[axis] > 1 and np.allclose(a, softmax(tape.values[v], axis), 1e-9, 1e-12)
    }
    enters = [
        (n, i) for v in axes for n, i in notes.uses[v] if n < notes.made[out] and {*tape.outs[n]} & tape.true.keys()
    ]
    if not enters:
        return
    key = enters[0]
    root = tape.ins[key[0]][key[1]]
    axis = axes[root]
    what = f"the softmax of {notes.label(root)}"
    wrong: dict = {
        ("missing_activation_derivative", ""): lambda A, D: D,
        ("derivative_of_other_function", "A(1 − A), the derivative of a sigmoid,"): lambda A, D: A * (1 - A) * D,
        ("path_left_out", "its sum"): lambda A, D: A * D,
        ("stale_residual", "the sum of the cotangents alone"): lambda A, D: A * (D - D.sum(axis, keepdims=True)),
        ("stale_residual", "1"): lambda A, D: D - (A * D).sum(axis, keepdims=True),
    }
    for k in range(-np.ndim(a), 0):
        if k != axis:
            wrong["wrong_axis", k] = lambda A, D, k=k: A * (D - (A * D).sum(k, keepdims=True))
    for (kind, instead), back in wrong.items():

        def change(tape, D, part, back=back):
            A, d = tape.values[out], D(out)
            return back(A, d) - A * (d - (A * d).sum(axis, keepdims=True))

        yield [(kind, instead)], edit(kind, what, changes={key: change}, other=instead)


def of_normalised(tape, notes, n, edit):
    """y = c / s, with c = z or z − mean z, and s² = mean c² + ε or Σ c² + ε: dz = (dy − mean dy − y mean(dy y)) / s."""
    (out,) = tape.outs[n]
    y = tape.values[out]
    found = next(normalisations(tape, notes, n), None)
    if found is None:
        return
    z, axis, centred, summed = found
    key = next(its for its in notes.uses[z] if set(tape.outs[its[0]]) & tape.true.keys())

    def back(D, y, s, axis=axis, left=None, right=None, times=1.0):
        """left, right: what stands for the first and the second y."""
        left, right = y if left is None else left, y if right is None else right
        over = np.sum if summed else np.mean
        mean = D.mean(axis, keepdims=True) if centred else 0.0
        return (D - times * mean - times * left * over(D * right, axis, keepdims=True)) / s

    sums = f"each sum in the derivative of {notes.label(out)}"

    def of(kind, tag, wrong, what=sums, other=""):
        def change(tape, D, part):
            x, y, d = tape.values[z], tape.values[out], D(out)
            c = x - x.mean(axis, keepdims=True) if centred else x
            square = (np.sum if summed else np.mean)(c**2, axis, keepdims=True)
            s = np.abs(c / y).max(axis, keepdims=True)
            return wrong(d, y, c, s, np.sqrt(square)) - back(d, y, s)

        return [tag], edit(kind, what, changes={key: change}, other=other)

    for k in range(y.ndim):
        if k != axis % y.ndim:
            yield of("wrong_axis", ("axis", k), lambda D, y, c, s, s0, k=k: back(D, y, s, k))
            share = y.shape[k] / y.shape[axis]  # of a sum, still divided by the right size
            yield of("wrong_axis", ("sum", k), lambda D, y, c, s, s0, k=k, times=share: back(D, y, s, k, times=times))
    what = f"in the length of {notes.label(z)}"
    yield of("guard_ignored", "s0", lambda D, y, c, s, s0: back(D, y, s0), what)
    yield of("guard_ignored", "s0 y0", lambda D, y, c, s, s0: back(D, c / s0, s0), what)
    words = f"{notes.label(out)}, in its derivative,", notes.label(z)
    yield of("stale_residual", "cc", lambda D, y, c, s, s0: back(D, y, s, left=c, right=c), *words)
    yield of("stale_residual", "cy", lambda D, y, c, s, s0: back(D, y, s, left=c), *words)
    yield of("stale_residual", "yc", lambda D, y, c, s, s0: back(D, y, s, right=c), *words)
    words = f"{notes.label(out)}, in its derivative,", "1"
    yield of("stale_residual", "1y", lambda D, y, c, s, s0: back(D, y, s, left=np.ones_like(y)), *words)
    yield of("stale_residual", "y1", lambda D, y, c, s, s0: back(D, y, s, right=np.ones_like(y)), *words)
    words = f"the length of {notes.label(z)}, in the derivative of {notes.label(out)},", "its square"
    yield of("stale_residual", "s²", lambda D, y, c, s, s0: back(D, y, s**2), *words)
    yield of(
        "path_left_out", "1/s", lambda D, y, c, s, s0: back(D, y, 1.0), notes.label(z), "the division by its length"
    )
    if not summed:
        size = y.shape[axis]
        yield of("missing_mean", "sums", lambda D, y, c, s, s0: back(D, y, s, times=size), sums, f"{size}")


def normalisations(tape, notes, n):
    """(z, axis, whether its mean is taken off, whether s² is a sum) where step n makes y of it."""
    (out,) = tape.outs[n]
    y = tape.values[out]
    if np.ndim(y) == 0 or not (y != 0).all():
        return
    for z in range(out):
        x = tape.values[z]
        if z not in tape.active or np.shape(x) != y.shape or z in notes.root:
            continue
        for axis, centred in itertools.product(range(-1, -1 - y.ndim, -1), (True, False)):
            c = x - x.mean(axis, keepdims=True) if centred else x
            s = c / y
            if y.shape[axis] > 2 and np.allclose(s, s.max(axis, keepdims=True), 1e-9):
                for summed, square in enumerate(((c**2).mean(axis), (c**2).sum(axis))):
                    guard = s.max(axis) ** 2 - square
                    if np.ptp(guard) < 1e-9 * square.max():
                        yield z, axis, centred, bool(summed)


def exchanges(tape, notes):
    """Two factors that stand in each other's place."""
    products = [n for n, step in enumerate(tape.steps) if step.name in ("dot_general", "mul") and n not in notes.inner]
    slots = [
        (n, i) for n in products for i, v in enumerate(tape.ins[n]) if v in tape.active and tape.outs[n][0] in tape.true
    ]
    partner = lambda n, i: tape.values[tape.ins[n][1 - i]]  # noqa: E731
    slots = [key for key in slots if np.ndim(partner(*key)) and is_float(partner(*key))]
    pairs = [
        pair
        for pair in itertools.combinations(slots, 2)
        if np.shape(partner(*pair[0])) == np.shape(partner(*pair[1]))
        and pair[0][0] != pair[1][0]
        and not np.array_equal(partner(*pair[0]), partner(*pair[1]))
    ]
    for one, other in pairs[:PAIRS]:

        def change(key, b):
            def of(tape, D, part):
                n, i = key
                inputs = list(tape.steps[n].inputs)
                inputs[1 - i] = tape.values[b]
                return tape.part(n, i, [D(tape.outs[n][0])[None]], inputs)[0] - part

            return of

        a, b = (tape.ins[n][1 - i] for n, i in (one, other))
        what = f"{notes.label(a)} and {notes.label(b)}"
        yield Edit("swapped_operands", what, notes.place(one[0]), {one: change(one, b), other: change(other, a)})


def recomputed(tape, notes, other, kind, what):
    """Edits of those whose backward pass computes again, from something else, what came before a value."""
    differs = {v for v, (x, y) in enumerate(zip(tape.values, other.values, strict=True)) if not np.array_equal(x, y)}
    cuts = [
        v
        for v in sorted(differs)
        if v in tape.true and np.ndim(tape.values[v]) and notes.made.get(v, -1) not in notes.inner
    ]
    steps = [n for n, ins in enumerate(tape.ins) if differs.intersection(ins) and len(tape.outs[n]) == 1]
    for cut in cuts[:CUTS]:

        def change(n, i):
            return lambda tape, D, part: (
                tape.part(n, i, [D(tape.outs[n][0])[None]], tape.others[what].steps[n].inputs)[0] - part
            )

        its = [(n, i) for n in steps if n <= notes.made[cut] for i, v in enumerate(tape.ins[n]) if v in tape.active]
        place = f"where what is before {notes.label(cut)} is computed again"
        yield Edit(kind, what, place, {key: change(*key) for key in its}, linear=False)
