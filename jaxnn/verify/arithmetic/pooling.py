"""Rules of windows: sums and extremes, and where the extreme came from."""

import math

import numpy as np

from jaxnn.verify.arithmetic.balls import ZERO, boxes
from jaxnn.verify.arithmetic.reductions import START, best, decided_best, fold
from jaxnn.verify.arithmetic.windows import windows


def window_table(x, params, fill):
    """The entries that every window sees, as rows; and the shape of the windows."""
    view = windows(x, params, fill)
    shape = view.shape[: x.ndim]
    return view.reshape(math.prod(shape), math.prod(view.shape[x.ndim :])), shape


def reduce_window(combine):
    def rule(ev, params, place, x):
        table, shape = window_table(x, params, START.get(combine, ZERO))
        if combine == "add":
            return table.sum(axis=1, initial=ZERO).reshape(shape)
        return boxes([best(ev, (place, i), combine, row)[1] for i, row in enumerate(table)], shape)

    return rule


def reduce_window_any(ev, params, place, x, start):
    table, shape = window_table(x, params, start[()])
    return [boxes(fold(ev, params, start, table), shape)]


def extreme_of_windows(ev, params, place, x):
    """The place in x of the extreme entry of every window, None of a window of padding alone; their shape."""
    better = "larger" if params["select_prim"].name == "ge" else "smaller"
    ids, shape = window_table(np.arange(1, x.size + 1).reshape(x.shape), params, 0)
    entries = x.ravel()
    found: list[int | None] = []
    for w, row in enumerate(ids):
        inside = row[row > 0] - 1
        found.append(inside[decided_best(ev, (place, w), better, entries[inside])] if inside.size else None)
    return found, shape


def select_and_scatter_add(ev, params, place, source, x):
    """Every window sends its source to its extreme entry."""
    found, _ = extreme_of_windows(ev, params, place, x)
    out = boxes([ZERO] * x.size, x.size)
    for i, v in zip(found, source.flat, strict=True):
        if i is not None:
            out[i] += v
    return out.reshape(x.shape)


def select_and_gather_add(ev, params, place, tangent, x):
    found, shape = extreme_of_windows(ev, params, place, x)
    return boxes([ZERO if i is None else tangent.flat[i] for i in found], shape)
