"""The arrays that a function's own code has in variables while it runs: their names, and their values."""

import functools
import sys
import traceback
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np


class Variable(NamedTuple):
    """An array in a variable; depth: of calls; ended: as its function returned; given: as an argument."""

    name: str
    value: np.ndarray
    depth: int
    ended: bool
    given: bool


def variables(functions, its, floats, array):
    """For each function, the `Variable`s of the code in the folder of the first: what it computes before what it is
    given, outer functions before those that they call, what is left at the end before what is overwritten."""
    with jax.enable_x64(True), jax.disable_jit(), np.errstate(all="ignore"):
        where = home(code_of(functions[0]).co_filename)
        found = [watched(f, its.build([array(v, np.float64) for v in floats]), where) for f in functions]
    return [sorted(of_one, key=lambda v: (v.given, v.depth, not v.ended)) for of_one in found]


def code_of(f):
    while hasattr(f, "__wrapped__") or hasattr(f, "func"):  # jit, partial
        f = getattr(f, "__wrapped__", None) or f.func
    return f.__code__ if hasattr(f, "__code__") else type(f).__call__.__code__


@functools.cache
def home(filename):
    """The folder of a file; what is typed in has none."""
    return filename if filename.startswith("<") else Path(filename).resolve().parent


def watched(f, args, where):
    """The `Variable`s of f(*args), line by line."""
    found: list = []

    def is_own(frame):
        return home(frame.f_code.co_filename) == where and not frame.f_code.co_name.startswith("<")

    def enter(frame, event, arg):
        if not is_own(frame):
            return None
        depth = sum(is_own(outer) for outer, _ in traceback.walk_stack(frame))
        before = dict(frame.f_locals)

        def keep(held, ended=False, given=False):
            its = (pair for name, v in held.items() for pair in arrays(name, v))
            found.extend(Variable(name, v, depth, ended, given) for name, v in its if not name.startswith("_"))

        def look(frame, event, arg):
            nonlocal before
            now = dict(frame.f_locals)
            if event == "return":
                keep(now, ended=True)
            else:
                keep({name: v for name, v in before.items() if is_array(v) and now.get(name) is not v})
            before = now
            return look

        keep(before, given=True)
        return look

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        f(*args)
    finally:
        sys.settrace(before)
    return found


def is_array(v):
    kinds = jax.Array | np.ndarray | np.floating
    return isinstance(v, kinds) and not isinstance(v, jax.core.Tracer) and np.issubdtype(v.dtype, np.floating)


def arrays(name, v):
    """(name, array) of all in a variable: cache["A1"] is called A1, zs[0] that, self.z is called z."""
    if is_array(v):
        yield name, np.array(v)
    elif name == "self" and hasattr(v, "__dict__"):
        for key, x in vars(v).items():
            yield from arrays(key, x)
    elif isinstance(v, dict):
        for key, x in v.items():
            yield from arrays(key if isinstance(key, str) and key.isidentifier() else f"{name}[{key}]", x)
    elif isinstance(v, list | tuple):
        for k, x in enumerate(v):
            yield from arrays(f"{name}[{k}]", x)
