"""Shapes: which one arrays share, a vector beside every example, and where on a mesh an output lies."""

import jax
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from jaxnn.dtypes import wide


def along(x: Array, v: Array) -> Array:
    """A vector (n,) beside every example of x (…, n), in float32 at least."""
    return wide(v).reshape((1,) * (x.ndim - 1) + v.shape)


def laid_out(x: Array, axes: int, W: Array, axis: int) -> NamedSharding:
    """Where on a mesh an array lies that has the first axes of x, so many, and one axis of W."""
    of_x, of_W = jax.typeof(x).sharding, jax.typeof(W).sharding
    mesh = of_W.mesh if of_x.mesh.empty else of_x.mesh
    return NamedSharding(mesh, PartitionSpec(*of_x.spec[:axes], of_W.spec[axis]))


def check_vector(op: str, x: Array, **vectors: Array | None) -> None:
    """ValueError unless each of these, of which None are left out, has the shape (n,) of an example of x (…, n)."""
    for name, v in vectors.items():
        if v is not None and v.shape != x.shape[-1:]:
            raise ValueError(f"{op} was given {name} of shape {v.shape} for x of {x.shape}: give {x.shape[-1:]}.")


def check_one_shape(op: str, **arrays: Array) -> None:
    """ValueError unless all of these arrays have one shape."""
    if len({v.shape for v in arrays.values()}) > 1:
        given = " and ".join(f"{name} of shape {v.shape}" for name, v in arrays.items())
        raise ValueError(f"{op} was given {given}: they must have one shape; use jnp.broadcast_to.")


def check_shape(op: str, name: str, v: Array, shape: tuple[int, ...], given: str) -> None:
    """ValueError unless v has this shape, which follows from what else was given."""
    if v.shape != shape:
        raise ValueError(f"{op} was given {name} of shape {v.shape} for {given}: give {shape}.")
