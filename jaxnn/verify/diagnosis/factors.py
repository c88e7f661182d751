"""What somebody puts in the place of a factor, in what goes back from a product to the other factor."""

import itertools
from collections.abc import Hashable, Iterator
from typing import NamedTuple

import numpy as np

from jaxnn.verify.arithmetic.balls import is_float
from jaxnn.verify.diagnosis.edit import Cotangents, Equation, Operand, Tagged, back, value, with_partner
from jaxnn.verify.diagnosis.functions import KNOWN, unchanged
from jaxnn.verify.diagnosis.mistakes import Mistake
from jaxnn.verify.tracing.tape import Tape


class Factor(NamedTuple):
    """What stands in the place of the right factor; the rest are fields of `Tagged` and `Edit`."""

    kind: Mistake
    tags: list[Hashable]
    operand: Operand
    what: str
    other: str = ""
    amounts: tuple[float, ...] = (1.0,)


def factors_of(equation: Equation, i: int) -> Iterator[Tagged]:
    """Other factors than the right one, in what goes back to input i of a product."""
    right = equation.inputs[1 - i]
    x = equation.tape.values[right]
    if not np.ndim(x) or not is_float(x):
        return
    wrong = [transposed_factor(equation, right), updated_factor(equation, i, right)]
    if equation.name == "mul":
        passive = right not in equation.tape.active
        wrong.append(constant_factor(equation, right) if passive else derived_factor(equation, right))
    wrong += [factor_without_term(equation, right), other_value(equation, right)]
    for factor in itertools.chain(*wrong):
        changes = {(equation.n, i): with_partner((equation.n, i), factor.operand)}
        edit = equation.edit(factor.kind, changes, factor.what, other=factor.other, amounts=factor.amounts)
        yield Tagged([(i, tag) for tag in factor.tags], edit)


def transposed_factor(equation: Equation, right: int) -> Iterator[Factor]:
    """A square factor, transposed."""
    shape = np.shape(equation.tape.values[right])
    if len(shape) == 2 and shape[0] == shape[1]:
        yield Factor(Mistake.TRANSPOSE, ["T"], value(right, np.transpose), equation.values.label(right))


def updated_factor(equation: Equation, i: int, right: int) -> Iterator[Factor]:
    """A leaf after a step of gradient descent: along its whole gradient, or along the part of this equation."""
    values, n = equation.values, equation.n
    if right not in values.moves or values.moves[right][0] not in equation.tape.true:
        return
    leaf, moves = values.moves[right]

    def after_step(tape: Tape, D: Cotangents) -> np.ndarray:
        step = tape.true[leaf]
        for k in moves:
            step = tape.again(k, [step, *tape.steps[k].inputs[1:]])
        return tape.values[right] + step

    def after_part(tape: Tape, D: Cotangents) -> np.ndarray:
        return tape.values[right] + back(tape, (n, 1 - i), D(tape.outs[n][0]))

    yield Factor(Mistake.UPDATED_WEIGHTS, ["−"], after_step, values.label(leaf), amounts=())
    yield Factor(Mistake.UPDATED_WEIGHTS, ["− part"], after_part, values.label(leaf), amounts=())


def constant_factor(equation: Equation, right: int) -> Iterator[Factor]:
    """A factor that is not differentiated, a mask or a cotangent: left out, or its complement."""
    what = label(equation, right)
    if right in equation.values.cotangents:
        yield Factor(Mistake.IGNORED_COTANGENT, ["1"], value(right, np.ones_like), "the result")
    else:
        yield Factor(Mistake.WRONG_MASK, ["1"], value(right, np.ones_like), what)
    yield Factor(Mistake.WRONG_MASK, ["1 −"], value(right, complement), what)


def derived_factor(equation: Equation, right: int) -> Iterator[Factor]:
    """A factor that is differentiated too: its complement, or its place taken by a derivative of it."""
    what = label(equation, right)
    yield Factor(Mistake.STALE_RESIDUAL, ["1 −"], value(right, complement), what, other=f"1 − {what}")
    for name in ("sigmoid", "tanh"):
        function = f"a {name}, in terms of {what} as its output,"
        yield Factor(Mistake.EXTRA_ACTIVATION_DERIVATIVE, [name], value(right, KNOWN[name].formula), function)


def factor_without_term(equation: Equation, right: int) -> Iterator[Factor]:
    """A sum without one of its terms."""
    values = equation.values
    for w in values.terms(right):
        tags: list[Hashable] = [("term", tag) for tag in values.tags(w, equation.n)]
        yield Factor(Mistake.PATH_LEFT_OUT, tags, difference(right, w), values.label(w), other=label(equation, right))


def other_value(equation: Equation, right: int) -> Iterator[Factor]:
    """Another value of this shape, or of the shape transposed."""
    values, shape = equation.values, np.shape(equation.tape.values[right])
    oblong = len(shape) == 2 and shape[0] != shape[1]
    for is_transposed in (False, True) if oblong else (False,):
        for w in values.alternatives(shape[::-1] if is_transposed else shape, right, equation.n):
            kind = Mistake.OTHER_LEAF if w in values.moves and right in values.moves else Mistake.STALE_RESIDUAL
            tags: list[Hashable] = [(is_transposed, tag) for tag in values.tags(w, equation.n)]
            operand = value(w, np.transpose if is_transposed else unchanged)
            yield Factor(kind, tags, operand, label(equation, right), other=values.label(w))


def label(equation: Equation, right: int) -> str:
    """What the right factor is called: if it is not differentiated and has no name, by the product in which it is."""
    if equation.name == "mul" and right not in equation.tape.active:
        return equation.values.names.get(right) or f"the factor at {equation.place}"
    return equation.values.label(right)


def complement(x: np.ndarray) -> np.ndarray:
    """1 − x."""
    return 1 - x


def difference(v: int, w: int) -> Operand:
    """A value without one of its terms."""
    return lambda tape, D: tape.values[v] - tape.values[w]
