"""Rules that take many entries to one, running totals, and sorting."""

import functools
import math

import numpy as np
from flint import arb

from jaxnn.verify.arithmetic.balls import NEG_INF, boxes, wrap
from jaxnn.verify.arithmetic.decisions import Undecided, Unsupported, codes, logic
from jaxnn.verify.arithmetic.entrywise import log
from jaxnn.verify.arithmetic.rules import closed


def reduction(f, start):
    return lambda ev, params, place, x: f.reduce(x, axis=tuple(params["axes"]), initial=start)


def rows(x, axes):
    """x with the reduced axes as one, the last; and its shape without them."""
    kept = [i for i in range(x.ndim) if i not in axes]
    shape = tuple(x.shape[i] for i in kept)
    return x.transpose(*kept, *axes).reshape(math.prod(shape), math.prod(x.shape[i] for i in axes)), shape


def best(ev, place, better, row):
    """The place of the extreme entry of a row, and that entry; no place (None) where it is not decided."""
    at: int | None = 0
    value = row[0]
    for j, v in enumerate(row[1:], 1):
        new = getattr(ev.ties, better)(value, v, (place, j))
        if new is not value:
            at, value = (j if new is v else None), new
    return at, value


def decided_best(ev, place, better, row):
    at, _ = best(ev, place, better, row)
    if at is None:
        raise Undecided
    return at


START = {"larger": NEG_INF, "smaller": -NEG_INF}


def reduce_extreme(better):
    def rule(ev, params, place, x):
        table, shape = rows(x, params["axes"])
        return boxes(
            [best(ev, (place, i), better, row)[1] if len(row) else START[better] for i, row in enumerate(table)], shape
        )

    return rule


def arg_extreme(better):
    def rule(ev, params, place, x):
        table, shape = rows(x, params["axes"])
        found = [decided_best(ev, (place, i), better, row) for i, row in enumerate(table)]
        return np.array(found, params["index_dtype"]).reshape(shape)

    return rule


def reduce_truths(f):
    def rule(ev, params, place, x):
        table, shape = rows(x.codes, params["axes"])
        return logic(codes(f(*table.T)).reshape(shape))

    return rule


def fold(ev, params, start, table):
    """Every row of a table, from a start, through a computation given as a jaxpr."""
    jaxpr, consts = closed(params["jaxpr"])
    consts = [ev.enter(c) for c in [*consts, *params.get("consts", ())]]
    out = []
    for row in table:
        total = start
        for v in row:
            (total,) = ev.run(jaxpr, consts, [total, wrap(v)])
        out.append(total[()])
    return out


def reduce_any(ev, params, place, x, start):
    table, shape = rows(x, params["dimensions"])
    return [boxes(fold(ev, params, start, table), shape)]


def over_batch(reduce):
    """A sum or extreme over an axis that has a name: one that was vmapped, for devices are out of reach."""

    def rule(ev, params, place, x):
        if any(isinstance(axis, str) for axis in params["axes"]):
            raise Unsupported("a reduction over devices")
        return reduce(ev, params, place, x)

    return rule


def cumulative(f):
    def rule(ev, params, place, x):
        axis = params["axis"]
        x = np.flip(x, axis) if params["reverse"] else x
        x = f(ev, place, x, axis)
        return np.flip(x, axis) if params["reverse"] else x

    return rule


def running(better):
    def rule(ev, place, x, axis):
        out = np.moveaxis(x, axis, -1).copy()
        for i in np.ndindex(out.shape[:-1]):
            for j in range(1, out.shape[-1]):
                out[i][j] = getattr(ev.ties, better)(out[i][j - 1], out[i][j], (place, i, j))
        return np.moveaxis(out, -1, axis)

    return rule


def log_sum_exp(ev, place, x, axis):
    return np.frompyfunc(log, 1, 1)(np.add.accumulate(np.exp(x), axis))


def sorted_order(ev, place, keys, descending=False):
    """The stable order of entries by their keys; Undecided where balls overlap, unless they are one."""

    def compare(i, j):
        for key in keys:
            order = (
                ev.ties.order(key[i], key[j], (place, i, j))
                if isinstance(key[i], arb)
                else int(key[i] > key[j]) - int(key[i] < key[j])
            )
            if order is None:
                raise Undecided
            if order:
                return -order if descending else order
        return 0

    return sorted(range(len(keys[0])), key=functools.cmp_to_key(compare))


def sort(ev, params, place, *operands):
    axis = params["dimension"]
    tables = [np.moveaxis(x, axis, -1) for x in operands]
    out = [table.copy() for table in tables]
    for i in np.ndindex(tables[0].shape[:-1]):
        order = sorted_order(ev, (place, i), [table[i] for table in tables[: params["num_keys"]]])
        for new, table in zip(out, tables, strict=True):
            new[i] = table[i][order]
    return [np.moveaxis(table, -1, axis) for table in out]


def top_k(ev, params, place, x):
    k, axis = params["k"], params.get("axis", -1)
    x = np.moveaxis(x, axis, -1)
    order = np.empty((*x.shape[:-1], k), np.int32)
    for i in np.ndindex(x.shape[:-1]):
        order[i] = sorted_order(ev, (place, i), [x[i]], descending=True)[:k]
    values = np.take_along_axis(x, order, -1)
    return [np.moveaxis(values, -1, axis), np.moveaxis(order, -1, axis)]
