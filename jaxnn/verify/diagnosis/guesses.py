"""Gradients that known mistakes make, next to the user's: which of them could be it.

Where an amount is not known, a step of gradient descent or the weight of a penalty, it is the one that fits best.
"""

import collections
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxnn.verify.diagnosis.edit import Edit, Part
from jaxnn.verify.diagnosis.mistakes import Mistake, Words
from jaxnn.verify.diagnosis.predictions import (
    LEFT_OVER,
    PART_OF_ERROR,
    RIGHT,
    ROUNDING,
    SAME_FACTOR,
    Predictions,
)

Origin = tuple[int, float]  # the number of a trial, and its multiple


class Guess(NamedTuple):
    """A mistake, and the gradient that it makes."""

    kind: Mistake
    words: Words
    gradient: np.ndarray
    origin: Origin | None = None


def guesses_of(predictions: Predictions, hand: np.ndarray, wrong: Sequence[int]) -> Iterator[Guess]:
    """What could make the gradient `hand`, whose leaves `wrong` are not right."""
    for row, multiple, leaves in close_trials(predictions, hand, wrong):
        edit, amount = predictions.trials[row]
        gradient = predictions.true + multiple * (predictions.gradients[row] - predictions.true)
        gradient = np.where(np.isin(predictions.leaf, leaves), gradient, predictions.true)
        if edit.kind not in (Part.EXAMPLE, Part.POSITION):
            guess = of_edit(predictions, edit, amount * multiple, gradient)
            yield guess._replace(origin=(row, round(multiple, 9)))
    yield from of_pairs(predictions, hand, wrong)
    yield from of_terms(predictions, hand, wrong)
    for kind, what, gradient in predictions.other_data:
        yield Guess(kind, {"what": what}, gradient)
    for k in wrong:
        yield from of_leaf(predictions, hand, k, wrong)


# Edits


class CloseTrial(NamedTuple):
    """A trial, by its number, that gives some leaves if its changes are multiplied once more, by the multiple."""

    row: int
    multiple: float
    leaves: tuple[int, ...]


def close_trials(predictions: Predictions, hand: np.ndarray, wrong: Sequence[int]) -> list[CloseTrial]:
    """The trials that give one of the wrong leaves, up to a factor.

    First, for all leaves: those that change no leaf that is right. Then all, as if each mistake were made on the way to
    that one leaf alone.
    """
    steps = (predictions.gradients - predictions.true) / predictions.scale
    G, T = hand / predictions.scale, predictions.true / predictions.scale
    every = tuple(range(len(predictions.paths)))
    free = np.array([edit.linear and not edit.amounts for edit, _ in predictions.trials])
    changes = np.array([np.abs(steps[:, predictions.leaf == k]).max(1, initial=0) > RIGHT for k in every])
    harmless = ~changes[predictions.other_leaves(wrong)].any(0)
    everywhere: set[CloseTrial] = set()
    alone: set[CloseTrial] = set()
    for k in wrong:
        entries = predictions.leaf == k
        d, r = steps[:, entries], (G - T)[entries]
        with np.errstate(all="ignore"):
            multiples = np.where(free, d @ r / (d * d).sum(1), 1.0)
            H = T[entries] + multiples[:, None] * d
            c = np.where(free, 1.0, H @ G[entries] / (H * H).sum(1))
            enough = max(PART_OF_ERROR * np.abs(r).max(), ROUNDING)
            fits = np.abs(G[entries] - c[:, None] * H).max(1) <= enough
        fits &= changes[k]
        everywhere |= {CloseTrial(int(row), float(multiples[row]), every) for row in np.flatnonzero(fits & harmless)}
        alone |= {CloseTrial(int(row), float(multiples[row]), (k,)) for row in np.flatnonzero(fits)}
    return [*sorted(everywhere), *sorted(alone)]


def of_edit(predictions: Predictions, edit: Edit, amount: float, gradient: np.ndarray) -> Guess:
    """The guess of an edit, which makes this gradient if its changes are multiplied by the amount."""
    words: Words = {"what": edit.what, "place": edit.place, "other": edit.other, "c": number(amount)}
    if isinstance(edit.kind, Part):
        return Guess(*of_factor(predictions, 1 + amount, words, edit.penalty), gradient)
    if edit.kind is Mistake.MISSING_MEAN:
        words |= {"who": edit.what, "c": edit.other, "m": edit.other}
    if edit.kind is Mistake.UPDATED_WEIGHTS:
        words |= {"c": number(-amount)}
    return Guess(edit.kind, words, gradient)


def of_factor(predictions: Predictions, c: float, words: Words, penalty: bool = False) -> tuple[Mistake, Words]:
    """(kind, words) of what is c times what it should be; penalty: whether it is a penalty."""
    words = words | {"c": number(c), "m": predictions.m}
    if abs(c) < SAME_FACTOR:
        return Mistake.MISSING_PENALTY if penalty else Mistake.PATH_LEFT_OUT, words
    if penalty:
        return Mistake.SCALED_PENALTY, words
    for n in sorted(predictions.sizes, key=lambda n: n != predictions.m):
        if abs(c / n - 1) < SAME_FACTOR:
            return Mistake.MISSING_MEAN, words | {"m": n}
        if abs(c * n - 1) < SAME_FACTOR:
            return Mistake.EXTRA_MEAN, words | {"m": n}
    return Mistake.CONSTANT_FACTOR, words


def of_pairs(predictions: Predictions, hand: np.ndarray, wrong: Sequence[int]) -> Iterator[Guess]:
    """Two paths that are left out, or weigh something else, at once."""
    trials, true = predictions.trials, predictions.true
    rows = [row for row, (edit, _) in enumerate(trials) if edit.kind is Part.PATH and edit.linear]
    entries = np.isin(predictions.leaf, wrong)
    S = ((predictions.gradients[rows] - true) / predictions.scale)[:, entries]
    r = ((hand - true) / predictions.scale)[entries]
    SS, Sr = S @ S.T, S @ r
    square = np.diag(SS)
    size = np.maximum(square[:, None] + 2 * SS + square, 1e-300)
    multiples = (Sr[:, None] + Sr) / size
    one_path = (1 - LEFT_OVER) * square[:, None] * square < SS**2
    fits = ~one_path & (r @ r - multiples**2 * size < LEFT_OVER * (r @ r))
    for i, j in np.argwhere(np.triu(fits)):
        step = predictions.gradients[rows[i]] + predictions.gradients[rows[j]] - 2 * true
        a, b = trials[rows[i]].edit, trials[rows[j]].edit
        words: Words = {"what": f"{a.what} and from {b.what}", "place": f"{a.place} and {b.place}", "other": a.other}
        kind, words = of_factor(predictions, 1 + float(multiples[i, j]), words, a.penalty and b.penalty)
        if kind is not Mistake.CONSTANT_FACTOR:
            yield Guess(kind, words, true + multiples[i, j] * step)


# Terms of one sum


def of_terms(predictions: Predictions, hand: np.ndarray, wrong: Sequence[int]) -> Iterator[Guess]:
    """Examples, positions, or visits in a loop, that weigh something else in all wrong leaves, or in one."""
    groups = collections.defaultdict(list)
    for row, (edit, _) in enumerate(predictions.trials):
        if edit.group:
            groups[edit.kind, edit.group].append(row)
    for (part, _), rows in groups.items():
        term = "step" if part is Part.PATH else part.value
        names = {row: f"{k}" for k, row in enumerate(rows)}
        for leaves in (wrong, *([k] for k in wrong)):
            yield from of_sum(predictions, hand, term, names, leaves)


def of_sum(
    predictions: Predictions, hand: np.ndarray, term: str, names: dict[int, str], leaves: Sequence[int]
) -> Iterator[Guess]:
    """Terms of one sum that weigh something else in some leaves; names: {the number of its trial: of each term}."""
    true, scale = predictions.true, predictions.scale
    entries = np.isin(predictions.leaf, leaves)
    steps = {row: predictions.gradients[row] - true for row in names}
    rows = [row for row in names if (np.abs(steps[row]) > 1e-12 * scale)[entries].any()]
    if len(rows) < 2:
        return
    parts = np.array([steps[row] for row in rows])
    d, r = (parts / scale)[:, entries], ((hand - true) / scale)[entries]
    dd, dr, rr = d @ d.T, d @ r, r @ r

    def weighed(kind: Mistake, weights: np.ndarray, words: Words) -> Iterator[Guess]:
        """The guess that each term is added so often, if that fits."""
        if weights @ dd @ weights - 2 * weights @ dr + rr <= LEFT_OVER * rr:
            yield Guess(kind, words, true + np.where(entries, weights @ parts, 0))

    is_vector = len(leaves) == 1 and predictions.is_vector(leaves[0])
    for row, only in zip(rows, np.eye(len(rows)), strict=True):
        what = f"{term} {names[row]}"
        yield from weighed(Mistake.EXAMPLE_LEFT_OUT, -only, {"what": what})
        yield from weighed(Mistake.EXAMPLE_COUNTED_TWICE, only, {"what": what})
        kind = Mistake.BIAS_NOT_SUMMED if is_vector else Mistake.PATH_LEFT_OUT
        yield from weighed(kind, only - 1, {"what": what, "other": "all but it", "place": "its sum"})
    if np.linalg.matrix_rank(dd) == len(rows):
        weights = np.linalg.solve(dd, dr)
        left_out, twice = (np.flatnonzero(np.abs(weights - c) < SAME_FACTOR) for c in (-1, 1))
        for kind, chosen, c, most in (
            (Mistake.EXAMPLE_LEFT_OUT, left_out, -1.0, len(rows) - 2),
            (Mistake.EXAMPLE_COUNTED_TWICE, twice, 1.0, len(rows) - 1),
        ):
            if 1 < len(chosen) <= most:
                what = f"{term}s {', '.join(names[rows[k]] for k in chosen)}"
                yield from weighed(kind, c * np.eye(len(rows))[chosen].sum(0), {"what": what})


# A leaf of the true gradient, changed


def of_leaf(predictions: Predictions, hand: np.ndarray, k: int, wrong: Sequence[int]) -> Iterator[Guess]:
    """Leaf k of the true gradient, changed: first a factor of it, then what any entries would bear."""
    leaf = ChangedLeaf(predictions, hand, k)
    yield from leaf.scaled(wrong)
    yield from leaf.updated()
    yield from leaf.penalised()
    yield from leaf.transposed()
    yield from leaf.exchanged()
    yield from leaf.summed_wrongly()
    yield from leaf.wrong_in_some_entries()


class ChangedLeaf:
    """One leaf, at each point: by hand, in the true gradient, and what is differentiated."""

    def __init__(self, predictions: Predictions, hand: np.ndarray, k: int) -> None:
        self.predictions, self.k, self.path = predictions, k, predictions.paths[k]
        self.hand, self.true, self.params = (
            predictions.part(v, k) for v in (hand, predictions.true, predictions.params)
        )
        self.is_matrix = self.true.ndim == 3

    def guess(self, kind: Mistake, values: np.ndarray, **words: str | int | None) -> Guess:
        """The guess that the leaf is `values`."""
        return Guess(kind, words, self.predictions.with_part(self.k, values))

    def scaled(self, wrong: Sequence[int]) -> Iterator[Guess]:
        """A factor of the leaf, and of all wrong leaves."""
        predictions, true = self.predictions, self.true
        c = coefficient(self.hand, true)
        if c is None:
            return
        kind, words = of_factor(predictions, c, {"what": self.path, "other": "it", "place": "its end"})
        yield self.guess(kind, c * true, **words)
        every = np.where(np.isin(predictions.leaf, wrong), c * predictions.true, predictions.true)
        yield Guess(kind, words, every)
        if kind is Mistake.EXTRA_MEAN and (true.ndim == 2 or true.shape[-1] == 1):
            yield self.guess(Mistake.BIAS_AVERAGED, c * true, **words)

    def updated(self) -> Iterator[Guess]:
        """The parameter after a step, w − c ∂J/∂w, in the place of the gradient."""
        c = coefficient(self.params - self.hand, self.true)
        if c is not None and c > SAME_FACTOR:
            what = f"{self.path} is returned as it is after the update: it"
            yield self.guess(Mistake.UPDATED_WEIGHTS, self.params - c * self.true, what=what, c=number(c))

    def penalised(self) -> Iterator[Guess]:
        """A multiple of the parameter, added."""
        c = coefficient(self.hand - self.true, self.params)
        if c is not None:
            yield self.guess(Mistake.EXTRA_PENALTY, self.true + c * self.params, c=number(c))

    def transposed(self) -> Iterator[Guess]:
        """A square matrix transposed: the gradient, or the parameter in its penalty."""
        if not self.is_matrix or self.true.shape[1] != self.true.shape[2]:
            return
        flipped = self.true.swapaxes(1, 2)
        yield self.guess(Mistake.TRANSPOSE, flipped, what=f"the gradient of {self.path}")
        difference = self.params.swapaxes(1, 2) - self.params
        c = coefficient(self.hand - self.true, difference)
        if c is not None:
            yield self.guess(Mistake.TRANSPOSE, self.true + c * difference, what=f"{self.path}, in its penalty,")
        yield self.guess(Mistake.SWAPPED_OPERANDS, flipped, what=f"the operands of the gradient of {self.path}")

    def exchanged(self) -> Iterator[Guess]:
        """The gradient of another leaf of this shape."""
        predictions = self.predictions
        for j, path in enumerate(predictions.paths):
            if j != self.k and predictions.shapes[j] == predictions.shapes[self.k]:
                other = predictions.part(predictions.true, j)
                what = f"the gradient of {self.path}"
                yield self.guess(Mistake.OTHER_LEAF, other, what=what, other=f"that of {path}")

    def summed_wrongly(self) -> Iterator[Guess]:
        """The sum of the leaf in all its entries; its transpose in its shape; its rows shifted by one; a sum over the
        entries of what each example adds, instead of over the examples."""
        predictions, true, what = self.predictions, self.true, f"the gradient of {self.path}"
        sums = true.sum(tuple(range(1, true.ndim)), keepdims=True)
        yield self.guess(Mistake.WRONG_AXIS, np.broadcast_to(sums, true.shape), what=what)
        if self.is_matrix:
            reshaped = true.swapaxes(1, 2).reshape(true.shape)
            yield self.guess(Mistake.TRANSPOSE, reshaped, what=f"{what}, but reshaped,")
        for shift in (1, -1) if true.ndim > 2 else ():
            yield self.guess(Mistake.SHIFTED_LABELS, np.roll(true, shift, 1), what=f"the row of {what}")
        rows = self.example_trials()
        if not rows or true[0].size != len(rows):
            return
        parts = np.array([predictions.part(predictions.gradients[row] - predictions.true, self.k) for row in rows])
        if any(np.count_nonzero(part[0]) > 1 for part in parts):  # else there is no other axis
            wrong_way = parts.reshape(len(rows), predictions.points, -1).sum(2).T.reshape(true.shape)
            yield self.guess(Mistake.WRONG_AXIS, wrong_way, what=what)

    def example_trials(self) -> list[int]:
        """The trials that double what each example adds, at the first equation that sums over examples."""
        trials = self.predictions.trials
        rows = [row for row, (edit, _) in enumerate(trials) if edit.kind is Part.EXAMPLE]
        return [row for row in rows if trials[row].edit.group == trials[rows[0]].edit.group]

    def wrong_in_some_entries(self) -> Iterator[Guess]:
        """A multiple of the parameter, added in the wrong entries alone; one wrong entry."""
        wrong = np.abs(self.hand - self.true) > RIGHT * np.abs(self.true).max()
        c = coefficient((self.hand - self.true)[wrong], self.params[wrong])
        if wrong.sum() > 1 and c is not None:
            penalised = np.where(wrong, self.true + c * self.params, self.true)
            yield self.guess(Mistake.EXTRA_PENALTY, penalised, c=number(c))
        entries = {tuple(index[1:]) for index in np.argwhere(wrong).tolist()}
        if len(entries) == 1 < self.true[0].size:
            (entry,) = entries
            yield self.guess(Mistake.SINGLE_ENTRY, self.hand, what=f"{list(entry)} of {self.path}")


def coefficient(y: np.ndarray, x: np.ndarray) -> float | None:
    """The c for which c x is nearest to y; None if x is 0."""
    size = (x**2).sum()
    return float((y * x).sum() / size) if size > 0 else None


def number(c: float) -> str:
    """A factor as people write it."""
    sign, size = "−" if c < 0 else "", abs(c)
    for d, n in itertools.product((*range(1, 11), *range(20, 1001)), range(1, 11)):
        if d == 1 and abs(size - round(size)) < 1e-9 * size and size >= 1:
            return f"{sign}{round(size)}"
        if abs(size * d / n - 1) < 1e-9:
            return f"{sign}{n}/{d}" if d > 1 else f"{sign}{n}"
    return f"{c:.9g}"
