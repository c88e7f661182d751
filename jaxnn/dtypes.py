"""Float dtypes: which one arrays share, and which one their sums are made in."""

import numpy as np
from jax import Array
from jax import numpy as jnp
from jax.typing import DTypeLike


def at_least_float32(dtype: DTypeLike) -> np.dtype:
    """This floating dtype, or float32 for one of fewer bits: what numbers of it are summed in."""
    return jnp.dtype(jnp.float32) if jnp.finfo(dtype).bits < 32 else jnp.dtype(dtype)


def wide(v: Array) -> Array:
    """v in float32 at least; NumPy's arrays become JAX's."""
    v = jnp.asarray(v)
    return v.astype(at_least_float32(v.dtype))


def wide_einsum(equation: str, a: Array, b: Array) -> Array:
    """`jnp.einsum`, b cast to a's dtype, summed and kept in float32 at least."""
    dtype = at_least_float32(a.dtype)
    return jnp.einsum(equation, a, b.astype(a.dtype), preferred_element_type=dtype).astype(dtype)


def check_one_dtype(op: str, **arrays: Array | None) -> None:
    """TypeError unless all of these arrays, of which None are left out, have one float dtype."""
    dtypes = {name: jnp.result_type(v) for name, v in arrays.items() if v is not None}
    if len({*dtypes.values()}) > 1 or not jnp.issubdtype(next(iter(dtypes.values())), jnp.floating):
        given = ", ".join(f"{name} of {dtype}" for name, dtype in dtypes.items())
        raise TypeError(f"{op} was given {given}: they must have one float dtype; cast with .astype.")
