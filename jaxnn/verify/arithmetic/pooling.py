"""Rules of windows: sums and extremes, and where the extreme came from."""

import functools
import math

import numpy as np

from jaxnn.verify.arithmetic.balls import ZERO, Balls, object_array
from jaxnn.verify.arithmetic.decisions import Extreme, Place
from jaxnn.verify.arithmetic.reductions import START, extreme_entry, fold, place_of_extreme
from jaxnn.verify.arithmetic.rules import EqnParams, Evaluator, Rule
from jaxnn.verify.arithmetic.windows import windows


def window_table(x: np.ndarray, params: EqnParams, fill: object) -> tuple[np.ndarray, tuple[int, ...]]:
    """The entries that every window sees, as rows; and the shape of the windows."""
    view = windows(x, params, fill)
    shape = view.shape[: x.ndim]
    return view.reshape(math.prod(shape), math.prod(view.shape[x.ndim :])), shape


def window_sum(ev: Evaluator, params: EqnParams, place: Place, x: Balls) -> Balls:
    """The sum of every window."""
    table, shape = window_table(x, params, ZERO)
    return functools.reduce(np.add, table.T).reshape(shape)


def window_extreme(better: Extreme) -> Rule:
    """The rule of the largest, or smallest, entry of every window."""

    def rule(ev: Evaluator, params: EqnParams, place: Place, x: Balls) -> Balls:
        table, shape = window_table(x, params, START[better])
        entries = [extreme_entry(ev, (place, i), better, row)[1] for i, row in enumerate(table)]
        return object_array(entries, shape)

    return rule


def window_fold(ev: Evaluator, params: EqnParams, place: Place, x: Balls, start: Balls) -> list[Balls]:
    """Every window through a computation given as a jaxpr."""
    table, shape = window_table(x, params, start[()])
    return [object_array(fold(ev, params, start, table), shape)]


def extremes_of_windows(
    ev: Evaluator, params: EqnParams, place: Place, x: Balls
) -> tuple[list[int | None], tuple[int, ...]]:
    """The place in x of the extreme entry of every window, None for a window of padding alone; and their shape."""
    better: Extreme = "larger" if params["select_prim"].name == "ge" else "smaller"
    ids, shape = window_table(np.arange(1, x.size + 1).reshape(x.shape), params, 0)
    entries = x.ravel()
    places: list[int | None] = []
    for w, row in enumerate(ids):
        inside = row[row > 0] - 1
        places.append(inside[place_of_extreme(ev, (place, w), better, entries[inside])] if inside.size else None)
    return places, shape


def select_and_scatter_add(ev: Evaluator, params: EqnParams, place: Place, source: Balls, x: Balls) -> Balls:
    """Every window adds its source to the place of its extreme entry: max pooling backward."""
    places, _ = extremes_of_windows(ev, params, place, x)
    out = object_array([ZERO] * x.size, x.size)
    for i, v in zip(places, source.flat, strict=True):
        if i is not None:
            out[i] += v
    return out.reshape(x.shape)


def select_and_gather_add(ev: Evaluator, params: EqnParams, place: Place, tangent: Balls, x: Balls) -> Balls:
    """Every window takes the tangent at the place of its extreme entry: max pooling's derivative, forward."""
    places, shape = extremes_of_windows(ev, params, place, x)
    return object_array([ZERO if i is None else tangent.flat[i] for i in places], shape)


POOLING: dict[str, Rule] = {
    "reduce_window_sum": window_sum,
    "reduce_window_max": window_extreme("larger"),
    "reduce_window_min": window_extreme("smaller"),
    "reduce_window": window_fold,
    "select_and_scatter_add": select_and_scatter_add,
    "select_and_gather_add": select_and_gather_add,
}
