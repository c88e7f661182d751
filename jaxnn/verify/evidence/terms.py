"""How large the terms are that add up to a value: the same equations with absolute values.

Where the terms of an entry cancel, the rounding of constants alone makes an error that is small beside them and large
beside the entry.
"""

from collections.abc import Sequence

import flint
import jax
import numpy as np
from flint import arb

from jaxnn.protocols import PyTree
from jaxnn.verify.arithmetic import primitives
from jaxnn.verify.arithmetic.balls import Balls, absolute, is_balls, magnitude, wrap
from jaxnn.verify.arithmetic.decisions import Logic
from jaxnn.verify.arithmetic.evaluation import Evaluation, Step
from jaxnn.verify.arithmetic.linear_algebra import LINEAR_ALGEBRA
from jaxnn.verify.arithmetic.moves import MOVES
from jaxnn.verify.arithmetic.products import PRODUCTS

PRECISION = 64
SMALL = 1000  # times smaller: 3 of the 4 digits that a float64 has beyond `DIGITS`
ADDED = {"sub": "add", "scatter-sub": "scatter-add"}  # with absolute values a difference is a sum
SUMS = {
    *("add", "add_any", "mul", "square", "reduce_sum", "psum", "cumsum", "reduce_window_sum", *PRODUCTS),
    *("scatter-add", "scatter-mul", "scatter", "select_n", "convert_element_type", *MOVES),
}


def terms(steps: Sequence[Step], values: Sequence[Balls]) -> list[Balls]:
    """For every entry of these values, which `steps` have computed, the sum of the absolute values of its terms.

    A product's terms are the products of its factors' terms. A function that is no sum of products starts anew, with
    the absolute value of what it gives: of an entry, or, in linear algebra, where all entries have a part in each, of
    the largest. So does an entry that is not small beside its terms, or they would grow with every product."""
    sizes: dict[int, Balls] = {}

    def size(v: PyTree) -> PyTree:
        return sizes.get(id(v), absolute(v)) if is_balls(v) else v

    with flint.ctx.workprec(PRECISION), jax.enable_x64(True):
        for step in steps:
            for v, found in zip(step.outputs, sizes_of(step, list(map(size, step.inputs))), strict=True):
                if is_balls(v):
                    sizes[id(v)] = wrap(np.frompyfunc(anew, 2, 1)(found, absolute(v)))
        return [size(v) for v in values]


def anew(terms: arb, own: arb) -> arb:
    """The absolute value of an entry in the place of its terms, unless it is small beside them."""
    return own if terms <= SMALL * own else terms


def sizes_of(step: Step, inputs: list[PyTree]) -> list[PyTree]:
    """The terms of the outputs of one step. inputs: those of its inputs; what is no ball is as it was."""
    name = ADDED.get(step.name, step.name)
    if any(isinstance(v, Logic) for v in inputs) or not any(map(is_balls, step.outputs)):
        return step.outputs
    if name == "loop entry":
        return [wrap(inputs[0][step.params["t"]])]
    if name == "loop stack":
        return [np.stack(inputs)]
    if name in ("neg", "abs"):
        return inputs
    if name == "div":
        return [wrap(inputs[0] / absolute(step.inputs[1]))]
    if name == "select_n":  # a masked load fills in one number
        inputs = [inputs[0], *(np.broadcast_to(v, step.outputs[0].shape) for v in inputs[1:])]
    if name in SUMS:
        out = primitives.RULES[name](Evaluation(PRECISION), step.params, 0, *inputs)
        return out if isinstance(out, list) else [wrap(out)]
    if name in LINEAR_ALGEBRA:
        return [np.full(v.shape, magnitude(v)) if is_balls(v) else v for v in step.outputs]
    return [absolute(v) if is_balls(v) else v for v in step.outputs]
