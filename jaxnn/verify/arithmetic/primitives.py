"""The primitives of JAX on arrays of balls. A rule: (evaluation, params, place, *inputs) -> the output, or a list.

Rules that only move entries are NumPy's own or, with index arithmetic of some depth, JAX's on integer ids.
"""

import numpy as np

from jaxnn.verify.arithmetic.balls import ONE, ZERO
from jaxnn.verify.arithmetic.choices import (
    RELATIONS,
    bitcast_convert_type,
    clamp,
    convert_element_type,
    larger,
    relate,
    select_n,
    smaller,
)
from jaxnn.verify.arithmetic.decisions import conjunction, disjunction, exclusive, negation
from jaxnn.verify.arithmetic.entrywise import ARITHMETIC, BOTH, EACH, integer_pow, is_finite, polynomial, round_
from jaxnn.verify.arithmetic.linear_algebra import cholesky, lu, triangular_solve
from jaxnn.verify.arithmetic.moves import MOVES, replace, scatter
from jaxnn.verify.arithmetic.pooling import (
    reduce_window,
    reduce_window_any,
    select_and_gather_add,
    select_and_scatter_add,
)
from jaxnn.verify.arithmetic.products import conv, dot
from jaxnn.verify.arithmetic.reductions import (
    arg_extreme,
    cumulative,
    log_sum_exp,
    over_batch,
    reduce_any,
    reduce_extreme,
    reduce_truths,
    reduction,
    running,
    sort,
    top_k,
)
from jaxnn.verify.arithmetic.rules import both, each, on_balls, on_entries, on_truths, plain

DECISIONS = {
    **{name: relate(name) for name in RELATIONS},
    **{f"{name}_to": relate(name) for name in ("lt", "le")},  # with −0 below 0, where reals know one zero
    "and": on_truths(conjunction, np.bitwise_and),
    "or": on_truths(disjunction, np.bitwise_or),
    "xor": on_truths(exclusive, np.bitwise_xor),
    "not": on_truths(negation, np.invert),
    "select_n": select_n,
    "convert_element_type": convert_element_type,
}
ELEMENTWISE = {
    **DECISIONS,
    **{name: on_balls(plain(f)) for name, f in ARITHMETIC.items()},
    **{name: on_balls(each(f)) for name, f in EACH.items()},
    **{name: on_balls(both(f)) for name, f in BOTH.items()},
    "integer_pow": integer_pow,
    "polynomial": polynomial,
    "round": round_,
    "is_finite": is_finite,
    "max": larger,
    "min": smaller,
    "clamp": clamp,
}
NUMBERS = {
    "bitcast_convert_type": bitcast_convert_type,
    "dot_general": dot,
    "conv_general_dilated": conv,
    "reduce_sum": reduction(np.add, ZERO),
    "psum": over_batch(reduction(np.add, ZERO)),
    "pmax": over_batch(reduce_extreme("larger")),
    "pmin": over_batch(reduce_extreme("smaller")),
    "reduce_prod": reduction(np.multiply, ONE),
    "reduce_max": reduce_extreme("larger"),
    "reduce_min": reduce_extreme("smaller"),
    "reduce": reduce_any,
    "argmax": arg_extreme("larger"),
    "argmin": arg_extreme("smaller"),
    "cumsum": cumulative(lambda ev, place, x, axis: np.add.accumulate(x, axis)),
    "cumprod": cumulative(lambda ev, place, x, axis: np.multiply.accumulate(x, axis)),
    "cummax": cumulative(running("larger")),
    "cummin": cumulative(running("smaller")),
    "cumlogsumexp": cumulative(log_sum_exp),
    "sort": sort,
    "top_k": top_k,
    "scatter": scatter(replace),
    "scatter-add": scatter(lambda ev, params, place, old, new: old + new),
    "scatter-sub": scatter(lambda ev, params, place, old, new: old - new),
    "scatter-mul": scatter(lambda ev, params, place, old, new: old * new),
    "scatter-max": scatter(lambda ev, params, place, old, new: ev.ties.larger(old, new, place)),
    "scatter-min": scatter(lambda ev, params, place, old, new: ev.ties.smaller(old, new, place)),
    "reduce_window_sum": reduce_window("add"),
    "reduce_window_max": reduce_window("larger"),
    "reduce_window_min": reduce_window("smaller"),
    "reduce_window": reduce_window_any,
    "select_and_scatter_add": select_and_scatter_add,
    "select_and_gather_add": select_and_gather_add,
    "cholesky": cholesky,
    "triangular_solve": triangular_solve,
    "lu": lu,
}
RULES = {
    **{name: on_entries(rule) for name, rule in MOVES.items()},
    **ELEMENTWISE,
    **{name: on_balls(rule) for name, rule in NUMBERS.items()},
    "reduce_and": reduce_truths(conjunction),
    "reduce_or": reduce_truths(disjunction),
}
# Where integers and truth values need no JAX: NumPy's result is the same and far quicker than a compiled operation.
ANY = {
    *("add", "sub", "mul", "max", "min", "select_n", "convert_element_type", "and", "or", "xor", "not"),
    *(MOVES.keys() - {"gather"}),
    *RELATIONS,
}
