"""NumPy code as a jaxpr: arrays that pass each function of NumPy's on to the function of that name in jax.numpy.

Code that decides by values (`if x > 0`) or calls what JAX has not cannot be traced so: an exception says it.
"""

import functools
import sys
from contextlib import contextmanager
from unittest import mock

import jax
import numpy as np
from jax import numpy as jnp
from jax.extend import source_info_util

METHODS = {"reduce": {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min"}}
MADE = ("zeros", "ones", "empty", "full", "eye", "identity", "zeros_like", "ones_like", "empty_like", "full_like")
COPIES = ("array", "asarray", "copy")


class Traced(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of JAX's that takes itself for one of NumPy's, in-place changes included."""

    __array_priority__ = 1000

    def __init__(self, x):
        self.x = x

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **settings):
        if method == "at":
            raise NotImplementedError(f"np.{ufunc.__name__}.at")
        name = ufunc.__name__ if method == "__call__" else METHODS[method][ufunc.__name__]
        settings.pop("dtype", None)
        result = getattr(jnp, name)(*map(bare, inputs), **settings)
        if not out:
            return Traced(result)
        out[0].x = result
        return out[0]

    def __array_function__(self, function, types, args, kwargs):
        where = jnp.linalg if "linalg" in function.__module__ else jnp
        args, kwargs = jax.tree.map(bare, (args, kwargs), is_leaf=lambda v: isinstance(v, Traced))
        kwargs.pop("out", None)
        return traced(getattr(where, function.__name__)(*args, **kwargs))

    def __getitem__(self, index):
        return Traced(self.x[bare(index)])

    def __setitem__(self, index, value):
        index, value = bare(index), bare(value)
        mask = getattr(index, "dtype", np.dtype(int)).kind == "b" and np.ndim(value) == 0
        self.x = jnp.where(index, value, self.x) if mask else self.x.at[index].set(value)

    def __len__(self):
        return len(self.x)

    def __iter__(self):
        return map(Traced, self.x)

    def __getattr__(self, name):
        v = getattr(self.x, name)
        if not callable(v):
            return traced(v)
        return lambda *args, **kwargs: traced(v(*map(bare, args), **{k: bare(a) for k, a in kwargs.items()}))

    def copy(self):
        return Traced(self.x)

    def astype(self, dtype):
        return Traced(self.x.astype(dtype))


def bare(v):
    if isinstance(v, tuple):
        return tuple(map(bare, v))
    return v.x if isinstance(v, Traced) else v


def traced(v):
    return jax.tree.map(lambda x: Traced(x) if isinstance(x, jax.Array) else x, v)


@contextmanager
def arrays_of_jax():
    """np.zeros and its like make arrays that take what was traced; not where JAX itself calls them."""

    def made(f):
        def make(*args, **kwargs):
            if sys._getframe(1).f_globals.get("__name__", "").split(".")[0] in ("jax", "numpy", "jaxnn"):
                return f(*args, **kwargs)
            if args and isinstance(args[0], Traced) and f.__name__ in COPIES:
                return args[0].copy()
            return Traced(jnp.asarray(f(*map(shape_of, args), **kwargs)))

        return make

    def shape_of(v):
        return np.broadcast_to(np.float64(0), v.shape) if isinstance(v, Traced) else v

    with mock.patch.multiple(np, **{name: made(getattr(np, name)) for name in (*MADE, *COPIES)}):
        yield


@functools.cache
def unseen():
    """JAX takes lines of this file for no places in the user's code."""
    for file in (__file__, np.lib.mixins.__file__):
        source_info_util.register_exclusion(file)


def as_jax(f):
    """f, a function of a list of arrays, NumPy code, for JAX."""
    unseen()

    def g(floats):
        with arrays_of_jax():
            out = f([Traced(jnp.asarray(v)) for v in floats])
        return jax.tree.map(lambda v: jnp.asarray(bare(v)), out, is_leaf=lambda v: isinstance(v, Traced))

    return g
