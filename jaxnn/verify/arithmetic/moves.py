"""Rules that move entries: NumPy's own or, with index arithmetic of some depth, JAX's on integer ids."""

import functools

import jax
import numpy as np
from flint import arb
from jax import lax

from jaxnn.verify.arithmetic.balls import boxes, wrap
from jaxnn.verify.arithmetic.windows import padded


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
