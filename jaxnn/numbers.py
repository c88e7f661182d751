"""Numbers of Python and NumPy where an op takes arrays and settings."""

import inspect
from collections.abc import Callable
from functools import wraps

import jax
import numpy as np
from jax import numpy as jnp

from jaxnn.protocols import PyTree


def of_numbers(op: jax.custom_vjp) -> Callable[..., PyTree]:
    """The op, for numbers too. In the place of an array a Python number becomes one, a float in the dtype of the other
    arrays. In the place of a setting a number of NumPy or JAX becomes Python's: it changes neither a dtype nor the
    program. TypeError: what is neither an array nor a number, or a setting that JAX traces."""
    signature = inspect.signature(op)
    settings = {name for i, name in enumerate(signature.parameters) if i in op.nondiff_argnums}

    @wraps(op, updated=())
    def call(*arguments: PyTree, **by_name: PyTree) -> PyTree:
        given = signature.bind(*arguments, **by_name).arguments
        arrays = {name: v for name, v in given.items() if name not in settings and v is not None}
        types = {name: type_of(op, name, v) for name, v in arrays.items()}
        floats = [t for t in types.values() if jnp.issubdtype(t.dtype, jnp.floating)]
        dtype = next((t.dtype for t in floats if not t.weak_type), None)
        for name, t in types.items():
            if t.weak_type or isinstance(arrays[name], bool):  # a number of Python, or made of such numbers alone
                given[name] = jnp.asarray(arrays[name], dtype if t in floats else None)
        return op(**given | {name: plain(op, name, v) for name, v in given.items() if name in settings})

    return call


def type_of(op: jax.custom_vjp, name: str, v: PyTree) -> jax.core.ShapedArray:
    """That of an array or a number. TypeError: it is neither."""
    try:
        return jax.typeof(v)
    except TypeError:
        raise TypeError(f"{op.fun.__name__} was given {name} of type {type(v).__name__}: give an array.") from None


def plain(op: jax.custom_vjp, name: str, v: PyTree) -> PyTree:
    """A setting as it is; a number of NumPy or JAX as Python's. TypeError: JAX traces it."""
    if isinstance(v, jax.core.Tracer):
        raise TypeError(f"{op.fun.__name__} was given a traced {name}: it is a setting; give a number of Python.")
    return v.item() if isinstance(v, np.generic | np.ndarray | jax.Array) and not v.shape else v
