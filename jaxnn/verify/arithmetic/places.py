"""The places in a user's code where names mean NumPy, and stand-ins in them while the code runs.

From a function, all that it can reach is looked through: globals, closures, defaults, partials, methods, classes,
instances, lists, dicts, and the user's other files. Installed packages are left alone.
"""

import contextlib
import dis
import functools
import itertools
import operator
import sys
import sysconfig
import threading
import types
from collections.abc import Callable, Collection, Iterator
from os import sep
from typing import NamedTuple

import numpy as np

from jaxnn.protocols import PyTree
from jaxnn.verify.arithmetic.stand_ins import ALIAS, MODE, make_stand_ins, stand_in

INSTALLED = tuple(sysconfig.get_paths()[kind] + sep for kind in ("stdlib", "platstdlib", "purelib", "platlib"))
NEVER = {*sys.stdlib_module_names, "numpy", "jax", "jaxlib", "flint", "jaxnn"}  # whose code runs as it is
LONG = 1000  # a longer list or dict of the user's holds data
SMALL = 10_000  # a larger array of the user's is no buffer that the code writes into
RUNS = threading.RLock()  # two runs at once would take each other's stand-ins away


def with_stand_ins(f: Callable[[list], PyTree]) -> Callable[[list], PyTree]:
    """f, a function of a list of arrays, with stand-ins at all its places; the caller sets the `Mode`.

    Code that writes into an array of its own that was there before, a buffer, is run once more, with these arrays too
    as arrays of the run."""
    places: list[Places] = []

    def run(floats: list) -> PyTree:
        if not places:
            places.append(Places(f))
        try:
            out, has_written = places[-1].run(f, floats)
            if not has_written or places[-1].has_buffers:
                return out
        except (TypeError, ValueError):
            if places[-1].has_buffers or not places[-1].arrays:
                raise
        places.append(Places(f, has_buffers=True))
        return places[-1].run(f, floats)[0]

    return run


class Place(NamedTuple):
    """Where something of the user's stands, and what is put there for a run."""

    put: Callable[[PyTree], None]
    own: PyTree
    new: PyTree


class Places:
    """All places that a function can reach; and the dicts, lists and arrays that are afterwards as before."""

    def __init__(self, f: Callable, has_buffers: bool = False):
        make_stand_ins()
        self.has_buffers = has_buffers
        self.swaps: list[Place] = []
        self.buffers: list[Place] = []  # float arrays
        self.dicts: list[dict] = []
        self.lists: list[list] = []
        self.cells: list[types.CellType] = []
        self.arrays: dict[int, np.ndarray] = {}
        self.without_float: list[dict] = []  # the globals that get a stand-in for float
        self.modules: set[str] = set()  # installed, but those of the functions that are verified
        self.queue: list[PyTree] = [f]
        seen: dict[int, PyTree] = {}  # what was seen is kept, so that its id stays its own
        while self.queue:
            v = self.queue.pop()
            if id(v) not in seen and not isinstance(v, np.ndarray | str | bytes | int | float | types.CodeType):
                seen[id(v)] = v
                self.visit(v)

    def visit(self, v: PyTree) -> None:
        """Looks at what v holds."""
        if isinstance(v, types.FunctionType):
            self.visit_function(v)
        elif isinstance(v, dict):
            self.visit_dict(v)
        elif isinstance(v, list):
            if len(v) <= LONG:
                self.lists.append(v)
                for k, entry in enumerate(v):
                    self.look(entry, functools.partial(v.__setitem__, k))
        elif isinstance(v, tuple):
            self.queue += v[:LONG]
        elif isinstance(v, types.MethodType):
            self.queue += [v.__self__, v.__func__]
        elif isinstance(v, functools.partial):
            self.queue += [v.func, v.args, v.keywords]
        elif isinstance(v, property | staticmethod | classmethod | functools._lru_cache_wrapper):
            self.queue += [getattr(v, name, None) for name in ("__wrapped__", "fget", "fset", "__func__")]
        elif isinstance(v, types.ModuleType):
            self.visit_dict(vars(v))
        elif isinstance(v, type):
            self.visit_class(v)
        elif is_of_verifier(type(v)):
            self.queue += vars(v).values() if hasattr(v, "__dict__") else ()
        elif self.is_users(type(v)):
            self.queue += [type(v), getattr(v, "__dict__", None)]

    def look(self, v: PyTree, put: Callable[[PyTree], None]) -> None:
        """Notes a place that holds v, if something stands in for v."""
        new = stand_in(v)
        if new is not v:
            self.swaps.append(Place(put, v, new))
        elif type(v) is np.ndarray and v.dtype.kind == "f" and v.size <= SMALL and v.flags.writeable:
            self.arrays[id(v)] = v
            self.buffers.append(Place(put, v, v))
        self.queue.append(v)

    def visit_function(self, f: types.FunctionType) -> None:
        """Its closure and attributes; and its globals, defaults and imports, if it is the user's."""
        for cell in f.__closure__ or ():
            with contextlib.suppress(ValueError):  # it is empty
                self.visit_cell(cell, is_of_verifier(f))
        if not self.is_users_space(f.__globals__):
            return
        self.queue += [
            f.__globals__,
            f.__dict__,
            f.__kwdefaults__,
            *imported(f.__code__, f.__globals__.get("__package__") or ""),
        ]
        code = with_imports_of_stand_ins(f.__code__, f.__code__.co_filename)
        if code is not f.__code__:
            self.swaps.append(Place(functools.partial(setattr, f, "__code__"), f.__code__, code))
        defaults = f.__defaults__ or ()
        new = tuple(map(stand_in, defaults))
        if any(a is not b for a, b in zip(defaults, new, strict=True)):
            self.swaps.append(Place(functools.partial(setattr, f, "__defaults__"), defaults, new))
        self.queue.append(defaults)

    def visit_cell(self, cell: types.CellType, is_ours: bool) -> None:
        """A variable of a closure. In one of the verifier's own are the functions that are verified, and the arguments,
        which are none of the places."""
        v = cell.cell_contents
        if not is_ours:
            self.cells.append(cell)
            self.look(v, functools.partial(setattr, cell, "cell_contents"))
        elif callable(v) or is_of_verifier(type(v)):
            self.modules |= {v.__module__} if isinstance(v, types.FunctionType) else set()
            self.queue.append(v)

    def visit_dict(self, v: dict) -> None:
        """Its entries; those of a module only if it is the user's."""
        is_module = "__builtins__" in v or "__spec__" in v
        if len(v) > LONG or (is_module and not self.is_users_space(v)):
            return
        self.dicts.append(v)
        if is_module and "float" not in v and not any(map(compares_float, codes_in(v))):
            self.without_float.append(v)
        for key, entry in list(v.items()):
            if not (isinstance(key, str) and key.startswith("__")):
                self.look(entry, functools.partial(v.__setitem__, key))

    def visit_class(self, cls: type) -> None:
        """Its attributes, and the classes that it inherits from, if it is the user's."""
        if not self.is_users(cls):
            return
        self.queue += cls.__mro__
        for name, v in list(vars(cls).items()):
            if name not in ("__dict__", "__weakref__"):
                self.look(v, functools.partial(setattr, cls, name))

    def is_users(self, cls: type) -> bool:
        """Whether a class was written by the user."""
        return cls.__module__ in sys.modules and self.is_users_space(vars(sys.modules[cls.__module__]))

    def is_users_space(self, space: dict) -> bool:
        """Whether these are the globals of a file, or a cell, of the user's."""
        name = str(space.get("__name__", ""))
        if name.partition(".")[0] in NEVER:
            return False
        return name in self.modules or not str(space.get("__file__") or "").startswith(INSTALLED)

    def run(self, f: Callable[[list], PyTree], floats: list) -> tuple[PyTree, bool]:
        """(f of copies of these arrays, with stand-ins; whether a float array that was there before was written)."""
        with RUNS, contextlib.ExitStack() as stack:
            before = {i: v.copy() for i, v in self.arrays.items()}
            variables = [cell.cell_contents for cell in self.cells]
            stack.callback(self.put_back, [dict(v) for v in self.dicts], list(map(list, self.lists)), variables, before)
            for place in self.swaps:
                place.put(place.new)
            if self.has_buffers:
                self.put_buffers()
            for space in self.without_float:
                space["float"] = stand_in(float)
            out = f([v.copy() for v in floats])
            return out, any(not same(v, before[i]) for i, v in self.arrays.items())

    def put_buffers(self) -> None:
        """Arrays of the run in the places of float arrays, one for each."""
        mode = MODE.get()
        assert mode is not None
        buffers = {i: mode.array(v) for i, v in self.arrays.items()}
        for place in self.buffers:
            place.put(buffers[id(place.own)])

    def put_back(
        self, dicts: list[dict], lists: list[list], variables: list[PyTree], arrays: dict[int, np.ndarray]
    ) -> None:
        """Everything as it was. Entry by entry: other threads may be reading."""
        for place in [*self.swaps, *(self.buffers if self.has_buffers else [])]:
            place.put(place.own)
        for space in self.without_float:
            space.pop("float", None)
        for now, before in zip(self.dicts, dicts, strict=True):
            if are_same(now, before) and are_same(now.values(), before.values()):
                continue
            for key, v in before.items():
                if now.get(key, now) is not v:
                    now[key] = v
            for key in now.keys() - before.keys():
                del now[key]
        for entries, old in zip(self.lists, lists, strict=True):
            if not are_same(entries, old):
                entries[:] = old
        for cell, v in zip(self.cells, variables, strict=True):
            cell.cell_contents = v
        for i, array in self.arrays.items():
            if not same(array, arrays[i]):
                array[...] = arrays[i]


def is_of_verifier(f: Callable) -> bool:
    """Whether a function or a class is the verifier's own."""
    return (f.__module__ or "").startswith("jaxnn.verify")


def are_same(a: Collection, b: Collection) -> bool:
    """Whether these are the same objects, in the same order."""
    return len(a) == len(b) and all(map(operator.is_, a, b))


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two float arrays are one, bit by bit."""
    return a.tobytes() == b.tobytes()


def names_in(code: types.CodeType) -> Iterator[tuple[str, str]]:
    """(operation, name) of every instruction with a name."""
    return ((i.opname, i.argval) for i in dis.get_instructions(code) if i.opcode in dis.hasname)


def inner(code: types.CodeType) -> list[types.CodeType]:
    """The code of the functions within."""
    return [c for c in code.co_consts if isinstance(c, types.CodeType)]


@functools.lru_cache(4096)
def with_imports_of_stand_ins(code: types.CodeType, file: str) -> types.CodeType:
    """The code with `import stand_in_for_numpy` for an `import numpy` within a function; itself if there is none.

    file: that of the code. Code of two files may be equal."""
    uses = set(names_in(code))
    others = {name for operation, name in uses if operation != "IMPORT_NAME"}
    exchanged = {name for operation, name in uses if ALIAS + name in sys.modules} - others
    names = tuple(ALIAS + name if name in exchanged else name for name in code.co_names)
    consts = tuple(with_imports_of_stand_ins(c, file) if isinstance(c, types.CodeType) else c for c in code.co_consts)
    is_same = not exchanged and are_same(consts, code.co_consts)
    return code if is_same else code.replace(co_names=names, co_consts=consts)


@functools.cache
def names_of_imports(code: types.CodeType) -> tuple[str, ...]:
    """The names of the modules that this code imports when it runs."""
    here = [name for operation, name in names_in(code) if operation == "IMPORT_NAME"]
    return (*here, *itertools.chain.from_iterable(map(names_of_imports, inner(code))))


def imported(code: types.CodeType, package: str) -> Iterator[types.ModuleType]:
    """The modules that this code, of this package, imports when it runs, if they are loaded."""
    for name in names_of_imports(code):
        yield from (sys.modules[full] for full in (name, f"{package}.{name}") if full in sys.modules)


def codes_in(space: dict) -> Iterator[types.CodeType]:
    """The code of the functions and methods among these globals."""
    for v in list(space.values()):
        for f in vars(v).values() if isinstance(v, type) and v.__module__ == space.get("__name__") else [v]:
            if isinstance(f, types.FunctionType):
                yield f.__code__


@functools.cache
def compares_float(code: types.CodeType) -> bool:
    """Whether it says `type(x) is float`, which no stand-in is."""
    pairs = itertools.pairwise(dis.get_instructions(code))
    here = any(a.argval == "float" and b.opname == "IS_OP" for a, b in pairs)
    return here or any(map(compares_float, inner(code)))
