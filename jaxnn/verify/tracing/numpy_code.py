"""NumPy code as a jaxpr: arrays that pass each function of NumPy's on to the function of that name in jax.numpy.

Code that decides by values (`if x > 0`) or calls what JAX has not cannot be traced so: an exception says it.
"""

import functools
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import jax
import numpy as np
from jax import numpy as jnp
from jax.extend import source_info_util

from jaxnn.verify.tracing.jaxprs import value_and_gradient


def in_jax(problem, comparison):
    """The problem with its NumPy code as JAX code."""
    if comparison.hand is None:
        problem = replace(problem, claim=as_jax(problem.claim))
    if comparison.scalar is None:
        scalar, n = as_jax(problem.scalar), len(problem.arguments.differentiated)

        def truth(floats):
            J, grads = value_and_gradient(scalar, floats, problem.arguments.differentiated)
            return [*grads, *[J] * (len(problem.paths) - n)]

        problem = replace(problem, scalar=scalar, truth=truth)
    return problem


REDUCED = {
    "add": "sum",
    "multiply": "prod",
    "maximum": "max",
    "minimum": "min",
    "logical_and": "all",
    "logical_or": "any",
}
METHODS = (
    *("sum", "mean", "prod", "max", "min", "argmax", "argmin", "std", "var", "cumsum", "any", "all", "round", "clip"),
    *("reshape", "ravel", "flatten", "transpose", "swapaxes", "squeeze", "repeat", "dot", "copy", "astype", "take"),
)
MADE = ("zeros", "ones", "empty", "full", "eye", "identity", "zeros_like", "ones_like", "empty_like", "full_like")
COPIES = ("array", "asarray", "copy")


class Traced(np.ndarray):
    """An array of JAX's that takes itself for one of NumPy's, in-place changes included; its own memory is not used."""

    x: Any

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **settings):
        if method not in ("__call__", "reduce"):
            raise NotImplementedError(f"np.{ufunc.__name__}.{method}")
        name = ufunc.__name__ if method == "__call__" else REDUCED[ufunc.__name__]
        settings = {k: v for k, v in settings.items() if k not in ("dtype", "initial", "where")}
        result = getattr(jnp, name)(*map(bare, inputs), **settings)
        if not out:
            return traced(result)
        out[0].x = result
        return out[0]

    def __array_function__(self, function, types, args, kwargs):
        where = jnp.linalg if "linalg" in function.__module__ else jnp
        args, kwargs = jax.tree.map(bare, (args, kwargs), is_leaf=lambda v: isinstance(v, Traced))
        kwargs.pop("out", None)
        return traced(getattr(where, function.__name__)(*args, **kwargs))

    def __getitem__(self, index):
        return traced(self.x[bare(index)])

    def __setitem__(self, index, value):
        index, value = bare(index), bare(value)
        mask = getattr(index, "dtype", np.dtype(int)).kind == "b" and np.ndim(value) == 0
        self.x = jnp.where(index, value, self.x) if mask else self.x.at[index].set(value)

    def __iter__(self):
        return map(traced, self.x)

    @property
    def T(self):
        return traced(self.x.T)

    def unknown(self, *args):
        raise TypeError("while it is traced, an array has no values")

    __float__ = __int__ = __bool__ = __index__ = __complex__ = item = tolist = tobytes = unknown


def passed_on(name):
    return lambda self, *args, **kwargs: traced(getattr(self.x, name)(*map(bare, args), **kwargs))


for _name in METHODS:
    setattr(Traced, _name, passed_on(_name))


def bare(v):
    if isinstance(v, tuple):
        return tuple(map(bare, v))
    return v.x if isinstance(v, Traced) else v


def traced(v):
    """A tree with its arrays of JAX's as `Traced`."""

    def one(x):
        if not isinstance(x, jax.Array):
            return x
        out = np.broadcast_to(np.zeros((), x.dtype), x.shape).view(Traced)
        out.x = x
        return out

    return jax.tree.map(one, v)


@contextmanager
def arrays_of_jax():
    """np.zeros and its like make arrays that take what was traced; not where JAX itself calls them."""

    def made(f):
        def make(*args, **kwargs):
            if sys._getframe(1).f_globals.get("__name__", "").split(".")[0] in ("jax", "numpy", "jaxnn"):
                return f(*args, **kwargs)
            if args and isinstance(args[0], Traced) and f.__name__ in COPIES:
                return args[0].copy()
            return traced(jnp.asarray(f(*map(shape_of, args), **kwargs)))

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
            out = f([traced(jnp.asarray(v)) for v in floats])
        return jax.tree.map(lambda v: jnp.asarray(bare(v)), out, is_leaf=lambda v: isinstance(v, Traced))

    return g
