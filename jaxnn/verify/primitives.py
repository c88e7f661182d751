"""The primitives of JAX on arrays of balls. A rule: (evaluation, params, place, *inputs) -> the output, or a list.

Rules that only move entries are NumPy's own or, with index arithmetic of some depth, JAX's on integer ids.
"""

import functools
import math
import operator

import jax
import numpy as np
from flint import arb
from jax import lax

from jaxnn.verify.balls import NEG_INF, ONE, ZERO, enter, is_balls, is_float, wrap
from jaxnn.verify.decisions import (
    FALSE,
    TRUE,
    UNKNOWN,
    Logic,
    Undecided,
    Unsupported,
    codes,
    conjunction,
    disjunction,
    exclusive,
    logic,
    mixed,
    negation,
    relation,
)
from jaxnn.verify.products import conv, dot
from jaxnn.verify.windows import padded, windows


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


# Entry by entry


def logistic(z):
    return 1 / (1 + (-z).exp())


def log(x):
    return NEG_INF if x == 0 else x.log()


def lgamma(x):  # log |Γ(x)|
    return x.lgamma() if x > 0 else abs(x.gamma()).log()


def cbrt(x):
    return x.root(3) if x > 0 else -(-x).root(3) if x < 0 else x if x == 0 else arb.nan()


def power(x, y):
    if not isinstance(y, arb):
        return x ** int(y)
    return x ** whole(y) if y.is_exact() and y.is_integer() else x**y


def polygamma(n, x):  # ψ⁽ⁿ⁾(x) = (−1)ⁿ⁺¹ n! ζ(n + 1, x)
    if not (n.is_exact() and n.is_integer() and n >= 0):
        return arb.nan()
    n = whole(n)
    return x.digamma() if n == 0 else (-1) ** (n + 1) * arb.fac_ui(n) * arb(n + 1).zeta(x)


def round_(ev, params, place, x):
    half_even = params["rounding_method"] == lax.RoundingMethod.TO_NEAREST_EVEN

    def nearest(v):
        if not half_even:
            return (abs(v) + 0.5).floor() * v.sgn()
        if v.is_exact() and (v + 0.5).is_integer():  # a tie
            return 2 * ((v + 0.5) / 2).floor()
        return (v - 0.5).ceil().union((v + 0.5).floor())

    return np.frompyfunc(nearest, 1, 1)(x)


def remainder(x, y):  # of the sign of x
    q = x / y
    return x - (q.floor() if q >= 0 else q.ceil() if q < 0 else q.floor().union(q.ceil())) * y


EACH = {
    "exp": arb.exp,
    "exp2": lambda x: arb(2) ** x,
    "expm1": arb.expm1,
    "log": log,
    "log1p": arb.log1p,
    "log2": lambda x: log(x) / arb(2).log(),
    "sqrt": arb.sqrt,
    "rsqrt": arb.rsqrt,
    "cbrt": cbrt,
    "logistic": logistic,
    "sin": arb.sin,
    "cos": arb.cos,
    "tan": arb.tan,
    "asin": arb.asin,
    "acos": arb.acos,
    "atan": arb.atan,
    "sinh": arb.sinh,
    "cosh": arb.cosh,
    "tanh": arb.tanh,
    "asinh": arb.asinh,
    "acosh": arb.acosh,
    "atanh": arb.atanh,
    "erf": arb.erf,
    "erfc": arb.erfc,
    "erf_inv": arb.erfinv,
    "lgamma": lgamma,
    "digamma": arb.digamma,
    "abs": abs,
    "square": lambda x: x**2,
    "one_minus_square": lambda x: 1 - x**2,
    "sign": arb.sgn,
    "floor": arb.floor,
    "ceil": arb.ceil,
    "bessel_i0e": lambda x: x.bessel_i(0) * (-abs(x)).exp(),
    "bessel_i1e": lambda x: x.bessel_i(1) * (-abs(x)).exp(),
}
BOTH = {
    "pow": power,
    "atan2": arb.atan2,
    "rem": remainder,
    "igamma": lambda a, x: x.gamma_lower(a, regularized=1),
    "igammac": lambda a, x: x.gamma_upper(a, regularized=1),
    "polygamma": polygamma,
    "zeta": lambda s, a: s.zeta(a),  # Σ 1 / (a + k)ˢ
}
ARITHMETIC = {
    "add": np.add,
    "add_any": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": operator.truediv,
    "neg": np.negative,
}


def integer_pow(ev, params, place, x):
    return x ** params["y"]


def polynomial(ev, params, place, x, *coefficients):
    return functools.reduce(lambda total, c: total * x + c, reversed(coefficients))


def is_finite(ev, params, place, x):
    # What is not known to be finite is known to be infinite only where it is exactly so.
    return logic(np.frompyfunc(lambda v: TRUE if v.is_finite() else FALSE if abs(v) == -NEG_INF else UNKNOWN, 1, 1)(x))


# Decisions


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


def clamp(ev, params, place, low, x, high):
    at_least = RULES["max"](ev, params, (place, "low"), x, low)
    return RULES["min"](ev, params, (place, "high"), at_least, high)


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


def whole(v):
    """The integer part of a ball, towards zero, where it has one alone."""
    if not v.is_finite():
        raise Undecided
    n = (v.floor() if v >= 0 else v.ceil()).unique_fmpz()
    if n is None:
        raise Undecided
    return int(n)


def bitcast_convert_type(ev, params, place, x):
    """The bits of the float next to a number: where all of a ball has the same one."""
    dtype = {4: np.float32, 8: np.float64}.get(np.dtype(params["new_dtype"]).itemsize)
    if dtype is None:
        raise Unsupported("the bits of short floats")
    low, high = (np.array([float(end(v)) for v in x.flat], dtype).reshape(x.shape) for end in (arb.lower, arb.upper))
    if not np.array_equal(low, high):
        raise Undecided
    return low.view(params["new_dtype"])


def on_truths(three_valued, ufunc):
    def rule(ev, params, place, *inputs):
        return three_valued(*inputs) if any(isinstance(v, Logic) for v in inputs) else ufunc(*inputs)

    return rule


# Reductions


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


def boxes(values, shape):
    out = np.empty(len(values), object)
    out[:] = values
    return out.reshape(shape)


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


# Entries that move


def reshape(ev, params, place, x):
    first = x if params["dimensions"] is None else x.transpose(params["dimensions"])
    return first.reshape(params["new_sizes"])


def broadcast_in_dim(ev, params, place, x, *_):
    shape, to = params["shape"], params["broadcast_dimensions"]
    sizes = [1] * len(shape)
    for i, n in zip(to, x.shape, strict=True):
        sizes[i] = n
    return np.broadcast_to(x.reshape(sizes), shape)


def slice_(ev, params, place, x):
    strides = params["strides"] or [1] * x.ndim
    return x[tuple(map(slice, params["start_indices"], params["limit_indices"], strides))]


def unstack(ev, params, place, x):
    return [wrap(v) for v in np.moveaxis(x, params["axis"], 0)]


def split(ev, params, place, x):
    return np.split(x, np.cumsum(params["sizes"])[:-1], params["axis"])


def pad(ev, params, place, x, fill):
    low, high, interior = zip(*params["padding_config"], strict=True) if x.ndim else ((), (), ())
    return padded(x, zip(low, high, strict=True), [n + 1 for n in interior], fill[()])


def within(shape, sizes, starts):
    """A slice of these sizes, moved so that it lies inside, as XLA does."""
    starts = [min(max(int(i), 0), n - size) for n, size, i in zip(shape, sizes, starts, strict=True)]
    return tuple(slice(i, i + size) for i, size in zip(starts, sizes, strict=True))


def dynamic_slice(ev, params, place, x, *starts):
    return x[within(x.shape, params["slice_sizes"], starts)]


def dynamic_update_slice(ev, params, place, x, update, *starts):
    out = x.copy()
    out[within(x.shape, update.shape, starts)] = update
    return out


def gather(ev, params, place, x, indices):
    """JAX's own on ids instead of entries; the id −1 is an entry out of bounds, which was filled in."""
    ids = np.arange(x.size).reshape(x.shape)
    ids = np.asarray(lax.gather_p.bind(ids, indices, **params | {"fill_value": -1}))
    fill = params["fill_value"]
    return boxes([*x.flat, arb.nan() if fill is None else arb(float(fill))], x.size + 1)[ids]


def targets(params, x, indices, updates):
    """For every update, the place in x that it goes to plus 1; 0 of one that is dropped. Scattering is linear in the
    updates, so its transpose reads where each goes."""
    mode = params["mode"]
    if mode == lax.GatherScatterMode.PROMISE_IN_BOUNDS:
        mode = lax.GatherScatterMode.FILL_OR_DROP  # what XLA does where the promise is broken
    add = functools.partial(
        lax.scatter_add_p.bind, **params | {"update_jaxpr": None, "update_consts": (), "mode": mode}
    )
    scatter = lambda u: add(np.zeros(x.shape), indices, u)  # noqa: E731
    ids = np.arange(1.0, x.size + 1).reshape(x.shape)
    (places,) = jax.linear_transpose(scatter, np.zeros(updates.shape))(ids)
    return np.asarray(places, int).ravel()


def scatter(combine):
    def rule(ev, params, place, x, indices, updates):
        out = x.ravel().copy()
        for i, v in zip(targets(params, x, indices, updates), updates.flat, strict=True):
            if i:
                out[i - 1] = combine(ev, params, (place, i), out[i - 1], v)
        return out.reshape(x.shape)

    return rule


def replace(ev, params, place, old, new):
    """`x.at[i].apply(f)` is a scatter too, with f in this jaxpr."""
    if params["update_jaxpr"] is None:
        return new
    consts = [ev.enter(c) for c in params["update_consts"]]
    return ev.run(params["update_jaxpr"], consts, [wrap(old), wrap(new)])[0][()]


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


# Linear algebra, batched over leading axes


def matrices(f, *arrays):
    lead = arrays[0].shape[:-2]
    out = np.empty(arrays[-1].shape, object)
    for i in np.ndindex(lead):
        out[i] = f(*(a[i] for a in arrays))
    return out


def cholesky(ev, params, place, a):
    def factor(a):
        L = boxes([ZERO] * a.size, a.shape)
        for j in range(len(a)):
            L[j, j] = (a[j, j] - sum(L[j, :j] ** 2, ZERO)).sqrt()
            for i in range(j + 1, len(a)):
                L[i, j] = (a[i, j] - sum(L[i, :j] * L[j, :j], ZERO)) / L[j, j]
        return L

    return matrices(factor, a)


def triangular_solve(ev, params, place, a, b):
    def solve(a, b):
        if params["transpose_a"]:
            a = a.T
        if not params["left_side"]:
            a, b = a.T, b.T
        lower = params["lower"] ^ params["transpose_a"] ^ (not params["left_side"])
        x = b.copy()
        order = range(len(a)) if lower else range(len(a) - 1, -1, -1)
        for i in order:
            for j in range(i) if lower else range(i + 1, len(a)):
                x[i] = x[i] - a[i, j] * x[j]
            x[i] = x[i] if params["unit_diagonal"] else x[i] / a[i, i]
        return x if params["left_side"] else x.T

    return matrices(solve, a, b)


def lu(ev, params, place, a):
    factors, lead = a.copy(), a.shape[:-2]
    pivots = np.empty((*lead, min(a.shape[-2:])), np.int32)
    order = np.array(np.broadcast_to(np.arange(a.shape[-2], dtype=np.int32), (*lead, a.shape[-2])))
    for b in np.ndindex(lead):
        f = factors[b]
        for k in range(pivots.shape[-1]):
            p = k + decided_best(ev, (place, b, k), "larger", [abs(v) for v in f[k:, k]])
            pivots[(*b, k)] = p
            f[[k, p]] = f[[p, k]]
            order[b][[k, p]] = order[b][[p, k]]
            f[k + 1 :, k] = f[k + 1 :, k] / f[k, k]
            f[k + 1 :, k + 1 :] -= np.multiply.outer(f[k + 1 :, k], f[k, k + 1 :])
    return [factors, pivots, order]


# Calls and loops


def high_level(ev, params, inputs):
    """A primitive that says itself what it is in terms of others."""
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), params["_prim"].in_avals)
    jaxpr, consts = closed(jax.make_jaxpr(params["_prim"].expand)(*shapes))
    return ev.run(jaxpr, [ev.enter(c) for c in consts], inputs)


def closed(jaxpr):
    return (jaxpr.jaxpr, jaxpr.consts) if hasattr(jaxpr, "consts") else (jaxpr, ())


def call(ev, params, inputs):
    (name,) = {"jaxpr", "call_jaxpr", "call"} & params.keys()
    jaxpr, consts = closed(params[name])
    return ev.run(jaxpr, [ev.enter(c) for c in consts], inputs)


def custom_jvp_call(ev, params, inputs):
    """The function itself. JAX's `exp_neg_sq` (0.12, in erf's derivative) splits x in two floats by their bits, to
    round less: of a real number it is exp(−x²)."""
    jaxpr, _ = closed(params["call_jaxpr"])
    if jaxpr.debug_info.func_name == "exp_neg_sq" and is_balls(inputs[0]):
        return [np.frompyfunc(lambda x: (-(x**2)).exp(), 1, 1)(inputs[0])]
    return call(ev, params, inputs)


def scanned(params, inputs):
    """What stays the same, what is carried, and what is taken step by step, of the inputs of a scan."""
    if "ft_in" in params:  # since JAX 0.12
        return map(list, params["ft_in"].update(inputs).unpack())
    n, k = params["num_consts"], params["num_carry"]
    return inputs[:n], inputs[n : n + k], inputs[n + k :]


def scan(ev, params, inputs):
    jaxpr, consts = closed(params["jaxpr"])
    consts = [ev.enter(c) for c in consts]
    fixed, carry, xs = scanned(params, inputs)
    k = len(carry)
    steps = range(params["length"])
    ys = {}
    for t in reversed(steps) if params["reverse"] else steps:
        out = ev.run(jaxpr, consts, [*fixed, *carry, *(ev.entry(x, t) for x in xs)])
        carry, ys[t] = out[:k], out[k:]
    if not steps:
        shapes = [v.aval for v in jaxpr.outvars[k:]]
        return [*carry, *(np.empty((0, *a.shape), object if is_float(a) else a.dtype) for a in shapes)]
    return [*carry, *(ev.stack([ys[t][i] for t in steps]) for i in range(len(ys[0])))]


def while_(ev, params, inputs):
    c, b = params["cond_nconsts"], params["body_nconsts"]
    carry = inputs[c + b :]
    test, test_consts = closed(params["cond_jaxpr"])
    body, body_consts = closed(params["body_jaxpr"])
    test_consts, body_consts = [ev.enter(v) for v in test_consts], [ev.enter(v) for v in body_consts]
    while any_more(more := ev.run(test, test_consts, [*inputs[:c], *carry])[0]):
        ev.decided(more)
        new = ev.run(body, body_consts, [*inputs[c : c + b], *carry])
        carry = [chosen(ev, more, *values) for values in zip(carry, new, strict=True)] if more.shape else new
    return carry


def any_more(v):
    """Whether a loop goes on; of a loop that was vmapped, any of them."""
    if isinstance(v, Logic) and TRUE not in v.codes:
        raise Undecided
    return (codes(v) == TRUE).any()


def chosen(ev, which, old, new):
    """The new values of those loops of a batch that go on."""
    axes = tuple(range(len(which.shape), new.ndim))
    which = logic(np.broadcast_to(np.expand_dims(codes(which), axes), new.shape))
    return select_n(ev, {}, None, which, old, new)


def cond(ev, params, inputs):
    index, *operands = inputs
    ev.decided(index)
    jaxpr, consts = closed(params["branches"][int(index)])
    return ev.run(jaxpr, [ev.enter(c) for c in consts], operands)


def linear_solve(ev, params, inputs):
    """custom_linear_solve: its own `solve`, with that part of the constants."""
    lengths = params["const_lengths"]
    ends = np.cumsum([lengths.matvec, lengths.vecmat, lengths.solve, lengths.transpose_solve])
    jaxpr, consts = closed(params["jaxprs"].solve)
    return ev.run(jaxpr, [ev.enter(c) for c in consts], [*inputs[ends[1] : ends[2]], *inputs[ends[3] :]])


CALLS = {
    **dict.fromkeys(("jit", "closed_call", "eval_jaxpr", "remat2", "composite"), call),
    "custom_jvp_call": custom_jvp_call,
    **dict.fromkeys(("custom_vjp_call", "custom_vmap_call"), call),
    "scan": scan,
    "while": while_,
    "cond": cond,
    "custom_linear_solve": linear_solve,
    "call_hi_primitive": high_level,
}

MOVES = {
    "reshape": reshape,
    "squeeze": lambda ev, params, place, x: np.squeeze(x, tuple(params["dimensions"])),
    "transpose": lambda ev, params, place, x: np.transpose(x, params["permutation"]),
    "rev": lambda ev, params, place, x: np.flip(x, params["dimensions"]),
    "concatenate": lambda ev, params, place, *xs: np.concatenate(xs, params["dimension"]),
    "stack": lambda ev, params, place, *xs: np.stack(xs, params["axis"]),
    "unstack": unstack,
    "split": split,
    "tile": lambda ev, params, place, x: np.tile(x, params["reps"]),
    "broadcast_in_dim": broadcast_in_dim,
    "slice": slice_,
    "pad": pad,
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
    "gather": gather,
}
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
    "max": on_balls(extreme("larger", np.maximum)),
    "min": on_balls(extreme("smaller", np.minimum)),
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
