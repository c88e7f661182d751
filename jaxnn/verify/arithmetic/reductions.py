"""Rules that take many entries to one, running totals, and sorting."""

import functools
import math
from collections.abc import Callable, Collection, Sequence

import numpy as np
from flint import arb

from jaxnn.verify.arithmetic.balls import NEG_INF, ONE, ZERO, Balls, object_array, wrap
from jaxnn.verify.arithmetic.decisions import (
    Extreme,
    Logic,
    Place,
    Truths,
    Undecided,
    Unsupported,
    codes,
    conjunction,
    disjunction,
    logic,
)
from jaxnn.verify.arithmetic.entrywise import log
from jaxnn.verify.arithmetic.rules import EqnParams, Evaluator, Rule, Value, open_jaxpr

Accumulate = Callable[[Evaluator, Place, Balls, int], Value]  # the running totals of an array along an axis

START = {"larger": NEG_INF, "smaller": -NEG_INF}  # the extreme of no entries


def reduction(ufunc: np.ufunc, start: arb) -> Rule:
    """The rule of a sum or product over axes, from `start`."""
    return lambda ev, params, place, x: ufunc.reduce(x, axis=tuple(params["axes"]), initial=start)


def rows(x: np.ndarray, axes: Collection[int]) -> tuple[np.ndarray, tuple[int, ...]]:
    """x as a table with the reduced axes as one, the last; and its shape without them."""
    kept = [i for i in range(x.ndim) if i not in axes]
    shape = tuple(x.shape[i] for i in kept)
    return x.transpose(*kept, *axes).reshape(math.prod(shape), math.prod(x.shape[i] for i in axes)), shape


def extreme_entry(ev: Evaluator, place: Place, better: Extreme, row: Sequence[arb]) -> tuple[int | None, arb]:
    """The place of the extreme entry of a row, None if it is not decided; and that entry, or a hull."""
    choose = getattr(ev.ties, better)
    at: int | None = 0
    value = row[0]
    for j, v in enumerate(row[1:], 1):
        new = choose(value, v, (place, j))
        if new is not value:
            at, value = (j if new is v else None), new
    return at, value


def place_of_extreme(ev: Evaluator, place: Place, better: Extreme, row: Sequence[arb]) -> int:
    """The place of the extreme entry of a row; Undecided if it is not decided."""
    at, _ = extreme_entry(ev, place, better, row)
    if at is None:
        raise Undecided
    return at


def reduce_extreme(better: Extreme) -> Rule:
    """The rule of the largest, or smallest, entry over axes."""

    def rule(ev: Evaluator, params: EqnParams, place: Place, x: Balls) -> Balls:
        table, shape = rows(x, params["axes"])
        if not table.shape[1]:
            return object_array([START[better]] * len(table), shape)
        entries = [extreme_entry(ev, (place, i), better, row)[1] for i, row in enumerate(table)]
        return object_array(entries, shape)

    return rule


def arg_extreme(better: Extreme) -> Rule:
    """The rule of the place of the largest, or smallest, entry over axes."""

    def rule(ev: Evaluator, params: EqnParams, place: Place, x: Balls) -> np.ndarray:
        table, shape = rows(x, params["axes"])
        places = [place_of_extreme(ev, (place, i), better, row) for i, row in enumerate(table)]
        return np.array(places, params["index_dtype"]).reshape(shape)

    return rule


def reduce_truths(f: Callable[..., Truths]) -> Rule:
    """The rule of all, or any, over axes, of truth values some of which are unknown."""

    def rule(ev: Evaluator, params: EqnParams, place: Place, x: Logic) -> Value:
        table, shape = rows(x.codes, params["axes"])
        return logic(codes(f(*table.T)).reshape(shape))

    return rule


def fold(ev: Evaluator, params: EqnParams, start: Value, table: Balls) -> list[arb]:
    """Every row of a table, from a start, through a computation given as a jaxpr."""
    jaxpr, consts = open_jaxpr(ev, params["jaxpr"])
    consts += [ev.enter(c) for c in params.get("consts", ())]
    out = []
    for row in table:
        total = start
        for v in row:
            (total,) = ev.run(jaxpr, consts, [total, wrap(v)])
        out.append(total[()])
    return out


def reduce_fold(ev: Evaluator, params: EqnParams, place: Place, x: Balls, start: Balls) -> list[Balls]:
    """Axes through a computation given as a jaxpr."""
    table, shape = rows(x, params["dimensions"])
    return [object_array(fold(ev, params, start, table), shape)]


def over_batch(reduce: Rule) -> Rule:
    """A sum or extreme over an axis that has a name: one that was vmapped, for devices are out of reach."""

    def rule(ev: Evaluator, params: EqnParams, place: Place, x: Balls) -> Value:
        if any(isinstance(axis, str) for axis in params["axes"]):
            raise Unsupported("a reduction over devices")
        return reduce(ev, params, place, x)

    return rule


def cumulative(accumulate: Accumulate) -> Rule:
    """The rule of running totals along an axis, in either direction."""

    def rule(ev: Evaluator, params: EqnParams, place: Place, x: Balls) -> Balls:
        axis = params["axis"]
        x = np.flip(x, axis) if params["reverse"] else x
        x = accumulate(ev, place, x, axis)
        return np.flip(x, axis) if params["reverse"] else x

    return rule


def running_extreme(better: Extreme) -> Accumulate:
    """The largest, or smallest, entry so far."""

    def accumulate(ev: Evaluator, place: Place, x: Balls, axis: int) -> Balls:
        out = np.moveaxis(x, axis, -1).copy()
        choose = getattr(ev.ties, better)
        for i in np.ndindex(out.shape[:-1]):
            for j in range(1, out.shape[-1]):
                out[i][j] = choose(out[i][j - 1], out[i][j], (place, i, j))
        return np.moveaxis(out, -1, axis)

    return accumulate


def log_sum_exp(ev: Evaluator, place: Place, x: Balls, axis: int) -> Value:
    """log Σ eˣ so far."""
    return np.frompyfunc(log, 1, 1)(np.add.accumulate(np.exp(x), axis))


def sorted_order(ev: Evaluator, place: Place, keys: Sequence[np.ndarray], descending: bool = False) -> list[int]:
    """The stable order of entries by their keys; Undecided if balls overlap, unless they are one."""

    def compare(i: int, j: int) -> int:
        for key in keys:
            a, b = key[i], key[j]
            order = ev.ties.order(a, b, (place, i, j)) if isinstance(a, arb) else int(a > b) - int(a < b)
            if order is None:
                raise Undecided
            if order:
                return -order if descending else order
        return 0

    return sorted(range(len(keys[0])), key=functools.cmp_to_key(compare))


def sort(ev: Evaluator, params: EqnParams, place: Place, *operands: np.ndarray) -> list[np.ndarray]:
    """All operands in the order of the first `num_keys` of them, along one axis."""
    axis = params["dimension"]
    tables = [np.moveaxis(x, axis, -1) for x in operands]
    out = [table.copy() for table in tables]
    for i in np.ndindex(tables[0].shape[:-1]):
        order = sorted_order(ev, (place, i), [table[i] for table in tables[: params["num_keys"]]])
        for new, table in zip(out, tables, strict=True):
            new[i] = table[i][order]
    return [np.moveaxis(table, -1, axis) for table in out]


def top_k(ev: Evaluator, params: EqnParams, place: Place, x: Balls) -> list[np.ndarray]:
    """[the k largest entries along one axis, their places]"""
    k, axis = params["k"], params.get("axis", -1)
    x = np.moveaxis(x, axis, -1)
    order = np.empty((*x.shape[:-1], k), np.int32)
    for i in np.ndindex(x.shape[:-1]):
        order[i] = sorted_order(ev, (place, i), [x[i]], descending=True)[:k]
    values = np.take_along_axis(x, order, -1)
    return [np.moveaxis(values, -1, axis), np.moveaxis(order, -1, axis)]


REDUCTIONS: dict[str, Rule] = {
    "reduce_sum": reduction(np.add, ZERO),
    "psum": over_batch(reduction(np.add, ZERO)),
    "pmax": over_batch(reduce_extreme("larger")),
    "pmin": over_batch(reduce_extreme("smaller")),
    "reduce_prod": reduction(np.multiply, ONE),
    "reduce_max": reduce_extreme("larger"),
    "reduce_min": reduce_extreme("smaller"),
    "reduce": reduce_fold,
    "argmax": arg_extreme("larger"),
    "argmin": arg_extreme("smaller"),
    "cumsum": cumulative(lambda ev, place, x, axis: np.add.accumulate(x, axis)),
    "cumprod": cumulative(lambda ev, place, x, axis: np.multiply.accumulate(x, axis)),
    "cummax": cumulative(running_extreme("larger")),
    "cummin": cumulative(running_extreme("smaller")),
    "cumlogsumexp": cumulative(log_sum_exp),
    "sort": sort,
    "top_k": top_k,
}
TRUTHS = {"reduce_and": reduce_truths(conjunction), "reduce_or": reduce_truths(disjunction)}
