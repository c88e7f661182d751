"""NumPy code as a jaxpr: arrays that NumPy computes with at one point, while JAX traces beside it; see traced.py.

Code that calls a function that JAX does not have cannot be traced so: an exception says it.
"""

import functools
from collections.abc import Callable
from dataclasses import replace

import jax
import numpy as np
from jax import numpy as jnp
from jax.extend import source_info_util

from jaxnn.protocols import PyTree
from jaxnn.verify.arguments import Problem
from jaxnn.verify.arithmetic import places, stand_ins
from jaxnn.verify.arithmetic.places import with_stand_ins
from jaxnn.verify.arithmetic.stand_ins import COMMON, FLOATS, Mode, running
from jaxnn.verify.tracing import traced
from jaxnn.verify.tracing.jaxprs import value_and_gradient
from jaxnn.verify.tracing.traced import SPECIAL, Traced, bare, dual, is_row, number, rows_as_arrays, stacked, values_of


def in_jax(problem: Problem, *, has_numpy_rule: bool, has_numpy_cost: bool, decides: bool) -> Problem:
    """The problem with its NumPy code as JAX code, which is traced at the problem's arguments; `decides`: see there."""
    point = problem.arguments.floats
    if has_numpy_rule:
        problem = replace(problem, claim=as_jax(problem.claim, point, decides=decides))
    if has_numpy_cost:
        assert problem.scalar is not None, "there is no cost"
        scalar = as_jax(problem.scalar, point, decides=decides)

        def truth(floats: list) -> list[jax.Array]:
            J, grads = value_and_gradient(scalar, floats, problem.arguments.differentiated)
            return [*grads, J] if problem.has_value else grads

        return replace(problem, scalar=scalar, truth=truth)
    return problem


SEVERAL = ("concatenate", "stack", "vstack", "hstack", "dstack", "column_stack", "block", "select", "multi_dot")


class OnTracers(Mode):
    """A run that JAX traces; decides: whether a decision by values is taken as at the point, or is a TypeError."""

    numbers = (Traced,)
    special = COMMON | SPECIAL | dict.fromkeys(FLOATS, number)

    def __init__(self, decides: bool):
        super().__init__()
        self.decides = decides

    def call(self, f: Callable, args: tuple, kwargs: dict) -> PyTree:
        """f(*args, **kwargs), with one array for a list of numbers: NumPy would copy their values unseen."""
        as_arrays = rows_as_arrays if f.__name__ in SEVERAL else stacked
        args = tuple(as_arrays(v) if is_row(v) and f not in self.special else v for v in args)
        return super().call(f, args, kwargs)

    def array(self, v: np.ndarray) -> PyTree:
        """Floats as constants."""
        return dual(v, jnp.asarray(v)) if v.dtype.kind == "f" else v

    def as_array(self, v: PyTree) -> PyTree:
        """A list that has traced numbers as an array."""
        return stacked(v) if is_row(v) else v

    def floats(self, v: PyTree) -> PyTree:
        """The values at the point."""
        return values_of(v)


@functools.cache
def exclude_from_places() -> None:
    """From here on, JAX takes no line of these files for a place in the user's code."""
    for file in (__file__, traced.__file__, stand_ins.__file__, places.__file__):
        source_info_util.register_exclusion(file)


def as_jax(f: Callable[[list], PyTree], point: list | tuple, *, decides: bool = True) -> Callable[[list], PyTree]:
    """NumPy code f, a function of a list of arrays, as a function that JAX can trace.

    What it decides by values, it decides as at `point`, or not at all: TypeError unless `decides`.
    """
    exclude_from_places()
    run = with_stand_ins(f)

    def g(floats: list) -> PyTree:
        with running(OnTracers(decides)):
            out = run([dual(np.array(p, np.float64), jnp.asarray(v)) for v, p in zip(floats, point, strict=True)])
            return jax.tree.map(lambda v: jnp.asarray(bare(v)), out, is_leaf=lambda v: isinstance(v, Traced))

    return g
