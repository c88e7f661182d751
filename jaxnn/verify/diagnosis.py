"""What is wrong with a wrong gradient: each known mistake makes a gradient of its own, and one of these is the user's.

The mistakes are made on the way back through the user's cost (facts.py), in the leaves of the true gradient, and in the
data. A cause is listed if its gradient is the wrong one at several points, in float64, and the right leaves stay right.
"""

import collections
import itertools
import math
from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.verify.approximate import Approximation
from jaxnn.verify.facts import facts_of, flat, hand_of
from jaxnn.verify.mistakes import RANK, TEXTS
from jaxnn.verify.points import redraw
from jaxnn.verify.repair import repairs
from jaxnn.verify.report import Cause
from jaxnn.verify.sides import Problem, sides
from jaxnn.verify.sides import run as run_in_floats
from jaxnn.verify.trace import value_and_gradient
from jaxnn.verify.traced import as_jax

FEW = 20  # entries, of which so few points cannot tell mistakes apart
ALIKE = 3  # causes that say the same of the same leaves


class Guess(NamedTuple):
    kind: str
    words: dict
    predicted: np.ndarray
    edit: tuple = ()  # (number, amount)


def causes(problem: Problem, both, outcome, again, args, seed):
    """`Cause`s of a wrong gradient, likeliest first; () of a rule, or of a cost, that is not traced."""
    if problem.scalar is None or both.claim is None:
        return ()
    promotion = jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard")
    x64 = jax.config.read("jax_enable_x64")
    plain = problem
    try:
        if not (both.hand and both.scalar):
            with promotion[0], promotion[1]:
                problem, both = in_jax(problem, both), sides(in_jax(problem, both))
        if not (both.hand and both.scalar and both.mode.x64):
            return ()

        def others(args):
            with jax.enable_x64(x64):  # as the user has it
                return in_jax(again(args), both)

        points = drawn(problem, outcome, seed)
        with jax.enable_x64(True), promotion[0], promotion[1], np.errstate(all="ignore"):
            if problem is not plain and not is_what_it_was(both, plain, points):
                return ()
            facts = facts_of(problem, both, points, others, args)
            if not facts:
                return ()
            hand = hand_of(problem, both, points)
            scaled = [[7 * v if i in problem.always else v for i, v in enumerate(floats)] for floats in points]
            sevenfold = hand_of(problem, both, scaled) / 7 if problem.always else hand
            inputs = [[np.asarray(floats[i], np.float64) for i in both.free(problem)] for floats in points]
            return explained(facts, hand, sevenfold, both.hand, inputs)
    except Exception:  # a cost has many ways not to bear edits; the verdict stands without an explanation
        return ()


def drawn(problem, outcome, seed):
    """The floats at which gradients are compared: those of the outcome, and new ones."""
    its, rng = problem.arguments, np.random.default_rng(seed)
    few = sum(its.floats[i].size for i in its.differentiated) < FEW
    new = [
        redraw("generic", its.floats, its.dtypes, problem.redrawn, problem.always, rng) for _ in range(5 if few else 2)
    ]
    start = outcome.floats if [v.shape for v in outcome.floats] == [v.shape for v in its.floats] else its.floats
    return [list(start), *new]


def is_what_it_was(both, problem, points):
    """Whether the traced rule and the traced cost give what the user's own code gives."""
    n = len(problem.arguments.differentiated)
    for floats in points:
        inputs = [np.asarray(floats[i], np.float64) for i in both.free(problem)]
        for traced, own in ((both.hand, problem.claim), (both.scalar, lambda floats: [problem.scalar(floats)])):
            ours, theirs = flat(Approximation()(traced, inputs)[:n]), flat(run_in_floats(own, floats, np.float64)[:n])
            if not np.allclose(ours, theirs, 1e-7, 1e-9 * np.abs(theirs).max(initial=0)):
                return False
    return True


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


# Guesses


def guesses(facts, hand, wrong):
    for row, amount, leaves in close(facts, hand, wrong):
        edit, t = facts.edits[row]
        predicted = facts.true + amount * (facts.turned[row] - facts.true)
        for guess in of_edit(facts, edit, t * amount, np.where(np.isin(facts.leaf, leaves), predicted, facts.true)):
            yield guess._replace(edit=(row, round(amount, 9)))
    yield from of_pairs(facts, hand, wrong)
    yield from of_terms(facts, hand, wrong)
    for kind, what, v in facts.shifted:
        yield Guess(kind, {"what": what}, v)
    for k in wrong:
        yield from of_leaf(facts, hand, k, wrong)


def close(facts, hand, wrong):
    """(row, amount, leaves) of the edits that, up to a factor, give one of the wrong leaves and change none that is
    right; or that give one, if they were made on the way to that one alone."""
    steps = (facts.turned - facts.true) / facts.scale
    G, T = (v / facts.scale for v in (hand, facts.true))
    free = np.array([edit.linear and not edit.values for edit, _ in facts.edits])
    moves = np.array([np.abs(steps[:, facts.leaf == k]).max(1, initial=0) > 1e-9 for k in range(len(facts.paths))])
    harmless = ~moves[[k for k in range(len(facts.paths)) if k not in wrong]].any(0)
    everywhere, alone = set(), set()
    for k in wrong:
        its = facts.leaf == k
        d, r = steps[:, its], (G - T)[its]
        with np.errstate(all="ignore"):
            t = np.where(free, d @ r / (d * d).sum(1), 1.0)
            H = T[its] + t[:, None] * d
            c = np.where(free, 1.0, H @ G[its] / (H * H).sum(1))
            fits = np.abs(G[its] - c[:, None] * H).max(1) <= np.maximum(1e-6 * np.abs(r).max(), 1e-11)
        found = fits & moves[k]
        everywhere |= {
            (int(row), float(t[row]), tuple(range(len(facts.paths)))) for row in np.flatnonzero(found & harmless)
        }
        alone |= {(int(row), float(t[row]), (k,)) for row in np.flatnonzero(found)}
    return [*sorted(everywhere), *sorted(alone)]


def of_pairs(facts, hand, wrong):
    """Two paths that are left out, or weigh something else, at once."""
    rows = [row for row, (edit, _) in enumerate(facts.edits) if edit.kind == "path" and edit.linear]
    where = np.isin(facts.leaf, wrong)
    S = ((facts.turned[rows] - facts.true) / facts.scale)[:, where]
    r = ((hand - facts.true) / facts.scale)[where]
    SS, Sr = S @ S.T, S @ r
    square = np.diag(SS)
    size = np.maximum(square[:, None] + 2 * SS + square, 1e-300)
    t = (Sr[:, None] + Sr) / size
    one_path = (1 - 1e-9) * square[:, None] * square < SS**2
    fits = ~one_path & (r @ r - t**2 * size < 1e-9 * (r @ r))
    for i, j in np.argwhere(np.triu(fits)):
        predicted = facts.true + t[i, j] * (facts.turned[rows[i]] + facts.turned[rows[j]] - 2 * facts.true)
        a, b = (facts.edits[rows[k]][0] for k in (i, j))
        words = {"what": f"{a.what} and from {b.what}", "place": f"{a.place} and {b.place}", "other": a.other}
        kind, words = of_factor(facts, 1 + float(t[i, j]), words, a.penalty and b.penalty)
        if kind != "constant_factor":
            yield Guess(kind, words, predicted)


def of_edit(facts, edit, t, predicted):
    words = {"what": edit.what, "place": edit.place, "other": edit.other, "c": number(t)}
    if edit.kind == "term":
        return []
    if edit.kind == "missing_mean":
        words |= {"who": edit.what, "c": edit.other, "m": edit.other}
    if edit.kind == "path":
        kind, words = of_factor(facts, 1 + t, words, edit.penalty)
        return [Guess(kind, words, predicted)]
    return [Guess(edit.kind, words | {"c": number(-t)} if edit.kind == "updated_weights" else words, predicted)]


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


def of_terms(facts, hand, wrong):
    """Examples, positions, visits of an equation in a loop, that weigh something else, in all wrong leaves or one."""
    groups = collections.defaultdict(list)
    for row, (edit, _) in enumerate(facts.edits):
        if edit.group:
            groups[edit.kind, edit.group].append(row)
    for rows in groups.values():
        edit, _ = facts.edits[rows[0]]
        for leaves in (wrong, *([k] for k in wrong)):
            yield from of_sum(facts, hand, edit.other if edit.kind == "term" else "step", rows, leaves)


def of_sum(facts, hand, kind, rows, leaves):
    """Terms of one sum that weigh something else in some leaves."""
    where = np.isin(facts.leaf, leaves)
    its = [row for row in rows if (np.abs(facts.turned[row] - facts.true) > 1e-12 * facts.scale)[where].any()]
    if len(its) < 2:
        return
    parts = facts.turned[its] - facts.true
    d, r = ((v / facts.scale)[..., where] for v in (parts, hand - facts.true))
    called = [f"{kind} {rows.index(row)}" for row in its]
    vector = len(leaves) == 1 and facts.is_vector(leaves[0])

    dd, dr, rr = d @ d.T, d @ r, r @ r

    def guess(kind, w, words):
        if w @ dd @ w - 2 * w @ dr + rr <= 1e-9 * rr:
            yield Guess(kind, words, facts.true + np.where(where, w @ parts, 0))

    for k, what in enumerate(called):
        only = np.arange(len(its)) == k
        yield from guess("example_left_out", -1.0 * only, {"what": what})
        yield from guess("example_counted_twice", 1.0 * only, {"what": what})
        words = {"what": what, "other": "all but it", "place": "its sum"}
        yield from guess("bias_not_summed" if vector else "path_left_out", only - 1.0, words)
    if np.linalg.matrix_rank(dd) == len(its):
        w = np.linalg.solve(dd, dr)
        off, twice = (np.abs(w - c) < 1e-6 for c in (-1, 1))
        if 1 < off.sum() < len(its) - 1:
            what = f"{kind}s {', '.join(f'{rows.index(row)}' for row, its in zip(its, off, strict=True) if its)}"
            yield from guess("example_left_out", -1.0 * off, {"what": what})
        if 1 < twice.sum() < len(its):
            what = f"{kind}s {', '.join(f'{rows.index(row)}' for row, its in zip(its, twice, strict=True) if its)}"
            yield from guess("example_counted_twice", 1.0 * twice, {"what": what})


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
        what = f"{path} is returned as it is after the update: it"
        if c > 1e-6:
            yield guess("updated_weights", w - c * true, what=what, c=number(c))
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
        yield guess("swapped_operands", true.swapaxes(1, 2), what=f"the operands of the gradient of {path}")
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
    if true.ndim > 2:
        for shift in (1, -1):
            yield guess("shifted_labels", np.roll(true, shift, 1), what=f"the row of the gradient of {path}")
    rows = [row for row, (edit, _) in enumerate(facts.edits) if edit.kind == "term" and edit.other == "example"]
    rows = [row for row in rows if facts.edits[row][0].group == facts.edits[rows[0]][0].group]
    if rows and true[0].size == len(rows):
        parts = np.array([facts.part(facts.turned[row] - facts.true, k) for row in rows])  # (m, points, entries)
        wrong_way = parts.reshape(len(rows), facts.points, -1).sum(2).T.reshape(true.shape)
        if any(np.count_nonzero(part[0]) > 1 for part in parts):  # else there is no other axis
            yield guess("wrong_axis", wrong_way, what=f"the gradient of {path}")
    off = np.abs(ours - true) > 1e-9 * np.abs(true).max()
    if off.sum() > 1 and (size := (w[off] ** 2).sum()) > 0:
        c = float(((ours - true) * w)[off].sum() / size)
        yield guess("extra_penalty", true + c * w * off, c=number(c))
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


def explained(facts, hand, sevenfold, rule, points):
    """The `Cause`s, so that each wrong leaf has its own. sevenfold: what the rule makes of 7 cotangents, over 7; rule:
    its jaxpr; points: the inputs of that."""
    error = np.abs(hand - facts.true) / facts.scale
    fault = [error[facts.leaf == k].max(initial=0) for k in range(len(facts.paths))]
    wrong = [k for k, error in enumerate(fault) if error > 1e-9]
    fits, whole = [], set()  # edits that fit all leaves that they change are not asked for one alone
    for order, guess in enumerate(guesses(facts, hand, wrong)):
        fit = None if guess.edit in whole else fitting(facts, hand, guess, fault, wrong)
        if fit:
            whole |= {guess.edit} if guess.edit else set()
            factors, leaves, digits = fit
            fits.append(Fit(factors, leaves, (RANK[guess.kind], order), guess, digits))
    out: list[Cause] = []
    chosen: list[Fit] = []

    def choose(fits):
        for fit in sorted(fits, key=lambda fit: fit.key):
            alike = {its.guess.kind for its in chosen if its.leaves == fit.leaves}
            taken = any(fit.leaves < its.leaves or (fit.factors and fit.leaves & its.leaves) for its in chosen)
            said = fit.guess.kind in alike or (fit.guess.kind == "extra_mean" and "bias_averaged" in alike)
            if taken or said or len(alike) == ALIKE:
                continue
            chosen.append(fit)
            out.append(cause(facts, fit.guess, fit.leaves, fit.digits))
            for c in dict.fromkeys(fit.factors.values()):
                kind, words = of_factor(facts, c, {})
                leaves = [k for k, its in fit.factors.items() if its == c]
                out.append(cause(facts, Guess(kind, words, hand), leaves, fit.digits, "besides, "))
        return [k for k in wrong if not any(k in fit.leaves for fit in chosen)]

    left = choose([fit for fit in fits if len(fit.factors) < len(fit.leaves)])
    bent = [k for k in left if (np.abs(sevenfold - hand) > 1e-7 * facts.scale)[facts.leaf == k].any()]
    if bent:
        out.append(cause(facts, Guess("nonlinear_in_cotangent", {}, hand), bent, math.nan))
    mended = repaired(facts, [k for k in left if k not in bent], rule, points)
    if not mended:
        left = choose([fit for fit in fits if len(fit.factors) == len(fit.leaves)])
    left = [k for k in left if k not in bent]
    if left:
        out += mended or [unknown(facts, hand, left)]
    return tuple(out)


def repaired(facts, leaves, rule, points):
    """The `Cause`s of these leaves that a change of the rule itself shows."""
    if not leaves:
        return []

    def right(results, point):
        its = [np.abs(results[k] - facts.part(facts.true, k)[point]) for k in leaves]
        scales = [facts.part(facts.scale, k)[point] for k in leaves]
        return all((off <= 1e-9 * scale).all() for off, scale in zip(its, scales, strict=True))

    found = itertools.islice(repairs(rule, points, right, facts.names), ALIKE)
    return [cause(facts, Guess(kind, words, facts.true), leaves, 9.0) for kind, words in found]


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
        if k not in wrong or not np.abs(G - c * H).max() <= enough:
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
    if also or not TEXTS[guess.kind][0].startswith(("{what}", "{other}")):  # these may be somebody's names
        sentence = sentence[0].upper() + sentence[1:]
    return Cause(guess.kind, f"{sentence}.", ", ".join(names), digits, fix)


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
        if d == 1 and abs(size - round(size)) < 1e-9 * size and size >= 1:
            return f"{sign}{round(size)}"
        if abs(size * d / n - 1) < 1e-9:
            return f"{sign}{n}/{d}" if d > 1 else f"{sign}{n}"
    return f"{c:.9g}"
