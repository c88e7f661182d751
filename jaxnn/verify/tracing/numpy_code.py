"""NumPy code as a jaxpr: arrays that pass each NumPy function on to the function of that name in jax.numpy.

Code that decides by values (`if x > 0`), or calls a function that JAX does not have, cannot be traced so: an exception
says it.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NoReturn
from unittest import mock

import jax
import numpy as np
from jax import numpy as jnp
from jax.extend import source_info_util

from jaxnn.protocols import PyTree
from jaxnn.verify.arguments import Problem
from jaxnn.verify.tracing.jaxprs import value_and_gradient


def in_jax(problem: Problem, *, has_numpy_rule: bool, has_numpy_cost: bool) -> Problem:
    """The problem with its NumPy code as JAX code."""
    if has_numpy_rule:
        problem = replace(problem, claim=as_jax(problem.claim))
    if has_numpy_cost:
        assert problem.scalar is not None, "there is no cost"
        scalar = as_jax(problem.scalar)

        def truth(floats: list) -> list[jax.Array]:
            J, grads = value_and_gradient(scalar, floats, problem.arguments.differentiated)
            return [*grads, J] if problem.has_value else grads

        return replace(problem, scalar=scalar, truth=truth)
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
NEW_ARRAYS = ("zeros", "ones", "empty", "full", "eye", "identity", "zeros_like", "ones_like", "empty_like", "full_like")
COPIES = ("array", "asarray", "copy")


class Traced(np.ndarray):
    """A JAX array in the guise of a NumPy array, in-place changes included; its own memory is not used."""

    x: jax.Array

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: PyTree, out: tuple = (), **settings: PyTree
    ) -> PyTree:
        if method not in ("__call__", "reduce"):
            raise NotImplementedError(f"np.{ufunc.__name__}.{method}")
        name = ufunc.__name__ if method == "__call__" else REDUCED[ufunc.__name__]
        settings = {k: v for k, v in settings.items() if k not in ("dtype", "initial", "where")}
        result = getattr(jnp, name)(*map(bare, inputs), **settings)
        if not out:
            return traced(result)
        out[0].x = result
        return out[0]

    def __array_function__(self, function: Callable, types: PyTree, args: PyTree, kwargs: PyTree) -> PyTree:
        where = jnp.linalg if "linalg" in function.__module__ else jnp
        args, kwargs = jax.tree.map(bare, (args, kwargs), is_leaf=lambda v: isinstance(v, Traced))
        kwargs.pop("out", None)
        return traced(getattr(where, function.__name__)(*args, **kwargs))

    def __getitem__(self, index: PyTree) -> PyTree:
        return traced(self.x[bare(index)])

    def __setitem__(self, index: PyTree, value: PyTree) -> None:
        index, value = bare(index), bare(value)
        is_mask = getattr(index, "dtype", np.dtype(int)).kind == "b" and np.ndim(value) == 0
        self.x = jnp.where(index, value, self.x) if is_mask else self.x.at[index].set(value)

    def __iter__(self) -> Iterator:
        return map(traced, self.x)

    @property
    def T(self) -> PyTree:
        """The transpose."""
        return traced(self.x.T)


def unknown(self: Traced, *args: PyTree) -> NoReturn:
    """Stands in for every method that asks for values, and raises TypeError."""
    raise TypeError("while it is traced, an array has no values")


def method_of_jax(name: str) -> Callable:
    """The method of this name that the JAX array has."""
    return lambda self, *args, **kwargs: traced(getattr(self.x, name)(*map(bare, args), **kwargs))


for _name in METHODS:
    setattr(Traced, _name, method_of_jax(_name))
for _name in ("__float__", "__int__", "__bool__", "__index__", "__complex__", "item", "tolist", "tobytes"):
    setattr(Traced, _name, unknown)


def bare(v: PyTree) -> PyTree:
    """The JAX array in a `Traced`, also within a tuple; anything else as it is."""
    if isinstance(v, tuple):
        return tuple(map(bare, v))
    return v.x if isinstance(v, Traced) else v


def traced(v: PyTree) -> PyTree:
    """A tree with its JAX arrays as `Traced`."""

    def leaf(x: PyTree) -> PyTree:
        if not isinstance(x, jax.Array):
            return x
        out = np.broadcast_to(np.zeros((), x.dtype), x.shape).view(Traced)
        out.x = x
        return out

    return jax.tree.map(leaf, v)


@contextmanager
def arrays_of_jax() -> Iterator[None]:
    """In here np.zeros and its like make arrays that take traced values, unless JAX itself calls them."""

    def in_jax_arrays(f: Callable) -> Callable:
        def make(*args: PyTree, **kwargs: PyTree) -> PyTree:
            if sys._getframe(1).f_globals.get("__name__", "").split(".")[0] in ("jax", "numpy", "jaxnn"):
                return f(*args, **kwargs)
            if args and isinstance(args[0], Traced) and f.__name__ in COPIES:
                return args[0].copy()
            return traced(jnp.asarray(f(*map(zeros_like, args), **kwargs)))

        return make

    def zeros_like(v: PyTree) -> PyTree:
        return np.broadcast_to(np.float64(0), v.shape) if isinstance(v, Traced) else v

    replacements: dict[str, PyTree] = {name: in_jax_arrays(getattr(np, name)) for name in (*NEW_ARRAYS, *COPIES)}
    with mock.patch.multiple(np, **replacements):
        yield


@functools.cache
def exclude_from_places() -> None:
    """From here on, JAX takes no line of this file for a place in the user's code."""
    for file in (__file__, np.lib.mixins.__file__):
        source_info_util.register_exclusion(file)


def as_jax(f: Callable[[list], PyTree]) -> Callable[[list], PyTree]:
    """NumPy code f, a function of a list of arrays, as a function that JAX can trace."""
    exclude_from_places()

    def g(floats: list) -> PyTree:
        with arrays_of_jax():
            out = f([traced(jnp.asarray(v)) for v in floats])
        return jax.tree.map(lambda v: jnp.asarray(bare(v)), out, is_leaf=lambda v: isinstance(v, Traced))

    return g
