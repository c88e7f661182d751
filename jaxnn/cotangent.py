"""The cotangent of an array has its type: its shape, its dtype, and its place on the devices of a mesh.

Where a formula uses one entry of v several times, ∂J/∂v is the sum over its uses: along the axes that broadcasting
added or stretched, over the examples of a product, and, inside `jax.shard_map`, over the devices that hold one v.
"""

import jax
from jax import Array, lax
from jax import numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxnn.dtypes import at_least_float32
from jaxnn.protocols import PyTree


def like(v: Array, dv: Array) -> Array:
    """∂J/∂v from dv, the share of each use of v, which broadcasts to dv's shape; summed in float32 at least."""
    return over_devices(v, summed(v, dv).astype(v.dtype))


def summed(v: Array, dv: Array) -> Array:
    """Σ of dv over what v was broadcast along, with v's shape, in float32 at least."""
    added = dv.ndim - v.ndim
    stretched = tuple(added + i for i, n in enumerate(v.shape) if n == 1 != dv.shape[added + i])
    return dv.sum((*range(added), *stretched), dtype=at_least_float32(dv.dtype)).reshape(v.shape)


def product(v: Array, equation: str, *operands: Array) -> Array:
    """∂J/∂v as `jnp.einsum` of an equation, laid out over the devices as v is; summed in float32 at least."""
    return over_devices(v, wide_product(v, equation, *operands).astype(v.dtype))


def wide_product(v: Array, equation: str, *operands: Array) -> Array:
    """The same of each device by itself, in float32 at least."""
    dtype = at_least_float32(v.dtype)
    return jnp.einsum(equation, *operands, preferred_element_type=dtype, out_sharding=laid_out(v)).astype(dtype)


def laid_out(v: Array) -> NamedSharding:
    """Where on a mesh ∂J/∂v lies: where v does. The sum over the axes along which v is `reduced` is not made: there
    ∂J/∂v is `unreduced`, and it is the caller's to sum it."""
    sharding = jax.typeof(v).sharding
    spec = sharding.spec
    return NamedSharding(sharding.mesh, PartitionSpec(*spec.partitions, unreduced=spec.reduced, reduced=spec.unreduced))


def times(number: Array, dv: Array) -> Array:
    """A number times a cotangent, of which devices may hold a share each, `unreduced`."""
    axes = jax.typeof(dv).sharding.spec.unreduced
    return (jax.reshard(number, PartitionSpec(reduced=axes)) if axes else number) * dv


def zeros(v: Array) -> Array:
    """What shares of ∂J/∂v are added to, in float32 at least."""
    return jnp.zeros_like(v, at_least_float32(v.dtype), out_sharding=laid_out(v))


def over_devices(v: Array, dv: Array) -> Array:
    """Σ of dv over the axes of a mesh on which devices hold one v and each its own share dv: none outside of
    `jax.shard_map`, and none with `check_vma=False`, where JAX leaves the sum to the caller."""
    return lax.psum(dv, tuple(sorted(varying(dv) - varying(v))))


def together(arrays: PyTree) -> PyTree:
    """The same tree of arrays, each different on the devices on which one is: what a loop carries keeps its type."""
    axes = frozenset().union(*map(varying, jax.tree.leaves(arrays)))
    return jax.tree.map(lambda v: lax.pcast(v, tuple(sorted(axes - varying(v))), to="varying"), arrays)


def varying(v: Array) -> frozenset:
    """The axes of a mesh along which devices hold different v, inside `jax.shard_map`."""
    return jax.typeof(v).manual_axis_type.varying


def unless_of_type(out: Array, v: Array) -> Array | None:
    """What a backward pass keeps of a v whose value it does not use: v, or None if v has the type of out, which is
    there in v's stead."""
    return None if jax.typeof(v) == jax.typeof(out) else v
