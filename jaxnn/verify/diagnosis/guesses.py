"""Gradients that known mistakes make, next to the user's: which of them could be it."""

import collections
import itertools
from typing import NamedTuple

import numpy as np


class Guess(NamedTuple):
    kind: str
    words: dict
    predicted: np.ndarray
    edit: tuple = ()  # (number, amount)


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


def number(c):
    """A factor as people write it."""
    sign, size = "−" * (c < 0), abs(c)
    for d, n in itertools.product((*range(1, 11), *range(20, 1001)), range(1, 11)):
        if d == 1 and abs(size - round(size)) < 1e-9 * size and size >= 1:
            return f"{sign}{round(size)}"
        if abs(size * d / n - 1) < 1e-9:
            return f"{sign}{n}/{d}" if d > 1 else f"{sign}{n}"
    return f"{c:.9g}"
