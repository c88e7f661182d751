"""Rules that move entries: NumPy's own or, with index arithmetic of some depth, JAX's on integer ids."""

from collections.abc import Callable, Iterable, Sequence
from types import ModuleType

import jax
import numpy as np
from flint import arb
from jax import lax

from jaxnn.verify.arithmetic.balls import Balls, object_array, wrap
from jaxnn.verify.arithmetic.decisions import Place
from jaxnn.verify.arithmetic.rules import EqnParams, Evaluator, Rule
from jaxnn.verify.arithmetic.windows import padded

Combine = Callable[[Evaluator, EqnParams, Place, arb, arb], arb]  # of an entry and its update


def reshape(ev: Evaluator, params: EqnParams, place: Place, x: Balls) -> Balls:
    """x in another shape, its axes first in the order `dimensions` if that is given."""
    first = x if params["dimensions"] is None else x.transpose(params["dimensions"])
    return first.reshape(params["new_sizes"])


def broadcast_in_dim(ev: Evaluator, params: EqnParams, place: Place, x: Balls, *_: Balls) -> Balls:
    """x repeated: its axis i becomes the axis broadcast_dimensions[i] of the shape."""
    shape = params["shape"]
    sizes = [1] * len(shape)
    for i, n in zip(params["broadcast_dimensions"], x.shape, strict=True):
        sizes[i] = n
    return np.broadcast_to(x.reshape(sizes), shape)


def slice_(ev: Evaluator, params: EqnParams, place: Place, x: Balls) -> Balls:
    """x[start:limit:stride] on every axis."""
    strides = params["strides"] or [1] * x.ndim
    return x[tuple(map(slice, params["start_indices"], params["limit_indices"], strides))]


def unstack(ev: Evaluator, params: EqnParams, place: Place, x: Balls) -> list[Balls]:
    """The entries of x along one axis, each an array."""
    return [wrap(v) for v in np.moveaxis(x, params["axis"], 0)]


def split(ev: Evaluator, params: EqnParams, place: Place, x: Balls) -> list[Balls]:
    """x in parts of the given sizes along one axis."""
    return np.split(x, np.cumsum(params["sizes"])[:-1], params["axis"])


def pad(ev: Evaluator, params: EqnParams, place: Place, x: Balls, fill: Balls) -> Balls:
    """x with `fill` around it, and `interior` times between its entries, on every axis."""
    low, high, interior = zip(*params["padding_config"], strict=True) if x.ndim else ((), (), ())
    return padded(x, zip(low, high, strict=True), [n + 1 for n in interior], fill[()])


def slices_within(shape: Sequence[int], sizes: Sequence[int], starts: Iterable[np.ndarray]) -> tuple[slice, ...]:
    """Slices of these sizes from `starts`, each moved so that it lies inside `shape`, as XLA does."""
    inside = [min(max(int(i), 0), n - size) for n, size, i in zip(shape, sizes, starts, strict=True)]
    return tuple(slice(i, i + size) for i, size in zip(inside, sizes, strict=True))


def dynamic_slice(ev: Evaluator, params: EqnParams, place: Place, x: Balls, *starts: np.ndarray) -> Balls:
    """The part of x of size `slice_sizes` that begins at `starts`."""
    return x[slices_within(x.shape, params["slice_sizes"], starts)]


def dynamic_update_slice(
    ev: Evaluator, params: EqnParams, place: Place, x: Balls, update: Balls, *starts: np.ndarray
) -> Balls:
    """x with `update` in the place of the part that begins at `starts`."""
    out = x.copy()
    out[slices_within(x.shape, update.shape, starts)] = update
    return out


def rolled(xp: ModuleType, params: EqnParams, x: Balls, shift: np.ndarray) -> Balls:
    """x moved along an axis, what leaves it at the end entering at the start; each row `stride` further than the last.
    xp: NumPy, or JAX's."""
    axis, rows = params["axis"], params["stride_axis"]
    if params["stride"] is None:
        return xp.roll(x, shift, axis)
    parts = enumerate(xp.split(x, x.shape[rows], rows))
    return xp.concatenate([xp.roll(part, shift + i * params["stride"], axis) for i, part in parts], rows)


def gather(ev: Evaluator, params: EqnParams, place: Place, x: Balls, indices: np.ndarray) -> Balls:
    """JAX's own on ids instead of entries; the id −1 is an entry out of bounds, which was filled in."""
    ids = np.arange(x.size).reshape(x.shape)
    ids = np.asarray(lax.gather_p.bind(ids, indices, **params | {"fill_value": -1}))
    fill = params["fill_value"]
    return object_array([*x.flat, arb.nan() if fill is None else arb(float(fill))], x.size + 1)[ids]


def targets(params: EqnParams, x: Balls, indices: np.ndarray, updates: Balls) -> np.ndarray:
    """For every update, the place in x that it goes to plus 1; 0 for one that is dropped. Scattering is linear in the
    updates, so its transpose reads where each goes."""
    mode = params["mode"]
    if mode == lax.GatherScatterMode.PROMISE_IN_BOUNDS:
        mode = lax.GatherScatterMode.FILL_OR_DROP  # what XLA does if the promise is broken
    linear = params | {"update_jaxpr": None, "update_consts": (), "mode": mode}

    def scatter_add(updates: jax.Array) -> jax.Array:
        return lax.scatter_add_p.bind(np.zeros(x.shape), indices, updates, **linear)

    ids = np.arange(1.0, x.size + 1).reshape(x.shape)
    (places,) = jax.linear_transpose(scatter_add, np.zeros(updates.shape))(ids)
    return np.asarray(places, int).ravel()


def scatter(combine: Combine) -> Rule:
    """The rule that puts combine(…, entry, update) in the place of every entry that an update goes to."""

    def rule(ev: Evaluator, params: EqnParams, place: Place, x: Balls, indices: np.ndarray, updates: Balls) -> Balls:
        out = x.ravel().copy()
        for i, v in zip(targets(params, x, indices, updates), updates.flat, strict=True):
            if i:
                out[i - 1] = combine(ev, params, (place, i), out[i - 1], v)
        return out.reshape(x.shape)

    return rule


def replace(ev: Evaluator, params: EqnParams, place: Place, old: arb, new: arb) -> arb:
    """`x.at[i].apply(f)` is a scatter too, with f in this jaxpr."""
    if params["update_jaxpr"] is None:
        return new
    consts = [ev.enter(c) for c in params["update_consts"]]
    return ev.run(params["update_jaxpr"], consts, [wrap(old), wrap(new)])[0][()]


MOVES: dict[str, Rule] = {
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
    "roll": lambda ev, params, place, x, shift: rolled(np, params, x, shift),
    "broadcast_to": lambda ev, params, place, x: np.broadcast_to(x, params["shape"]),
    "slice": slice_,
    "pad": pad,
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
    "gather": gather,
}
SCATTERS: dict[str, Rule] = {
    "scatter": scatter(replace),
    "scatter-add": scatter(lambda ev, params, place, old, new: old + new),
    "scatter-sub": scatter(lambda ev, params, place, old, new: old - new),
    "scatter-mul": scatter(lambda ev, params, place, old, new: old * new),
    "scatter-max": scatter(lambda ev, params, place, old, new: ev.ties.larger(old, new, place)),
    "scatter-min": scatter(lambda ev, params, place, old, new: ev.ties.smaller(old, new, place)),
}
