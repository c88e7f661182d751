"""What is wrong with a wrong gradient: each known mistake makes a gradient of its own, and one of these is the user's.

The mistakes are made in the derivative of the user's cost (knobs.py), in the leaves of the true gradient, and in the
data. A cause is listed if its gradient is the wrong one at two points, in float64, and leaves the right leaves right.
"""

import itertools
import math
from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from jaxnn.verify.approximate import Approximation
from jaxnn.verify.knobs import Board, Value, run
from jaxnn.verify.mistakes import RANK, TEXTS
from jaxnn.verify.points import redraw
from jaxnn.verify.report import Cause
from jaxnn.verify.sides import Problem, sides
from jaxnn.verify.sides import run as run_in_floats
from jaxnn.verify.trace import trace, value_and_gradient, without_rules
from jaxnn.verify.traced import as_jax

KNOBS = 600
ENTRIES = 3e7  # of all gradients together
GUARDS = 4
ALIKE = 3  # causes that say the same of the same leaves


class Facts(NamedTuple):
    """What is known of the true gradient at some points, whatever the rule: one vector v of all entries of all leaves,
    at one point after the other, in float64."""

    paths: tuple[str, ...]
    shapes: list
    points: int
    leaf: np.ndarray  # of each entry of v
    point: np.ndarray
    true: np.ndarray
    scale: np.ndarray  # of the leaf, at the point
    params: np.ndarray  # what is differentiated, entry by entry
    knobs: list  # (Knob, amount)
    turned: np.ndarray  # (knobs, entries)
    shifted: list  # (kind, what was shifted, v)
    m: int | None  # examples
    sizes: set  # of what a mean may be taken over

    def part(self, v, k):
        """Leaf k of v, for each point."""
        return v[self.leaf == k].reshape(self.points, *self.shapes[k])

    def is_vector(self, k):
        return math.prod(self.shapes[k]) == max(self.shapes[k], default=1)

    def with_part(self, k, values):
        """The truth, but for leaf k."""
        out = self.true.copy()
        out[self.leaf == k] = np.ravel(values)
        return out


class Guess(NamedTuple):
    kind: str
    words: dict
    predicted: np.ndarray


def causes(problem: Problem, both, outcome, again, args, seed):
    """`Cause`s of a wrong gradient, likeliest first; () of a rule, or of a cost, that is not traced."""
    if problem.scalar is None or both.claim is None:
        return ()
    plain = problem
    if not (both.hand and both.scalar):
        problem, both = in_jax(problem, both), sides(in_jax(problem, both))
    if not (both.hand and both.scalar and both.mode.x64):
        return ()
    its = problem.arguments
    new = redraw("generic", its.floats, its.dtypes, problem.redrawn, problem.always, np.random.default_rng(seed))
    start = outcome.floats if [v.shape for v in outcome.floats] == [v.shape for v in its.floats] else its.floats
    points = [list(start), new]
    others = lambda args: in_jax(again(args), both)  # noqa: E731
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        try:
            facts = facts_of(problem, both, points, others, args)
            hand = hand_of(problem, both, points)
            if not facts or not is_what_it_was(hand, plain, points):
                return ()
            scaled = [[7 * v if i in problem.always else v for i, v in enumerate(floats)] for floats in points]
            return explained(facts, hand, hand_of(problem, both, scaled) / 7 if problem.always else hand)
        except Exception:  # a cost has many ways not to bear knobs; the verdict stands without an explanation
            return ()


def is_what_it_was(hand, problem, points):
    """Whether the traced rule gives what the user's own code gives."""
    n = len(problem.arguments.differentiated)
    ours = np.concatenate([flat(run_in_floats(problem.claim, floats, np.float64)[:n]) for floats in points])
    return np.allclose(hand, ours, 1e-7, 1e-9 * np.abs(ours).max(initial=0))


def in_jax(problem, both):
    """The problem with its NumPy code as JAX code."""
    if both.hand is None:
        problem = replace(problem, claim=as_jax(problem.claim))
    if both.scalar is None:
        scalar, n = as_jax(problem.scalar), len(problem.arguments.differentiated)

        def truth(floats):
            J, grads = value_and_gradient(scalar, floats, problem.arguments.differentiated)
            return [*grads, *[J] * (len(problem.paths) - n)]

        problem = replace(problem, scalar=scalar, truth=truth)
    return problem


# Facts


def facts_of(problem, both, points, again, args):
    """The `Facts`, None where there are too many entries for them."""
    its, m = problem.arguments, examples_of(problem)
    asked = its.differentiated
    knobs, evaluate, sizes = turned(problem, both, points[0], m)
    entries = [its.floats[i].size for i in asked]
    if len(knobs) * sum(entries) * len(points) > ENTRIES:
        return None
    found = [evaluate(floats) for floats in points]
    true = np.concatenate([flat(leaves) for leaves, _ in found])
    leaf = np.tile(np.repeat(np.arange(len(asked)), entries), len(points))
    point = np.repeat(np.arange(len(points)), sum(entries))
    largest = np.array([np.abs(true[point == p]).max(initial=0) for p in range(len(points))])
    scale = np.array(
        [
            [np.abs(true[(leaf == k) & (point == p)]).max(initial=0) for p in range(len(points))]
            for k in range(len(asked))
        ]
    )
    return Facts(
        problem.paths[: len(asked)],
        [its.floats[i].shape for i in asked],
        len(points),
        leaf,
        point,
        true,
        np.maximum(scale[leaf, point], 1e-6 * largest[point] + 1e-300),
        np.concatenate([flat([floats[i] for i in asked]) for floats in points]),
        knobs,
        np.concatenate([rows for _, rows in found], axis=1),
        list(shifts(problem, both, points, again, args, m)),
        m,
        sizes,
    )


def flat(leaves):
    return np.concatenate([np.ravel(np.asarray(v, np.float64)) for v in leaves])


def hand_of(problem, both, points):
    """What the rule says, as the vector of `Facts`."""
    return np.concatenate([gradient_at(both.hand, problem, both, floats) for floats in points])


def gradient_at(closed, problem, both, floats):
    out = Approximation()(closed, [np.asarray(floats[i], np.float64) for i in both.free(problem)])
    return flat(out[: len(problem.arguments.differentiated)])


def examples_of(problem):
    """How many examples there are: the size that all data share in their first axis, or in their last; None if none."""
    its = problem.arguments
    asked = {its.positions[i] for i in its.differentiated} - {its.positions[i] for i in problem.always}
    args = its.treedef.unflatten(its.leaves)
    data = [np.shape(v) for n, arg in enumerate(args) if n not in asked for v in jax.tree.leaves(arg) if np.ndim(v)]
    for axis in (0, -1):
        shared = {shape[axis] for shape in data}
        if len(shared) == 1:
            return shared.pop()
    return data[0][0] if data else None


def turned(problem, both, floats, m):
    """(the knobs; a function of floats: the true leaves, and a row for each knob; over what a mean may be taken)."""
    its = problem.arguments
    jaxpr, consts = without_rules(both.scalar.jaxpr, []), both.scalar.consts
    free, asked, every = list(both.free(problem)), its.differentiated, both.mode.every

    def J(params, data, board):
        data, values = iter(data), []
        for i in free:
            name = its.paths[i] or its.names[its.positions[i]]
            if i in asked:
                k = asked.index(i)
                values.append(Value(params[k], active=True, name=name, leaf=(k, lambda w: w)))
            else:
                values.append(Value(next(data), data=True, name=name))
        board.leaves = [v for v in values if v.leaf]
        cost = run(board, jaxpr, consts, values)[0].x
        return cost + sum(board.extra)

    def split(floats):
        return tuple(
            [np.asarray(floats[i], np.float64) for i in free if (i in asked) == params] for params in (True, False)
        )

    boards: list[Board] = []
    has_data = len(its.leaves) > len(asked) + len(problem.always)

    def tests(params, data):
        boards.append(Board(m, every))
        J(params, data, boards[0])
        return list(boards[0].tests.values())

    closed = jax.make_jaxpr(tests)(*split(floats))
    found = Approximation()(closed, [v for values in split(floats) for v in values])
    answers = dict(zip(boards[0].tests, map(bool, found), strict=True))
    knobs: list[tuple] = []

    def gradients(params, data):
        plain = Board(m, every, answers=answers, amounts=())
        J(params, data, plain)
        offsets = [jnp.zeros(v.x.shape) for v in plain.values]
        moved = lambda params, offsets: J(params, data, Board(m, every, answers=answers, amounts=(), offsets=offsets))  # noqa: E731
        true, cotangents = jax.grad(moved, (0, 1))(params, offsets)
        for v, dv in zip(plain.values, cotangents, strict=True):
            v.cotangent = dv
        notes = Board(m, every, true, plain.values, answers=answers, per_step=plain.per_step)
        J(params, data, notes)
        rows = [({n: t}, t) for n, knob in enumerate(notes.knobs[:KNOBS]) for t in knob.values or (1.0,)]
        guards = [n for n, knob in enumerate(notes.knobs) if knob.kind == "guard_ignored"][:GUARDS]
        rows += [
            (dict.fromkeys(some, -1.0), -1.0)
            for k in range(2, len(guards))
            for some in itertools.combinations(guards, k)
        ]
        found = [(notes.knobs[min(its)], t) for its, t in rows]
        knobs[:] = [(knob._replace(penalty=knob.penalty and has_data), t) for knob, t in found]
        amounts = np.zeros((len(rows), notes.met))
        for row, (its, _) in enumerate(rows):
            amounts[row, list(its)] = list(its.values())

        def turn(amounts):
            board = Board(
                m,
                every,
                true,
                plain.values,
                answers=answers,
                amounts=amounts,
                per_step=plain.per_step,
            )
            return jax.grad(lambda params: J(params, data, board))(params)

        return true, jax.vmap(turn)(jnp.asarray(amounts))

    closed = jax.make_jaxpr(gradients)(*split(floats))

    def evaluate(floats):
        out = Approximation()(closed, [v for values in split(floats) for v in values])
        true, rows = out[: len(asked)], out[len(asked) :]
        return true, np.concatenate([np.reshape(v, (len(knobs), -1)) for v in rows], axis=1)

    shapes = [np.shape(v.x) for v in boards[0].values] + [
        np.shape(v) for v in problem.arguments.leaves if np.ndim(v) > 1
    ]
    ones = [int(np.sum(v)) for v in its.leaves if np.ndim(v) and np.isin(v, (0, 1)).all()]
    sizes = {n for shape in shapes for n in shape[:-1]} | set(ones)
    return knobs, evaluate, {n for n in sizes if n > 2} | ({m} if m and m > 1 else set())


def shifts(problem, both, points, again, args, m):
    """(kind, what is shifted, the true gradient then): labels by one example, or by one; a cotangent of ones."""
    its = problem.arguments
    truth = trace(problem.truth, its, both.mode)

    def at(change, problem=problem, truth=truth):
        return np.concatenate([gradient_at(truth, problem, both, change(floats)) for floats in points])

    if problem.always:
        ones = lambda floats: [np.ones_like(v) if i in problem.always else v for i, v in enumerate(floats)]  # noqa: E731
        yield "ignored_cotangent", "", at(ones)
    asked = {its.positions[i] for i in its.differentiated}
    for n, arg in enumerate(args):
        if n in asked or not isinstance(arg, np.ndarray | jax.Array) or m not in np.shape(arg):
            continue
        axis, arg = np.shape(arg).index(m), np.asarray(arg)
        mask = (
            bool(np.isin(arg, (0, 1)).all())
            and (arg.ndim == 1 or not (arg.sum(-1) == 1).all())
            and arg.dtype.kind == "f"
        )
        roll = {
            f"{its.names[n]} by one example {how}": (lambda v, s=s, axis=axis: np.roll(v, s, axis))
            for how, s in {"on": 1, "back": -1}.items()
        }
        if arg.dtype.kind in "iu":
            up = {
                f"{its.names[n]} {how} by one class": (lambda v, s=s: v + np.asarray(s, v.dtype))
                for how, s in {"up": 1, "down": -1}.items()
            }
            for what, f in (roll | up).items():
                other = again([*args[:n], f(arg), *args[n + 1 :]])
                yield (
                    "shifted_labels",
                    what,
                    at(lambda floats: floats, other, trace(other.truth, other.arguments, both.mode)),
                )
        else:
            for what, f in roll.items():
                move = lambda floats, f=f, n=n: [f(v) if its.positions[i] == n else v for i, v in enumerate(floats)]  # noqa: E731
                shifted = at(move)
                yield "shifted_labels", what, shifted
                if mask:
                    yield "wrong_mask", what, shifted


# Guesses


def guesses(facts, hand, wrong):
    for row, (knob, t) in sorted(enumerate(facts.knobs), key=lambda its: its[1][0].alone):
        step = facts.turned[row] - facts.true
        for amount in sorted(fitted(facts, hand, step, wrong)) if knob.linear and not knob.values else (1.0,):
            yield from of_knob(facts, knob, t * amount, facts.true + amount * step)
    yield from of_pairs(facts, hand, wrong)
    yield from of_examples(facts, hand, wrong)
    yield from of_examples(facts, hand, wrong, "step")
    for kind, what, v in facts.shifted:
        yield Guess(kind, {"what": what}, v)
    for k in wrong:
        yield from of_leaf(facts, hand, k, wrong)


def of_pairs(facts, hand, wrong):
    """Two paths that are left out, or weigh something else, at once."""
    rows = [row for row, (knob, _) in enumerate(facts.knobs) if knob.kind == "path" and knob.linear]
    steps = (facts.turned[rows] - facts.true) / facts.scale
    where = np.isin(facts.leaf, wrong)
    r = ((hand - facts.true) / facts.scale)[where]
    steps, size = steps[:, where], float(r @ r)
    for i, j in itertools.combinations(range(len(rows)), 2):
        if (steps[i] @ steps[j]) ** 2 > (1 - 1e-9) * (steps[i] @ steps[i]) * (steps[j] @ steps[j]):
            continue  # one path
        d = steps[i] + steps[j]
        t = float(d @ r / max(d @ d, 1e-300))
        if np.abs(r - t * d).max(initial=0) ** 2 < 1e-12 * size:
            predicted = facts.true + t * (facts.turned[rows[i]] + facts.turned[rows[j]] - 2 * facts.true)
            a, b = (facts.knobs[rows[k]][0] for k in (i, j))
            words = {"what": f"{a.what} and from {b.what}", "place": f"{a.place} and {b.place}", "other": a.other}
            kind, words = of_factor(facts, 1 + t, words, a.penalty and b.penalty)
            if kind != "constant_factor":
                yield Guess(kind, words, predicted)


def fitted(facts, hand, step, wrong):
    """The amounts by which some wrong leaf is met."""
    for k in wrong:
        d = step[facts.leaf == k] / facts.scale[facts.leaf == k]
        r = (hand - facts.true)[facts.leaf == k] / facts.scale[facts.leaf == k]
        if (size := d @ d) > 0:
            yield float(d @ r / size)


def of_knob(facts, knob, t, predicted):
    words = {"what": knob.what, "place": knob.place, "other": knob.other, "c": number(t)}
    if knob.kind in ("example", "step"):
        return []
    if knob.kind == "path":
        kind, words = of_factor(facts, 1 + t, words, knob.penalty)
        return [Guess(kind, words, predicted)]
    return [Guess(knob.kind, words | {"c": number(-t)} if knob.kind == "updated_weights" else words, predicted)]


def of_factor(facts, c, words, penalty=False):
    """(kind, words) of what is c times what it should be."""
    words = words | {"c": number(c), "m": facts.m}
    if abs(c) < 1e-6:
        return "missing_penalty" if penalty else "path_left_out", words
    if penalty:
        return "scaled_penalty", words
    for n in sorted(facts.sizes, key=lambda n: n != facts.m):
        for kind, factor in (("missing_mean", n), ("extra_mean", 1 / n)):
            if abs(c / factor - 1) < 1e-6:
                return kind, words | {"m": n}
    return "constant_factor", words


def of_examples(facts, hand, wrong, kind="example"):
    """Examples, or steps of a loop, that weigh something else, in all wrong leaves or in one."""
    rows = [row for row, (knob, _) in enumerate(facts.knobs) if knob.kind == kind]
    if len(rows) < 2:
        return
    for leaves in (wrong, *([k] for k in wrong)):
        where = np.isin(facts.leaf, leaves)
        its = [row for row in rows if (np.abs(facts.turned[row] - facts.true) > 1e-12 * facts.scale)[where].any()]
        if len(its) < 2:
            continue
        parts = facts.turned[its] - facts.true
        d, r = ((v / facts.scale)[..., where] for v in (parts, hand - facts.true))
        w, *_ = np.linalg.lstsq(d.T, r, rcond=1e-9)
        off = np.flatnonzero(np.abs(w + 1) < 1e-6)
        usual = np.median(w)
        predicted = facts.true + np.where(where, w @ parts, 0)
        names = kind + "s" * (len(off) > 1) + " " + ", ".join(facts.knobs[its[i]][0].what for i in off)
        rest = np.delete(w, off)
        if 0 < len(off) < len(its) - 1 and np.ptp(rest) < 1e-6:
            yield Guess("example_left_out", {"what": names}, predicted)
        if len(off) == len(its) - 1:
            which = int(np.argmax(np.abs(w + 1)))
            words = {"what": f"{kind} {facts.knobs[its[which]][0].what}", "other": "all but it", "place": "its sum"}
            vector = len(leaves) == 1 and facts.is_vector(leaves[0])
            yield Guess("bias_not_summed" if vector else "path_left_out", words, predicted)
        twice = np.flatnonzero(np.abs(w - usual) > 1e-6)
        if 0 < len(twice) < len(its) and abs(usual) < 1e-6 and np.abs(w[twice] - 1).max() < 1e-6:
            names = ", ".join(facts.knobs[its[i]][0].what for i in twice)
            yield Guess("example_counted_twice", {"what": f"{kind}{'s' * (len(twice) > 1)} {names}"}, predicted)


def of_leaf(facts, hand, k, wrong):
    """A leaf of the true gradient, changed."""
    path, ours, true = facts.paths[k], facts.part(hand, k), facts.part(facts.true, k)

    def guess(kind, values, **words):
        return Guess(kind, words, facts.with_part(k, values))

    if (size := (true**2).sum()) > 0:
        c = float((ours * true).sum() / size)
        kind, words = of_factor(facts, c, {"what": path, "other": "it", "place": "its end"})
        yield guess(kind, c * true, **words)
        yield Guess(kind, words, np.where(np.isin(facts.leaf, wrong), c * facts.true, facts.true))
        if kind == "extra_mean" and (true.ndim == 2 or true.shape[-1] == 1):
            yield guess("bias_averaged", c * true, **words)
        w = facts.part(facts.params, k)
        c = float(((w - ours) * true).sum() / size)
        yield guess(
            "updated_weights", w - c * true, what=f"{path} is returned as it is after the update: it", c=number(c)
        )
    w = facts.part(facts.params, k)
    if (size := (w**2).sum()) > 0:
        c = float(((ours - true) * w).sum() / size)
        yield guess("extra_penalty", true + c * w, c=number(c))
    if true.ndim == 3 and true.shape[1] == true.shape[2]:
        yield guess("transpose", true.swapaxes(1, 2), what=f"the gradient of {path}")
        turn = w.swapaxes(1, 2) - w
        if (size := (turn**2).sum()) > 0:
            c = float(((ours - true) * turn).sum() / size)
            yield guess("transpose", true + c * turn, what=f"{path}, in its penalty,")
        yield guess("swapped_operands", true.swapaxes(1, 2), what=f"the product that gives the gradient of {path}")
    for j, other in enumerate(facts.paths):
        if j != k and facts.shapes[j] == facts.shapes[k]:
            words = {"what": f"the gradient of {path}", "other": f"that of {other}"}
            yield guess("other_leaf", facts.part(facts.true, j), **words)
    axes = tuple(range(1, true.ndim))
    yield guess(
        "wrong_axis", np.broadcast_to(true.sum(axes, keepdims=True), true.shape), what=f"the gradient of {path}"
    )
    if true.ndim == 3:
        yield guess("transpose", true.swapaxes(1, 2).reshape(true.shape), what=f"the gradient of {path}, but reshaped,")
    rows = [row for row, (knob, _) in enumerate(facts.knobs) if knob.kind == "example"]
    if facts.is_vector(k):
        for row in rows:
            what = f"example {facts.knobs[row][0].what}"
            yield guess("bias_not_summed", facts.part(facts.turned[row] - facts.true, k), what=what)
    if rows and true[0].size == len(rows):
        parts = np.array([facts.part(facts.turned[row] - facts.true, k) for row in rows])  # (m, points, entries)
        yield guess("wrong_axis", parts.reshape(len(rows), facts.points, -1).sum(2).T, what=f"the gradient of {path}")
    off = np.abs(ours - true) > 1e-9 * np.abs(true).max()
    entries = {tuple(index[1:]) for index in np.argwhere(off).tolist()}
    if len(entries) == 1 < true[0].size:
        (entry,) = entries
        yield guess("single_entry", ours, what=f"{list(entry)} of {path}")


# From guesses to causes


class Fit(NamedTuple):
    """A guess that gives the wrong leaves, up to a factor for each; fewer factors, then more leaves, are better."""

    factors: dict  # {leaf: c ≠ 1}
    leaves: frozenset
    order: tuple
    guess: Guess
    digits: float

    @property
    def key(self):
        return len(set(self.factors.values())), -len(self.leaves), *self.order


def explained(facts, hand, sevenfold):
    """The `Cause`s, so that each wrong leaf has its own. sevenfold: what the rule makes of 7 cotangents, over 7."""
    error = np.abs(hand - facts.true) / facts.scale
    fault = [error[facts.leaf == k].max(initial=0) for k in range(len(facts.paths))]
    wrong = [k for k, error in enumerate(fault) if error > 1e-9]
    fits = []
    for order, guess in enumerate(guesses(facts, hand, wrong)):
        fit = fitting(facts, hand, guess, fault, wrong)
        if fit:
            factors, leaves, digits = fit
            fits.append(Fit(factors, leaves, (RANK[guess.kind], order), guess, digits))
    out: list[Cause] = []
    chosen: list[Fit] = []
    for fit in sorted(fits, key=lambda fit: fit.key):
        alike = {its.guess.kind for its in chosen if its.leaves == fit.leaves}
        taken = any(fit.leaves < its.leaves or (fit.factors and fit.leaves & its.leaves) for its in chosen)
        if taken or len(alike) == ALIKE or fit.guess.kind in alike:
            continue
        chosen.append(fit)
        out.append(cause(facts, fit.guess, fit.leaves, fit.digits))
        for c in dict.fromkeys(fit.factors.values()):
            kind, words = of_factor(facts, c, {})
            leaves = [k for k, its in fit.factors.items() if its == c]
            out.append(cause(facts, Guess(kind, words, hand), leaves, fit.digits, "besides, "))
    left = [k for k in wrong if not any(k in fit.leaves for fit in chosen)]
    bent = [k for k in left if (np.abs(sevenfold - hand) > 1e-7 * facts.scale)[facts.leaf == k].any()]
    if bent:
        out.append(cause(facts, Guess("nonlinear_in_cotangent", {}, hand), bent, math.nan))
        left = [k for k in left if k not in bent]
    return (*out, *([unknown(facts, hand, left)] if left else []))


def fitting(facts, hand, guess, fault, wrong):
    """(factors, leaves, digits) with which a guess is right, None if it is not."""
    factors, leaves, digits = {}, set(), 16.0
    for k in range(len(facts.paths)):
        its = facts.leaf == k
        G, H, T = (v[its] / facts.scale[its] for v in (hand, guess.predicted, facts.true))
        if np.abs(H - T).max(initial=0) < 1e-9:
            continue  # not touched
        c, enough = 1.0, max(1e-6 * fault[k], 1e-11)
        if np.abs(G - H).max() > enough and G.size > facts.points:
            c = float(G @ H / max(H @ H, 1e-300))
        if k not in wrong or np.abs(G - c * H).max() > enough:
            return None
        if abs(c - 1) > 1e-6:
            factors[k] = float(f"{c:.9g}")
        leaves.add(k)
        digits = min(digits, -math.log10(max(np.abs(G - c * H).max(), 1e-16)))
    return (factors, frozenset(leaves), digits) if leaves else None


def cause(facts, guess, leaves, digits, also=""):
    names = [facts.paths[k] for k in sorted(leaves)]
    who = "the gradient" if len(names) == len(facts.paths) > 1 else f"the gradient of {', '.join(names)}"
    sentence, fix = (text.format(**{"who": who, **guess.words}) for text in TEXTS[guess.kind])
    sentence = also + sentence
    return Cause(guess.kind, f"{sentence[0].upper()}{sentence[1:]}.", ", ".join(names), digits, fix)


def unknown(facts, hand, leaves):
    """What can be seen of a mistake that is none of the known ones."""
    parts = []
    for k in leaves:
        ours, true = (facts.part(v, k)[0] for v in (hand, facts.true))
        wrong = np.abs(ours - true) > 1e-9 * np.abs(true).max(initial=1e-300)
        pattern = f"{wrong.sum()} of {wrong.size} entries are wrong"
        rows = np.flatnonzero(wrong.reshape(len(wrong), -1).any(1)) if wrong.ndim else np.array([])
        if 0 < len(rows) <= len(wrong) / 2:
            pattern += f", in row{'s' * (len(rows) > 1)} {', '.join(map(str, rows))} alone"
        if (known := wrong & (true != 0)).any():
            ratio = ours[known] / true[known]
            pattern += f", by hand / true from {ratio.min():.3g} to {ratio.max():.3g}"
        parts.append(f"{facts.paths[k]}: {pattern}")
    sentence, fix = TEXTS["unknown"]
    names = ", ".join(facts.paths[k] for k in leaves)
    return Cause("unknown", sentence.format(what="; ".join(parts)) + ".", names, math.nan, fix)


def number(c):
    """A factor as people write it."""
    sign, size = "−" * (c < 0), abs(c)
    for d, n in itertools.product((*range(1, 11), *range(20, 1001)), range(1, 11)):
        if d == 1 and abs(size - round(size)) < 1e-6 * size and size >= 1:
            return f"{sign}{round(size)}"
        if abs(size * d / n - 1) < 1e-6:
            return f"{sign}{n}/{d}" if d > 1 else f"{sign}{n}"
    return f"{c:.6g}"
