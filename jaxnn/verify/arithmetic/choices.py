"""Rules that decide: comparisons, extremes, selection, conversion to integers and truth values."""

import jax
import numpy as np
from flint import arb
from jax import lax

from jaxnn.verify.arithmetic.balls import ONE, ZERO, Balls, enter, is_float, whole, wrap
from jaxnn.verify.arithmetic.decisions import (
    FALSE,
    TRUE,
    UNKNOWN,
    Extreme,
    Logic,
    Place,
    Undecided,
    Unsupported,
    codes,
    conjunction,
    disjunction,
    exclusive_or,
    logic,
    mixture,
    negation,
    relation,
)
from jaxnn.verify.arithmetic.rules import EqnParams, Evaluator, Rule, Value, of_arrays, on_balls, on_truths

COMPARISONS = {
    "gt": np.greater,
    "ge": np.greater_equal,
    "lt": np.less,
    "le": np.less_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}


def compare(name: str) -> Rule:
    """The rule of the comparison of this name, of balls, integers or truth values."""

    def rule(ev: Evaluator, params: EqnParams, place: Place, x: Value, y: Value) -> Value:
        if isinstance(x, Logic) or isinstance(y, Logic):
            a, b = codes(x), codes(y)
            known = np.isin(a, (FALSE, TRUE)) & np.isin(b, (FALSE, TRUE))
            return relation(name, np.where(known, a > b, UNKNOWN), np.where(known, a == b, UNKNOWN))
        if object not in (x.dtype, y.dtype):
            return COMPARISONS[name](x, y)
        truths, nan = relation(name, *ev.ties.compare(x, y, place)), ev.known_nans(x, y)
        return logic(np.where(nan, float(name == "ne"), codes(truths))) if nan.any() else truths

    return rule


def extreme(better: Extreme, ufunc: np.ufunc) -> Rule:
    """The rule of max or min, entry by entry; NumPy's `ufunc` if the entries are integers or truth values."""

    def rule(ev: Evaluator, params: EqnParams, place: Place, x: np.ndarray, y: np.ndarray) -> Balls:
        if object not in (x.dtype, y.dtype):
            return ufunc(x, y)
        out = np.empty(np.broadcast_shapes(x.shape, y.shape), object)
        pairs = zip(np.broadcast_to(x, out.shape).flat, np.broadcast_to(y, out.shape).flat, strict=True)
        choose = getattr(ev.ties, better)
        out.ravel()[:] = [choose(a, b, (place, i)) for i, (a, b) in enumerate(pairs)]
        return out

    return rule


larger, smaller = on_balls(extreme("larger", np.maximum)), on_balls(extreme("smaller", np.minimum))


def clamp(ev: Evaluator, params: EqnParams, place: Place, low: Value, x: Value, high: Value) -> Value:
    """min(max(x, low), high)"""
    at_least = larger(ev, params, (place, "low"), x, low)
    return smaller(ev, params, (place, "high"), at_least, high)


def select(which: Value, *cases: Value) -> Value:
    """cases[which], entry by entry; if a truth value is unknown or a share, the mixture of the two cases."""
    if isinstance(cases[0], jax.Array):  # keys
        if isinstance(which, Logic):
            raise Undecided
        return lax.select_n(which, *cases)
    unknown = isinstance(which, Logic)
    truths = any(isinstance(case, Logic) for case in cases) or (unknown and cases[0].dtype == bool)
    values = [codes(case) if truths else case for case in cases]
    shape = np.broadcast_shapes(which.shape, cases[0].shape)
    index = np.broadcast_to(codes(which) if unknown else which, shape)
    out = np.array(np.broadcast_to(values[0], shape))
    for k, case in enumerate(values[1:], 1):
        np.copyto(out, case, where=index == k)
    if unknown:
        no, yes = (np.broadcast_to(case, shape) for case in values)
        for i in np.flatnonzero((index != TRUE) & (index != FALSE)):
            a, b = no.flat[i], yes.flat[i]
            out.flat[i] = UNKNOWN if truths and a != b else mixture(a, b, index.flat[i])
    return logic(out) if truths else out


def ball_of(code: float) -> arb:
    """A truth value as a number, a new ball each time: one object would stand for one truth."""
    return ZERO.union(ONE) if code == UNKNOWN else arb(code)


def convert_element_type(ev: Evaluator, params: EqnParams, place: Place, x: Value) -> Value:
    """Any dtype to any real one: balls stay balls among floats, and become integers towards zero, within the limits."""
    dtype = params["new_dtype"]
    if np.issubdtype(dtype, np.complexfloating):
        raise Unsupported("complex numbers")
    if isinstance(x, Logic):
        if dtype == np.bool_:
            return x
        if not is_float(dtype):
            raise Undecided
        return np.frompyfunc(ball_of, 1, 1)(x.codes)
    if x.dtype != object:
        return enter(np.asarray(x, np.float64)) if is_float(dtype) else np.asarray(x).astype(dtype)
    if is_float(dtype):
        return x
    if dtype == np.bool_:
        return relation("ne", *ev.ties.compare(x, wrap(ZERO), place))
    limits = np.iinfo(dtype)
    integers = np.frompyfunc(lambda v: min(max(whole(v), limits.min), limits.max), 1, 1)(x)
    return np.asarray(integers).astype(dtype)


def bitcast_convert_type(ev: Evaluator, params: EqnParams, place: Place, x: Balls) -> np.ndarray:
    """The bits of the float next to a number; Undecided if a ball has several such floats."""
    dtype = {4: np.float32, 8: np.float64}.get(np.dtype(params["new_dtype"]).itemsize)
    if dtype is None:
        raise Unsupported("the bits of short floats")
    low = np.array([float(v.lower()) for v in x.flat], dtype).reshape(x.shape)
    high = np.array([float(v.upper()) for v in x.flat], dtype).reshape(x.shape)
    if not np.array_equal(low, high):
        raise Undecided
    return low.view(params["new_dtype"])


CHOICES: dict[str, Rule] = {
    **{name: compare(name) for name in COMPARISONS},
    **{f"{name}_to": compare(name) for name in ("lt", "le")},  # with −0 below 0, where reals know one zero
    "and": on_truths(conjunction, np.bitwise_and),
    "or": on_truths(disjunction, np.bitwise_or),
    "xor": on_truths(exclusive_or, np.bitwise_xor),
    "not": on_truths(negation, np.invert),
    "select_n": of_arrays(select),
    "convert_element_type": convert_element_type,
    "max": larger,
    "min": smaller,
    "clamp": clamp,
}
BITS = {"bitcast_convert_type": bitcast_convert_type}
