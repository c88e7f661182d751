"""Ways to make a rule of a function: (evaluation, params, place, *inputs) -> the output, or a list."""

import numpy as np

from jaxnn.verify.arithmetic.decisions import Logic, Undecided, codes, logic


def each(f):
    """f of one ball, on arrays."""
    g = np.frompyfunc(f, 1, 1)
    return lambda ev, params, place, x: g(x)


def both(f):
    g = np.frompyfunc(f, 2, 1)
    return lambda ev, params, place, x, y: g(x, y)


def plain(f):
    """A function of arrays that needs no parameters."""
    return lambda ev, params, place, *inputs: f(*inputs)


def on_balls(rule):
    """A rule that asks for numbers: an integer or truth value that is unknown stops it."""

    def guarded(ev, params, place, *inputs):
        if any(isinstance(v, Logic) for v in inputs):
            raise Undecided
        return rule(ev, params, place, *inputs)

    return guarded


def on_entries(rule):
    """A rule that only moves entries moves unknown truth values as well."""

    def moving(ev, params, place, *inputs):
        if not any(isinstance(v, Logic) for v in inputs):
            return rule(ev, params, place, *inputs)
        truths = [isinstance(v, Logic) or v.dtype == bool for v in inputs]
        entries = [codes(v).astype(object) if truth else v for v, truth in zip(inputs, truths, strict=True)]
        out = rule(ev, params, place, *entries)
        return [logic(v) for v in out] if isinstance(out, list) else logic(out)

    return moving


def on_truths(three_valued, ufunc):
    def rule(ev, params, place, *inputs):
        return three_valued(*inputs) if any(isinstance(v, Logic) for v in inputs) else ufunc(*inputs)

    return rule


def closed(jaxpr):
    return (jaxpr.jaxpr, jaxpr.consts) if hasattr(jaxpr, "consts") else (jaxpr, ())
