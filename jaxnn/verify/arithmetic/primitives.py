"""The primitives of JAX on arrays of balls. A rule: (evaluation, params, place, *inputs) -> the output, or a list.

Rules that only move entries are NumPy's own or, with index arithmetic of some depth, JAX's on integer ids.
"""

from jaxnn.verify.arithmetic.choices import BITS, CHOICES, COMPARISONS
from jaxnn.verify.arithmetic.entrywise import ENTRYWISE
from jaxnn.verify.arithmetic.linear_algebra import LINEAR_ALGEBRA
from jaxnn.verify.arithmetic.moves import MOVES, SCATTERS
from jaxnn.verify.arithmetic.pooling import POOLING
from jaxnn.verify.arithmetic.products import PRODUCTS
from jaxnn.verify.arithmetic.reductions import REDUCTIONS, TRUTHS
from jaxnn.verify.arithmetic.rules import on_balls, on_entries

NUMBERS = {**BITS, **PRODUCTS, **REDUCTIONS, **SCATTERS, **POOLING, **LINEAR_ALGEBRA}
ELEMENTWISE = {**CHOICES, **{name: on_balls(rule) for name, rule in ENTRYWISE.items()}}
RULES = {
    **{name: on_entries(rule) for name, rule in MOVES.items()},
    **{name: on_balls(rule) for name, rule in NUMBERS.items()},
    **ELEMENTWISE,
    **TRUTHS,
}
# If all inputs are integers and known truth values, NumPy's result is the same as JAX's, and far quicker.
SAME_IN_NUMPY = {
    *("add", "sub", "mul", "max", "min", "select_n", "convert_element_type", "and", "or", "xor", "not"),
    *(MOVES.keys() - {"gather"}),
    *COMPARISONS,
}
