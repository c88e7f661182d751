"""Shapes: which one arrays share, a vector beside every example, and where on a mesh an output lies."""

import jax
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from jaxnn.dtypes import check_one_dtype, wide


def along(x: Array, v: Array) -> Array:
    """A vector (n,) beside every example of x (…, n), in float32 at least."""
    return wide(v).reshape((1,) * (x.ndim - 1) + v.shape)


def laid_out(x: Array, axes: int, W: Array, axis: int) -> NamedSharding:
    """Where on a mesh an array lies that has the first axes of x, so many, and one axis of W."""
    of_x, of_W = jax.typeof(x).sharding, jax.typeof(W).sharding
    mesh = of_W.mesh if of_x.mesh.empty else of_x.mesh
    return NamedSharding(mesh, PartitionSpec(*of_x.spec.partitions[:axes], of_W.spec.partitions[axis]))


def check_entries(op: str, **arrays: Array) -> None:
    """ValueError unless an example of each of these arrays (…, n) has an entry."""
    for name, v in arrays.items():
        if not any(v.shape[-1:]):
            raise ValueError(f"{op} was given {name} of shape {v.shape}: give (…, n), with an n of 1 or more.")


def check_vector(op: str, x: Array, **vectors: Array | None) -> None:
    """ValueError unless each of these, of which None are left out, has the shape (n,) of an example of x (…, n)."""
    check_entries(op, x=x)
    for name, v in vectors.items():
        if v is not None and v.shape != x.shape[-1:]:
            raise ValueError(f"{op} was given {name} of shape {v.shape} for x of {x.shape}: give {x.shape[-1:]}.")


def check_one_shape(op: str, **arrays: Array) -> None:
    """ValueError unless all of these arrays have one shape."""
    if len({v.shape for v in arrays.values()}) > 1:
        given = " and ".join(f"{name} of shape {v.shape}" for name, v in arrays.items())
        raise ValueError(f"{op} was given {given}: they must have one shape; use jnp.broadcast_to.")


def fits(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether an array of this shape broadcasts to the whole."""
    axes = zip(reversed(shape), reversed(whole), strict=False)
    return len(shape) <= len(whole) and all(n in (1, m) for n, m in axes)


def check_names(op: str, name: str, y: Array, n: int, but: int | None = None) -> None:
    """ValueError for a whole number in y that is known, names none of n entries, and is not `but`."""
    if isinstance(y, jax.core.Tracer):
        return
    known = np.asarray(y)
    wrong = known[((known < 0) | (known >= n)) & (but is None or known != but)]
    if wrong.size:
        raise ValueError(f"{op} was given {name} with {wrong[0]}: give whole numbers from 0 to {n - 1}.")


def check_alike(op: str, **arrays: Array) -> None:
    """ValueError unless all of these arrays have one shape: (m,) beside (m, 1) would be (m, m). TypeError unless they
    have one float dtype."""
    check_one_dtype(op, **arrays)
    check_one_shape(op, **arrays)


def check_shape(op: str, name: str, v: Array, shape: tuple[int, ...], given: str) -> None:
    """ValueError unless v has this shape, which follows from what else was given."""
    if v.shape != shape:
        raise ValueError(f"{op} was given {name} of shape {v.shape} for {given}: give {shape}.")
