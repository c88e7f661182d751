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
from jaxnn.verify.decisions import Undecided, Unsupported
from jaxnn.verify.knobs import Board, Value, run
from jaxnn.verify.points import redraw
from jaxnn.verify.report import Cause
from jaxnn.verify.sides import Problem, sides
from jaxnn.verify.trace import trace, value_and_gradient, without_rules
from jaxnn.verify.traced import as_jax

KNOBS = 600
ALIKE = 3  # causes that say the same of the same leaves
RANK = {  # of causes that explain as much, the earlier is the likelier
    kind: n
    for n, kind in enumerate(
        [
            *("missing_penalty", "scaled_penalty", "extra_penalty", "bias_averaged", "missing_mean", "extra_mean"),
            *("transpose", "other_leaf", "ignored_cotangent", "missing_activation_derivative"),
            *("derivative_at_activation", "derivative_of_other_function", "derivative_of_other_layer"),
            *("extra_activation_derivative", "updated_weights", "path_left_out", "swapped_operands"),
            *("constant_factor", "bias_not_summed", "wrong_axis", "stale_residual", "wrong_mask", "shifted_labels"),
            *("example_left_out", "example_counted_twice", "guard_ignored", "nonlinear_in_cotangent", "single_entry"),
            "unknown",
        ]
    )
}
TEXTS = {  # kind: (what is wrong, what would make it right)
    "missing_mean": ("{who} is {c} times too large: the mean over {n} is missing", "divide by {m}"),
    "extra_mean": ("{who} is divided by {m}, the number of examples, once too often", "leave one division by {m} out"),
    "constant_factor": ("{who} is {c} times what it should be", "divide by {c}"),
    "missing_activation_derivative": ("the derivative of {what} is missing", "multiply by it"),
    "extra_activation_derivative": (
        "the derivative of {what} is multiplied in where it does not belong",
        "leave it out",
    ),
    "derivative_at_activation": (
        "the derivative of {what} is taken {other}",
        "take it of the value that the function is applied to",
    ),
    "derivative_of_other_layer": ("the derivative of {what} is taken at {other}", "take it at its own input"),
    "derivative_of_other_function": ("{other} stands where the derivative of {what} belongs", "take its own"),
    "transpose": ("{what} is transposed", "transpose it once more"),
    "swapped_operands": ("{what}: its operands are swapped", "swap them"),
    "other_leaf": ("{other} stands where {what} belongs", "use {what}"),
    "shifted_labels": ("{what} is shifted by one", "shift it back"),
    "missing_penalty": ("the derivative of the penalty of {who} is missing", "add it"),
    "extra_penalty": ("{c} × the parameter itself is added, a penalty that the cost does not have", "leave it out"),
    "scaled_penalty": ("the derivative of the penalty of {who} is {c} times what it should be", "divide it by {c}"),
    "example_left_out": ("{what} is left out", "include it"),
    "example_counted_twice": ("{what} is counted twice", "count it once"),
    "path_left_out": ("the path from {what} through {other} at {place} is left out", "add what comes back along it"),
    "updated_weights": (
        "{what} was updated (step {c}) before the gradient was propagated through it",
        "propagate first, or keep the old one",
    ),
    "bias_not_summed": ("{who} takes {what} alone", "sum over all examples"),
    "bias_averaged": ("{who} is averaged over {n}, where the rest is summed", "sum instead"),
    "wrong_axis": ("{who} is summed over the wrong axis", "sum over the examples"),
    "ignored_cotangent": ("the cotangent is ignored: the result is that for a cotangent of ones", "multiply by it"),
    "nonlinear_in_cotangent": ("the result is not linear in the cotangent", "use it once, as a factor"),
    "single_entry": ("entry {what} alone is wrong", "look at that index"),
    "guard_ignored": ("the guard {what} at {place} is left out", "differentiate it too, or ask for fewer digits="),
    "stale_residual": ("{other} stands where {what} belongs", "use {what}"),
    "wrong_mask": ("the factor {what} is left out of the derivative", "multiply by it"),
    "unknown": ("No known mistake gives this. {what}", "name values with checkpoint_name to see where it begins"),
}
KINDS = tuple(TEXTS)


class At(NamedTuple):
    """What is known at one point, all in float64: lists of leaves."""

    hand: list
    true: list
    turned: list  # with a knob turned: leaves with an axis of knobs in front


class Guess(NamedTuple):
    kind: str
    words: dict
    predicted: list  # at each point, the leaves


def causes(problem: Problem, both, outcome, again, args, seed):
    """`Cause`s of a wrong gradient, likeliest first; () of a rule that is not traced."""
    if problem.scalar is None:
        return ()
    try:
        problem, both = for_jax(problem, both)
    except Exception:  # NumPy code that cannot be traced has many ways to say so
        return ()
    its = problem.arguments
    rng = np.random.default_rng(seed)
    floats = [
        list(outcome.floats),
        redraw("generic", its.floats, its.dtypes, problem.redrawn or its.differentiated, problem.always, rng),
    ]
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        try:
            knobs, points = turned(problem, both, floats)
        except (Unsupported, Undecided, NotImplementedError, TypeError):
            return ()
        points = [at for at in points if all(np.isfinite(v).all() for leaves in at[:2] for v in leaves)]
        if not points:
            return ()
        n = len(its.differentiated)
        facts = Facts(
            problem.paths[:n],
            points,
            knobs,
            examples_of(problem),
            [its.floats[i] for i in its.differentiated],
            floats,
            its.differentiated,
        )
        guesses = [*from_knobs(facts), *from_leaves(facts), *from_data(facts, problem, both, again, args)]
    return told(facts, guesses)


def for_jax(problem, both):
    """The problem and its sides with NumPy code traced as JAX code."""
    if both.hand is None:
        problem = replace(problem, claim=as_jax(problem.claim))
    if both.scalar is None:
        scalar = as_jax(problem.scalar)
        gradient = lambda floats: value_and_gradient(scalar, floats, problem.arguments.differentiated)  # noqa: E731
        extra = len(problem.paths) - len(problem.arguments.differentiated)
        problem = replace(
            problem, scalar=scalar, truth=lambda floats: [*gradient(floats)[1], *gradient(floats)[:1] * extra]
        )
    return (problem, both) if both.hand and both.scalar else (problem, sides(problem))


class Facts(NamedTuple):
    paths: tuple
    points: list
    knobs: list
    m: int | None  # how many examples there are
    params: list
    floats: list
    asked: tuple

    def values(self, k):
        """Of parameter k, at each point."""
        return [floats[self.asked[k]] for floats in self.floats][: len(self.points)]

    def wrong(self):
        return [
            k
            for k in range(len(self.paths))
            if any(not near(at.hand[k], at.true[k], 1e-9 * scale(at, k)) for at in self.points)
        ]


def scale(at, k):
    return max(np.abs(at.true[k]).max(initial=0), 1e-6 * max(np.abs(v).max(initial=0) for v in at.true), 1e-300)


def near(a, b, tolerance):
    return bool(np.abs(a - b).max(initial=0) <= tolerance)


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


def turned(problem, both, floats):
    """(the knobs, what is known `At` each point)."""
    its = problem.arguments
    names: list[str] = []
    jaxpr = without_rules(both.scalar.jaxpr, names)
    free, asked = list(both.free(problem)), its.differentiated
    examples = examples_of(problem)

    def J(params, data, board):
        data, values = iter(data), []
        for i in free:
            name = its.paths[i] or its.names[its.positions[i]]
            if i in asked:
                k = asked.index(i)
                values.append(Value(params[k], True, False, name, leaf=(k, lambda w: w)))
            else:
                values.append(Value(next(data), False, True, name))
        return run(board, jaxpr, both.scalar.consts, values)[0].x

    split = lambda its_floats: (  # noqa: E731
        [np.asarray(its_floats[i], np.float64) for i in asked],
        [np.asarray(its_floats[i], np.float64) for i in free if i not in asked],
    )

    def first(params, data):
        board = Board(examples)
        J(params, data, board)
        boards.append(board)
        return list(board.tests.values())

    boards: list[Board] = []
    params, data = split(floats[0])
    tests = Approximation()(jax.make_jaxpr(first)(params, data), [*params, *data])
    answers = dict(zip(boards[0].tests, map(bool, tests), strict=True))
    rows: list[tuple[int, float]] = []

    def gradients(params, data):
        plain = Board(examples, answers=answers, amounts=())
        J(params, data, plain)
        true = jax.grad(lambda params: J(params, data, Board(examples, answers=answers, amounts=())))(params)
        notes = Board(examples, true, plain.values, answers)
        J(params, data, notes)
        boards.append(notes)
        rows[:] = [(n, t) for n, knob in enumerate(notes.knobs[:KNOBS]) for t in knob.values or (1.0,)]
        amounts = np.zeros((len(rows), notes.met))
        for row, (n, t) in enumerate(rows):
            amounts[row, n] = t

        def turn(amounts):
            board = Board(examples, true, plain.values, answers, amounts)
            return jax.grad(lambda params: J(params, data, board))(params)

        return true, jax.vmap(turn)(jnp.asarray(amounts))

    closed = jax.make_jaxpr(gradients)(params, data)
    n, points = len(asked), []
    for at in floats:
        hand = in_float64(both.hand, [at[i] for i in free])[:n]
        out = Approximation()(closed, [*split(at)[0], *split(at)[1]])
        points.append(At(hand, out[:n], out[n:]))
    return [(boards[-1].knobs[k], t) for k, t in rows], points


def in_float64(closed, inputs):
    return Approximation()(closed, [np.asarray(v, np.float64) for v in inputs])


# Guesses


def from_knobs(facts):
    """One knob turned; or some of the examples weighted otherwise."""
    examples: list[int] = []
    for row, (knob, t) in enumerate(facts.knobs):
        moved = [[v[row] - true for v, true in zip(at.turned, at.true, strict=True)] for at in facts.points]
        if knob.kind == "example":
            examples.append(row)
        amounts = {1.0: 1.0} if knob.values else {a: a for a in fitted(facts, moved)}
        for amount in amounts if knob.linear else (1.0,):
            predicted = [
                [true + amount * d for true, d in zip(at.true, ds, strict=True)]
                for at, ds in zip(facts.points, moved, strict=True)
            ]
            yield from of_knob(facts, knob, t * amount, predicted)
    yield from weighted(facts, examples)


def of_knob(facts, knob, t, predicted):
    words = {"what": knob.what, "place": knob.place, "other": knob.other, "c": number(t)}
    if knob.kind == "example":
        kind = {-1: "example_left_out", 1: "example_counted_twice"}.get(round(t, 9))
        if kind:
            yield Guess(kind, words, predicted)
    elif knob.kind == "path":
        kind, words = of_factor(facts, 1 + t, words, knob.penalty)
        yield Guess(kind, words, predicted)
    else:
        yield Guess(knob.kind, words | {"c": number(-t) if knob.kind == "updated_weights" else number(t)}, predicted)


def of_factor(facts, c, words, penalty=False):
    """(kind, words) of what is c times what it should be."""
    words = words | {"c": number(c)}
    if penalty:
        return ("missing_penalty" if abs(c) < 1e-6 else "scaled_penalty"), words
    if abs(c) < 1e-6:
        return "path_left_out", words
    m = facts.m or 1
    for kind, factor in (("missing_mean", m), ("extra_mean", 1 / m)):
        if m > 1 and abs(c / factor - 1) < 1e-6:
            return kind, words | {"n": f"the {m} examples", "m": m}
    return "constant_factor", words


def fitted(facts, moved):
    """The amounts by which some wrong leaf is met, at the first point."""
    at, ds = facts.points[0], moved[0]
    for k in facts.wrong():
        size = (ds[k] ** 2).sum()
        if size > 0:
            yield float(((at.hand[k] - at.true[k]) * ds[k]).sum() / size)


def weighted(facts, rows):
    """The same weight on all examples but one."""
    for row in rows:
        others = [r for r in rows if r != row]
        m = len(rows)
        if m < 2:
            return
        predicted = [
            [
                true - (v[row] - true) + sum(v[r] - true for r in others) / (m - 1)
                for v, true in zip(at.turned, at.true, strict=True)
            ]
            for at in facts.points
        ]
        yield Guess("example_left_out", {"what": facts.knobs[row][0].what}, predicted)


def from_leaves(facts):
    """A leaf of the true gradient, changed."""
    for k in facts.wrong():
        hand, true = facts.points[0].hand[k], facts.points[0].true[k]
        c = float((hand * true).sum() / max((true**2).sum(), 1e-300))
        kind, words = of_factor(facts, c, {"what": facts.paths[k], "other": "it", "place": "the end"})
        yield leaf_guess(facts, kind, words, k, lambda at, k, c=c: c * at.true[k])
        same_c = [j for j in facts.wrong() if near(facts.points[0].hand[j], c * facts.points[0].true[j], 1e-9)]
        if len(same_c) == len(facts.wrong()) > 1:
            predicted = [[c * v if j in same_c else v for j, v in enumerate(at.true)] for at in facts.points]
            yield Guess(kind, words, predicted)
        if kind == "extra_mean" and (true.ndim == 1 or true.shape[-1:] == (1,)):
            yield leaf_guess(facts, "bias_averaged", words, k, lambda at, k, c=c: c * at.true[k])
        if true.ndim == 2 and true.shape[0] == true.shape[1]:
            yield leaf_guess(
                facts, "transpose", {"what": f"the gradient of {facts.paths[k]}"}, k, lambda at, k: at.true[k].T
            )
            words = {"what": f"the product that gives the gradient of {facts.paths[k]}"}
            yield leaf_guess(facts, "swapped_operands", words, k, lambda at, k: at.true[k].T)
        for j, path in enumerate(facts.paths):
            if j != k and facts.points[0].true[j].shape == true.shape:
                words = {"what": f"the gradient of {facts.paths[k]}", "other": f"that of {path}"}
                yield leaf_guess(facts, "other_leaf", words, k, lambda at, k, j=j: at.true[j])
        yield from of_examples(facts, k)
        yield from of_parameter(facts, k)
        wrong = [np.argwhere(np.abs(at.hand[k] - at.true[k]) > 1e-9 * scale(at, k)) for at in facts.points]
        if hand.size > 1 and all(len(w) == 1 for w in wrong) and len({tuple(w[0]) for w in wrong}) == 1:
            words = {"what": f"{wrong[0][0].tolist()} of {facts.paths[k]}"}
            yield leaf_guess(facts, "single_entry", words, k, lambda at, k: at.hand[k])


def leaf_guess(facts, kind, words, k, f):
    predicted = [[f(at, k) if j == k else v for j, v in enumerate(at.true)] for at in facts.points]
    return Guess(kind, words, predicted)


def of_examples(facts, k):
    """A sum over examples, in one leaf, taken of one alone or along the other axis."""
    rows = [row for row, (knob, _) in enumerate(facts.knobs) if knob.kind == "example"]
    if not rows or facts.params[k].ndim != 1:
        return
    parts = lambda at: np.array([at.turned[k][row] - at.true[k] for row in rows])  # noqa: E731
    for i, row in enumerate(rows):
        words = {"what": facts.knobs[row][0].what}
        yield leaf_guess(facts, "bias_not_summed", words, k, lambda at, k, i=i: parts(at)[i])
    if parts(facts.points[0]).sum(1).shape == facts.params[k].shape:
        yield leaf_guess(facts, "wrong_axis", {}, k, lambda at, k: parts(at).sum(1))


def of_parameter(facts, k):
    """The parameter itself in its gradient."""
    values = [np.asarray(v, np.float64) for v in facts.values(k)]
    at, w = facts.points[0], values[0]
    if not (w**2).sum():
        return
    c = float(((at.hand[k] - at.true[k]) * w).sum() / (w**2).sum())
    predicted = [
        [v + c * w if j == k else v for j, v in enumerate(at.true)] for at, w in zip(facts.points, values, strict=True)
    ]
    yield Guess("extra_penalty", {"c": number(c)}, predicted)
    if (at.true[k] ** 2).sum():
        c = float(((w - at.hand[k]) * at.true[k]).sum() / (at.true[k] ** 2).sum())
        predicted = [
            [w - c * v if j == k else v for j, v in enumerate(at.true)]
            for at, w in zip(facts.points, values, strict=True)
        ]
        yield Guess("updated_weights", {"what": f"{facts.paths[k]}, the new parameter,", "c": number(c)}, predicted)


def from_data(facts, problem, both, again, args):
    """The true gradient at other data: shifted labels, a cotangent of ones."""
    its = problem.arguments
    if problem.always:
        ones = [
            [np.ones_like(v) if i in problem.always else v for i, v in enumerate(floats)] for floats in facts.floats
        ]
        yield Guess("ignored_cotangent", {}, [truth_at(problem, both, floats) for floats in ones][: len(facts.points)])
    asked = {its.positions[i] for i in its.differentiated}
    for n, arg in enumerate(args):
        if n in asked or not isinstance(arg, np.ndarray | jax.Array) or np.ndim(arg) == 0 or len(arg) < 2:
            continue
        for how, moved in {
            "to the next example": np.roll(arg, 1, 0),
            "to the example before": np.roll(arg, -1, 0),
            **({"up": arg + 1, "down": arg - 1} if np.issubdtype(np.asarray(arg).dtype, np.integer) else {}),
        }.items():
            other, _ = for_jax(
                *with_sides(again([*args[:n], np.asarray(moved, np.asarray(arg).dtype), *args[n + 1 :]]))
            )
            floats = [
                [other.arguments.floats[i] if other.arguments.positions[i] == n else v for i, v in enumerate(at)]
                for at in facts.floats
            ]
            words = {"what": f"{its.names[n]} ({how})"}
            yield Guess("shifted_labels", words, [truth_at(other, both, at) for at in floats][: len(facts.points)])


def with_sides(problem):
    return problem, sides(problem)


def truth_at(problem, both, floats):
    closed = trace(problem.truth, problem.arguments, both.mode)
    return in_float64(closed, [floats[i] for i in both.free(problem)])[: len(problem.arguments.differentiated)]


# From guesses to causes


def told(facts, guesses):
    """The `Cause`s among the guesses, so that each wrong leaf has its own."""
    fits = []
    for order, guess in enumerate(guesses):
        leaves = explained(facts, guess.predicted)
        if leaves:
            nice = 0 if "c" not in guess.words or guess.words["c"] != "" else 1
            fits.append((-len(leaves), nice, RANK[guess.kind], order, guess, leaves))
    fits.sort(key=lambda fit: fit[:4])
    out: list[Cause] = []
    covered: list[set] = []
    for *_, guess, leaves in fits:
        alike = [c for c, its in zip(out, covered, strict=True) if its == leaves]
        if any(leaves < its for its in covered) or len(alike) == ALIKE or guess.kind in {c.kind for c in alike}:
            continue
        out.append(cause(facts, guess, leaves))
        covered.append(leaves)
    left = set(facts.wrong()).difference(*covered)
    return (*out, *([unknown(facts, left)] if left else []))


def unknown(facts, leaves):
    """What can be seen of a mistake that is none of the known ones."""
    parts = []
    for k in sorted(leaves):
        at = facts.points[0]
        hand, true = at.hand[k], at.true[k]
        ratio = np.divide(hand, true, out=np.full(true.shape, np.nan), where=np.abs(true) > 1e-12 * scale(at, k))
        wrong = np.abs(hand - true) > 1e-9 * scale(at, k)
        rows = [i for i in range(len(wrong)) if wrong[i].any()] if wrong.ndim else []
        where = (
            f"in row{'s' * (len(rows) > 1)} {', '.join(map(str, rows))} alone"
            if 0 < len(rows) <= len(wrong) // 2
            else ""
        )
        if np.isfinite(ratio).any():
            low, high = np.nanmin(ratio[wrong], initial=np.inf), np.nanmax(ratio[wrong], initial=-np.inf)
            where += f"{', ' * bool(where)}by hand / true from {low:.3g} to {high:.3g}"
        parts.append(f"{facts.paths[k]}: {wrong.sum()} of {wrong.size} entries are wrong{', ' * bool(where)}{where}")
    names = ", ".join(facts.paths[k] for k in sorted(leaves))
    sentence, fix = TEXTS["unknown"]
    return Cause("unknown", sentence.format(what="; ".join(parts)) + ".", names, math.nan, fix)


def explained(facts, predicted):
    """The wrong leaves that are as predicted; none if another leaf would be other than it is."""
    found = set()
    for k in range(len(facts.paths)):
        error = max(
            np.abs(at.hand[k] - p[k]).max(initial=0) / scale(at, k)
            for at, p in zip(facts.points, predicted, strict=True)
        )
        effect = max(
            np.abs(at.true[k] - p[k]).max(initial=0) / scale(at, k)
            for at, p in zip(facts.points, predicted, strict=True)
        )
        fault = max(np.abs(at.true[k] - at.hand[k]).max(initial=0) / scale(at, k) for at in facts.points)
        if fault > 1e-9 and error <= max(1e-6 * fault, 1e-11):
            found.add(k)
        elif not effect < 1e-9:
            return set()
    return found


def cause(facts, guess, leaves):
    names = [facts.paths[k] for k in sorted(leaves)]
    who = "the gradient" if len(names) == len(facts.paths) > 1 else f"the gradient of {', '.join(names)}"
    error = max(
        np.abs(at.hand[k] - p[k]).max(initial=0) / scale(at, k)
        for at, p in zip(facts.points, guess.predicted, strict=True)
        for k in leaves
    )
    words = {"who": who, **guess.words}
    sentence, fix = (text.format(**words) for text in TEXTS[guess.kind])
    digits = -math.log10(error) if error > 0 else 16.0
    return Cause(guess.kind, sentence[0].upper() + sentence[1:] + ".", ", ".join(names), min(digits, 16.0), fix)


def number(c):
    """A factor as people write it; "" where it is no simple number."""
    for n, d in itertools.product(range(1, 1001), (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)):
        if abs(abs(c) * d / n - 1) < 1e-6:
            return f"{'−' * (c < 0)}{n}" + (f"/{d}" if d > 1 else "")
    for n in range(11, 1001):
        if abs(abs(c) * n - 1) < 1e-6:
            return f"{'−' * (c < 0)}1/{n}"
    return f"{c:.6g}"
