"""What the derivative of a normalisation is mistaken for.

y = c / s, with c = z or z − mean z, and s² = mean c² + ε or Σ c² + ε; dz = (dy − mean dy − y mean(dy y)) / s.
"""

import itertools
from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple

import numpy as np

from jaxnn.verify.diagnosis.edit import Change, Cotangents, Equation, Tagged, reaches_cost
from jaxnn.verify.diagnosis.mistakes import Mistake
from jaxnn.verify.diagnosis.values import Values
from jaxnn.verify.tracing.tape import Tape


class Normalised(NamedTuple):
    """The arrays of a normalisation on one tape; guardless: s without ε."""

    dy: np.ndarray
    y: np.ndarray
    c: np.ndarray
    s: np.ndarray
    guardless: np.ndarray


class Normalisation(NamedTuple):
    """z, y: values. centred: whether c = z − mean z. summed: whether s² is a sum."""

    z: int
    y: int
    axis: int
    centred: bool
    summed: bool

    def centre(self, z: np.ndarray) -> np.ndarray:
        """c."""
        return z - z.mean(self.axis, keepdims=True) if self.centred else z

    def squares(self, c: np.ndarray) -> np.ndarray:
        """mean c² or Σ c²."""
        return (np.sum if self.summed else np.mean)(c**2, self.axis, keepdims=True)

    def dz(
        self,
        p: Normalised,
        *,
        y: np.ndarray | None = None,
        left: np.ndarray | None = None,
        right: np.ndarray | None = None,
        s: np.ndarray | float | None = None,
        axis: int | None = None,
        times: float = 1.0,
    ) -> np.ndarray:
        """(dy − mean dy − y mean(dy y)) / s, or with sums. What is given stands in the place of the right one: left and
        right in that of the first and the second y, axis in that of the axis; the sums are multiplied by `times`."""
        y, s, axis = p.y if y is None else y, p.s if s is None else s, self.axis if axis is None else axis
        left, right = y if left is None else left, y if right is None else right
        over = np.sum if self.summed else np.mean
        mean = p.dy.mean(axis, keepdims=True) if self.centred else 0.0
        return (p.dy - times * mean - times * left * over(p.dy * right, axis, keepdims=True)) / s


class WrongNormalisation(NamedTuple):
    """What stands in the place of dz; the rest are fields of `Tagged` and `Edit`."""

    kind: Mistake
    tag: Hashable
    dz: Callable[[Normalised], np.ndarray]
    what: str
    other: str = ""


def of_normalised(equation: Equation) -> Iterator[Tagged]:
    """What the derivative of a normalisation, whose last equation this is, is mistaken for."""
    tape, values = equation.tape, equation.values
    f = normalisation(equation)
    if f is None:
        return
    slot = next((n, i) for n, i in values.uses[f.z] if reaches_cost(tape, n))
    for wrong in wrong_normalisations(f, np.shape(equation.result), values):
        changes = {slot: with_normalisation(f, wrong)}
        yield Tagged([wrong.tag], equation.edit(wrong.kind, changes, wrong.what, other=wrong.other))


def normalisation(equation: Equation) -> Normalisation | None:
    """The normalisation that makes the result; None if there is none."""
    tape, out, y = equation.tape, equation.out, equation.result
    if np.ndim(y) == 0 or not (y != 0).all():
        return None
    axes = [axis for axis in range(-1, -1 - y.ndim, -1) if y.shape[axis] > 2]
    for z in range(out):
        x = tape.values[z]
        if z not in tape.active or np.shape(x) != y.shape or z in equation.values.composites:
            continue
        for axis, centred in itertools.product(axes, (True, False)):
            mean = Normalisation(z, out, axis, centred, summed=False)
            c = mean.centre(x)
            s = c / y
            if not np.allclose(s, s.max(axis, keepdims=True), 1e-9):
                continue
            for f in (mean, mean._replace(summed=True)):
                squares = f.squares(c)
                guard = s.max(axis, keepdims=True) ** 2 - squares
                if np.ptp(guard) < 1e-9 * squares.max():
                    return f
    return None


def wrong_normalisations(f: Normalisation, shape: tuple[int, ...], values: Values) -> Iterator[WrongNormalisation]:
    """What is mistaken for dz; shape: of y."""
    z, y = values.label(f.z), values.label(f.y)
    sums = f"each sum in the derivative of {y}"
    for k in range(len(shape)):
        if k != f.axis % len(shape):
            share = shape[k] / shape[f.axis]  # a sum over k is still divided by the right size
            yield WrongNormalisation(Mistake.WRONG_AXIS, ("axis", k), over_axis(f, k), sums)
            yield WrongNormalisation(Mistake.WRONG_AXIS, ("sum", k), over_axis(f, k, share), sums)
    kind, what = Mistake.GUARD_IGNORED, f"in the length of {z}"
    yield WrongNormalisation(kind, "s", lambda p: f.dz(p, s=p.guardless), what)
    yield WrongNormalisation(kind, "s, y", lambda p: f.dz(p, y=p.c / p.guardless, s=p.guardless), what)
    kind, what = Mistake.STALE_RESIDUAL, f"{y}, in its derivative,"
    yield WrongNormalisation(kind, "cc", lambda p: f.dz(p, left=p.c, right=p.c), what, z)
    yield WrongNormalisation(kind, "cy", lambda p: f.dz(p, left=p.c), what, z)
    yield WrongNormalisation(kind, "yc", lambda p: f.dz(p, right=p.c), what, z)
    yield WrongNormalisation(kind, "1y", lambda p: f.dz(p, left=np.ones_like(p.y)), what, "1")
    yield WrongNormalisation(kind, "y1", lambda p: f.dz(p, right=np.ones_like(p.y)), what, "1")
    what = f"the length of {z}, in the derivative of {y},"
    yield WrongNormalisation(kind, "s²", lambda p: f.dz(p, s=p.s**2), what, "its square")
    kind, other = Mistake.PATH_LEFT_OUT, "the division by its length"
    yield WrongNormalisation(kind, "1/s", lambda p: f.dz(p, s=1.0), z, other)
    if not f.summed:
        size = shape[f.axis]
        yield WrongNormalisation(Mistake.MISSING_MEAN, "sums", lambda p: f.dz(p, times=size), sums, f"{size}")


def over_axis(f: Normalisation, axis: int, times: float = 1.0) -> Callable[[Normalised], np.ndarray]:
    """dz with sums over another axis."""
    return lambda p: f.dz(p, axis=axis, times=times)


def with_normalisation(f: Normalisation, wrong: WrongNormalisation) -> Change:
    """The change that the wrong dz makes where z enters the normalisation."""

    def change(tape: Tape, D: Cotangents, part: np.ndarray) -> np.ndarray:
        y, c = tape.values[f.y], f.centre(tape.values[f.z])
        s = np.abs(c / y).max(f.axis, keepdims=True)
        p = Normalised(D(f.y), y, c, s, np.sqrt(f.squares(c)))
        return wrong.dz(p) - f.dz(p)

    return change
