"""Rules that decide: comparisons, extremes, selection, conversion to integers and truth values."""

import jax
import numpy as np
from flint import arb
from jax import lax

from jaxnn.verify.arithmetic.balls import ONE, ZERO, enter, is_float, whole, wrap
from jaxnn.verify.arithmetic.decisions import (
    FALSE,
    TRUE,
    UNKNOWN,
    Logic,
    Undecided,
    Unsupported,
    codes,
    logic,
    mixed,
    relation,
)
from jaxnn.verify.arithmetic.rules import on_balls

RELATIONS = {
    "gt": np.greater,
    "ge": np.greater_equal,
    "lt": np.less,
    "le": np.less_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}


def relate(name):
    def rule(ev, params, place, x, y):
        if isinstance(x, Logic) or isinstance(y, Logic):
            a, b = codes(x), codes(y)
            known = np.isin(a, (FALSE, TRUE)) & np.isin(b, (FALSE, TRUE))
            return relation(name, *(np.where(known, v, UNKNOWN) for v in (a > b, a == b)))
        if object not in (x.dtype, y.dtype):
            return RELATIONS[name](x, y)
        return relation(name, *ev.ties.compare(x, y, place))

    return rule


def extreme(better, plain):
    """max or min, entry by entry."""

    def rule(ev, params, place, x, y):
        if object not in (x.dtype, y.dtype):
            return plain(x, y)
        out = np.empty(np.broadcast_shapes(x.shape, y.shape), object)
        pairs = zip(np.broadcast_to(x, out.shape).flat, np.broadcast_to(y, out.shape).flat, strict=True)
        out.ravel()[:] = [getattr(ev.ties, better)(a, b, (place, i)) for i, (a, b) in enumerate(pairs)]
        return out

    return rule


larger, smaller = on_balls(extreme("larger", np.maximum)), on_balls(extreme("smaller", np.minimum))


def clamp(ev, params, place, low, x, high):
    at_least = larger(ev, params, (place, "low"), x, low)
    return smaller(ev, params, (place, "high"), at_least, high)


def select_n(ev, params, place, which, *cases):
    unknown = isinstance(which, Logic)
    if isinstance(cases[0], jax.Array):  # keys
        if unknown:
            raise Undecided
        return lax.select_n(which, *cases)
    truths = any(isinstance(case, Logic) for case in cases) or (unknown and cases[0].dtype == bool)
    values = [codes(case) if truths else case for case in cases]
    shape = np.broadcast_shapes(which.shape, cases[0].shape)
    chosen = np.broadcast_to(codes(which) if unknown else which, shape)
    out = np.array(np.broadcast_to(values[0], shape))
    for k, case in enumerate(values[1:], 1):
        np.copyto(out, case, where=chosen == k)
    if unknown:
        no, yes = (np.broadcast_to(case, shape) for case in values)
        for i in np.flatnonzero((chosen != TRUE) & (chosen != FALSE)):
            a, b = no.flat[i], yes.flat[i]
            out.flat[i] = UNKNOWN if truths and a != b else mixed(a, b, chosen.flat[i])
    return logic(out) if truths else out


def convert_element_type(ev, params, place, x):
    dtype = params["new_dtype"]
    if np.issubdtype(dtype, np.complexfloating):
        raise Unsupported("complex numbers")
    if isinstance(x, Logic):
        if dtype == np.bool_:
            return x
        if not is_float(dtype):
            raise Undecided
        # A new ball each: one object would stand for one truth.
        return np.frompyfunc(lambda code: ZERO.union(ONE) if code == UNKNOWN else arb(code), 1, 1)(x.codes)
    if x.dtype != object:
        return enter(np.asarray(x, np.float64)) if is_float(dtype) else np.asarray(x).astype(dtype)
    if is_float(dtype):
        return x
    if dtype == np.bool_:
        return relation("ne", *ev.ties.compare(x, wrap(ZERO), place))
    limits = np.iinfo(dtype)
    return np.asarray(np.frompyfunc(lambda v: min(max(whole(v), limits.min), limits.max), 1, 1)(x)).astype(dtype)


def bitcast_convert_type(ev, params, place, x):
    """The bits of the float next to a number: where all of a ball has the same one."""
    dtype = {4: np.float32, 8: np.float64}.get(np.dtype(params["new_dtype"]).itemsize)
    if dtype is None:
        raise Unsupported("the bits of short floats")
    low, high = (np.array([float(end(v)) for v in x.flat], dtype).reshape(x.shape) for end in (arb.lower, arb.upper))
    if not np.array_equal(low, high):
        raise Undecided
    return low.view(params["new_dtype"])
