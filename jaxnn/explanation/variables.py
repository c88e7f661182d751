"""The arrays that a function's own code has in variables while it runs: their names, and their values."""

import functools
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.protocols import PyTree

DEEPEST = 6  # lists in lists
Folder = Path | str  # "<…>": of code that has no file


class Variable(NamedTuple):
    """An array in a variable; depth: of calls; ended: as its function returned; given: as an argument."""

    name: str
    value: np.ndarray
    depth: int
    ended: bool
    given: bool


def code_of(f: PyTree) -> CodeType:
    """That of a function, of what `jit` or `partial` made of it, or of an object that is called."""
    while hasattr(f, "__wrapped__") or hasattr(f, "func"):  # jit, partial
        f = getattr(f, "__wrapped__", None) or f.func
    return f.__code__ if hasattr(f, "__code__") else type(f).__call__.__code__


@functools.cache
def home(filename: str) -> Folder:
    """The folder of a file; what is typed in has none."""
    return filename if filename.startswith("<") else Path(filename).resolve().parent


class Watch:
    """Calls functions and keeps the `Variable`s of the code in one folder, line by line."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.variables: list[Variable] = []

    def __call__(self, f: Callable, args: tuple) -> PyTree:
        """f(*args)."""
        before = sys.gettrace()
        with jax.enable_x64(True), jax.disable_jit(), np.errstate(all="ignore"):
            sys.settrace(self.enter)
            try:
                return f(*args)
            finally:
                sys.settrace(before)

    def in_order(self) -> list[Variable]:
        """What the code computes before what it is given, outer functions before those that they call, what is left at
        the end before what is overwritten."""
        return sorted(self.variables, key=lambda v: (v.given, v.depth, not v.ended))

    def is_own(self, frame: FrameType) -> bool:
        """Whether the variables of this call are kept."""
        return home(frame.f_code.co_filename) == self.folder and not frame.f_code.co_name.startswith("<")

    def names(self, frame: FrameType, name: str) -> str | None:
        """What a variable of this call is called; None if it is not kept."""
        return None if name.startswith("_") else name

    def enter(self, frame: FrameType, event: str, arg: PyTree) -> Callable | None:
        """A call begins: what `sys.settrace` asks for."""
        if not self.is_own(frame):
            return None
        depth = sum(self.is_own(outer) for outer, _ in traceback.walk_stack(frame))
        before = dict(frame.f_locals)

        def keep(held: dict, ended: bool = False, given: bool = False) -> None:
            for variable, v in held.items():
                for entry, array in arrays(variable, v):
                    name = self.names(frame, entry)
                    if name is not None:
                        self.variables.append(Variable(name, array, depth, ended, given))

        def look(frame: FrameType, event: str, arg: PyTree) -> Callable:
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


def is_array(v: PyTree) -> bool:
    kinds = jax.Array | np.ndarray | np.floating
    return isinstance(v, kinds) and not isinstance(v, jax.core.Tracer) and np.issubdtype(v.dtype, np.floating)


def arrays(name: str, v: PyTree, above: tuple[PyTree, ...] = ()) -> Iterator[tuple[str, np.ndarray]]:
    """(name, array) of all in a variable: cache["A1"] is called A1, zs[0] that, self.z is called z. A list that holds
    itself is looked into once, and what lies too deep for a readable name is left out."""
    entries: Iterable[tuple[str, PyTree]] = ()
    if is_array(v):
        yield name, np.array(v)
    elif len(above) == DEEPEST or any(v is u for u in above):
        return
    elif name == "self" and hasattr(v, "__dict__"):
        entries = vars(v).items()
    elif isinstance(v, dict):
        entries = ((k if isinstance(k, str) and k.isidentifier() else f"{name}[{k}]", x) for k, x in v.items())
    elif isinstance(v, list | tuple):
        entries = ((f"{name}[{k}]", x) for k, x in enumerate(v))
    for entry, x in entries:
        yield from arrays(entry, x, (*above, v))
