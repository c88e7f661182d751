"""Stand-ins: what NumPy's names mean to a user's code while it runs on other numbers. NumPy itself is never touched.

Such a run is a `Mode`: on real numbers (numpy_code.py), or on arrays that JAX traces. A stand-in asks the mode what to
do. Outside of a run, and in every other thread, it is what it stands for. places.py puts it under the user's names.
"""

import concurrent.futures
import functools
import math
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import scipy.special

from jaxnn.protocols import PyTree

FLOATS: tuple[type, ...] = (float, np.float64, np.float32)
CLASSES: tuple[type, ...] = (*FLOATS, np.vectorize, np.finfo)  # the classes that have stand-ins
Generators = (np.random.Generator, np.random.RandomState)


class Mode:
    """A run of a user's code on numbers that are no floats.

    numbers: their types; special: how a function of NumPy is computed of them, where it is not as NumPy does it.
    """

    numbers: tuple[type, ...]
    special: Mapping[Callable, Callable]

    def __init__(self) -> None:
        self.caches: dict[int, Callable] = {}  # of functions with lru_cache: what they keep of this run

    def array(self, v: np.ndarray) -> PyTree:
        """Floats as an array of this run."""
        raise NotImplementedError

    def call(self, f: Callable, args: tuple, kwargs: dict) -> PyTree:
        """f(*args, **kwargs), a function of NumPy, for the user's code."""
        if holds((args, *kwargs.values()), self.numbers):
            if (getattr(f, "__module__", None) or "").startswith("numpy.testing"):
                return f(*map(self.floats, args), **self.floats(kwargs))
            f = self.special.get(f, f)
            args = tuple(map(self.as_array, args)) if isinstance(f, np.ufunc) else args
        return self.own(f(*args, **kwargs))

    def as_array(self, v: PyTree) -> PyTree:
        """A number of this run, or a list that has some, as an array of this run; anything else as it is."""
        raise NotImplementedError

    def floats(self, v: PyTree) -> PyTree:
        """The floats next to the numbers in v, for an assertion of NumPy's."""
        raise NotImplementedError

    def own(self, v: PyTree) -> PyTree:
        """What NumPy returned, with arrays of this run for arrays of floats: the code may write into them."""
        if type(v) in (tuple, list):
            return type(v)(map(self.own, v))
        return self.array(v) if type(v) is np.ndarray and v.dtype.kind in "fO" else stand_in(v)


MODE: ContextVar[Mode | None] = ContextVar("mode", default=None)


@contextmanager
def running(mode: Mode) -> Iterator[None]:
    """In here, and in this thread alone, stand-ins do what this mode says."""
    token = MODE.set(mode)
    try:
        yield
    finally:
        MODE.reset(token)


def holds(v: PyTree, kinds: tuple[type, ...]) -> bool:
    """Whether v is one of these, or has one in it."""
    if type(v) in (list, tuple):
        return any(holds(entry, kinds) for entry in v)
    return isinstance(v, kinds)


class Function:
    """A function of NumPy or of math. It is no Python function: in the body of a class that would become a method."""

    def __init__(self, real: Callable):
        functools.update_wrapper(self, real, updated=())

    def __call__(self, *args: PyTree, **kwargs: PyTree) -> PyTree:
        mode = MODE.get()
        return self.__wrapped__(*args, **kwargs) if mode is None else mode.call(self.__wrapped__, args, kwargs)

    def __getitem__(self, index: PyTree) -> PyTree:
        """np.c_[x, y], which is a function in another notation."""
        mode, f = MODE.get(), self.__wrapped__.__getitem__
        return f(index) if mode is None else mode.call(f, (index,), {})

    def __getattr__(self, name: str) -> PyTree:
        if name == "__wrapped__":  # it is not there yet while a copy is made
            raise AttributeError(name)
        return getattr(self.__wrapped__, name)

    def __copy__(self) -> "Function":
        return self

    def __deepcopy__(self, memo: dict) -> "Function":
        return self

    def __repr__(self) -> str:
        return repr(self.__wrapped__)


class Kind(type):
    """The class of stand-ins for classes: isinstance, == and dtype= see the real class."""

    __wrapped__: type

    def __new__(cls, real: type) -> "Kind":
        attributes: dict[str, Any] = {"__wrapped__": real, "__doc__": real.__doc__}
        if real in FLOATS:
            attributes["dtype"] = np.dtype(np.float32 if real is np.float32 else np.float64)
        return super().__new__(cls, real.__name__, (), attributes)

    def __init__(cls, real: type):
        super().__init__(real.__name__, (), {})

    def __call__(cls, *args: PyTree, **kwargs: PyTree) -> PyTree:
        mode = MODE.get()
        return cls.__wrapped__(*args, **kwargs) if mode is None else mode.call(cls.__wrapped__, args, kwargs)

    def __instancecheck__(cls, v: PyTree) -> bool:
        mode = MODE.get()
        is_number = mode is not None and isinstance(v, mode.numbers) and not getattr(v, "ndim", 0)
        return (is_number and cls.__wrapped__ in FLOATS) or isinstance(v, cls.__wrapped__)

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(getattr(other, "__wrapped__", other), cls.__wrapped__)

    def __eq__(cls, other: object) -> bool:
        return cls.__wrapped__ == getattr(other, "__wrapped__", other)

    def __hash__(cls) -> int:
        return hash(cls.__wrapped__)

    def __or__(cls, other: PyTree) -> PyTree:
        return cls.__wrapped__ | other

    def __getattr__(cls, name: str) -> PyTree:
        return getattr(cls.__wrapped__, name)


class Module(types.ModuleType):
    """NumPy, or another of `MODULES`: its attributes are stand-ins."""

    def __init__(self, real: types.ModuleType):
        super().__init__(real.__name__, real.__doc__)
        names = getattr(real, "__all__", None) or [name for name in dir(real) if not name.startswith("_")]
        self.__dict__.update(__wrapped__=real, __path__=[], __all__=names)

    def __getattr__(self, name: str) -> PyTree:
        value = self.__dict__[name] = stand_in(getattr(self.__dict__["__wrapped__"], name))
        return value

    def __dir__(self) -> list[str]:
        return dir(self.__dict__["__wrapped__"])


class Cache:
    """A function with lru_cache: what it computes in a run, it keeps for that run alone."""

    def __init__(self, real: Any):
        functools.update_wrapper(self, real, updated=())
        self.real = real

    def __call__(self, *args: PyTree, **kwargs: PyTree) -> PyTree:
        mode = MODE.get()
        if mode is None:
            return self.real(*args, **kwargs)
        if id(self) not in mode.caches:
            mode.caches[id(self)] = functools.lru_cache(**self.real.cache_parameters())(self.real.__wrapped__)
        return mode.caches[id(self)](*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> PyTree:
        return self if instance is None else types.MethodType(self, instance)

    def __getattr__(self, name: str) -> PyTree:
        return getattr(self.__dict__["real"], name)


class Source:
    """A generator of random numbers: its arrays are those of the run."""

    def __init__(self, real: np.random.Generator | np.random.RandomState):
        self.__dict__["real"] = real

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self.__dict__["real"])

    def __getattr__(self, name: str) -> PyTree:
        value = getattr(self.__dict__["real"], name)
        return Function(value) if callable(value) else value


class Vectorized:
    """An np.vectorize: in a run, its function of the entries one by one."""

    def __init__(self, real: np.vectorize):
        self.real = real

    def __call__(self, *args: PyTree, **kwargs: PyTree) -> PyTree:
        mode = MODE.get()
        if mode is None or not holds((args, *kwargs.values()), mode.numbers):
            return self.real(*args, **kwargs)
        shape = np.broadcast_shapes(*map(np.shape, args))
        arrays = [np.broadcast_to(v, shape, subok=True) for v in args]
        entries = [self.real.pyfunc(*(v[i] for v in arrays), **kwargs) for i in np.ndindex(shape)]
        if isinstance(entries[0], tuple):
            return tuple(mode.as_array(list(part)).reshape(shape) for part in zip(*entries, strict=True))
        return mode.as_array(entries).reshape(shape)

    def __getattr__(self, name: str) -> PyTree:
        return getattr(self.__dict__["real"], name)


class Executor(concurrent.futures.ThreadPoolExecutor):
    """In a run it computes at once: another thread would know nothing of the run."""

    def submit(self, f: Callable, /, *args: PyTree, **kwargs: PyTree) -> concurrent.futures.Future:
        if MODE.get() is None:
            return super().submit(f, *args, **kwargs)
        future: concurrent.futures.Future = concurrent.futures.Future()
        try:
            future.set_result(f(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


MODULES = (
    *("math", "numpy", "numpy.linalg", "numpy.random", "numpy.fft", "numpy.testing", "numpy.lib.stride_tricks"),
    *("scipy", "scipy.special", "scipy.linalg"),
)
NOTATIONS = (np.c_, np.r_)
MADE: dict[int, tuple[PyTree, PyTree]] = {}  # by the id of what is stood in for: (itself, its stand-in)
ALIAS = "stand_in_for_"  # before the name under which a stand-in for a module can be imported


def make_stand_ins() -> None:
    """Fills `MADE` for the modules that are loaded by now."""
    for v in (*CLASSES, *NOTATIONS, concurrent.futures.ThreadPoolExecutor):
        if id(v) not in MADE:
            MADE[id(v)] = v, stand_in_of_object(v)
    for name in MODULES:
        module = sys.modules.get(name)
        if module is None or id(module) in MADE:
            continue
        MADE[id(module)] = module, Module(module)
        sys.modules[ALIAS + name] = stand_in(module)
        for public in dir(module):
            v = None if public.startswith("_") else vars(module).get(public)
            if callable(v) and not isinstance(v, type) and id(v) not in MADE:
                MADE[id(v)] = v, Function(v)


def stand_in_of_object(v: PyTree) -> PyTree:
    """A new stand-in for one of the classes, or one of the objects, that have any."""
    if v is concurrent.futures.ThreadPoolExecutor:
        return Executor
    return Kind(v) if isinstance(v, type) else Function(v)


def stand_in(v: PyTree) -> PyTree:
    """What stands in for v in a user's code, v itself if nothing does."""
    known = MADE.get(id(v))
    if known and known[0] is v:
        return known[1]
    if isinstance(v, functools.partial) and stand_in(v.func) is not v.func:
        return functools.partial(stand_in(v.func), *v.args, **v.keywords)
    if isinstance(v, staticmethod) and stand_in(v.__func__) is not v.__func__:
        return staticmethod(stand_in(v.__func__))
    if isinstance(v, functools._lru_cache_wrapper):
        return Cache(v)
    if type(v) in Generators:
        return Source(v)
    return Vectorized(v) if type(v) is np.vectorize else v


# How a function is computed on numbers of any kind, where NumPy's own code would ask for floats


def logsumexp(a: PyTree, axis: PyTree = None, b: PyTree = None, keepdims: bool = False) -> PyTree:
    """log Σ b eᵃ"""
    a = running_mode().as_array(a)
    top = np.max(a, axis=axis, keepdims=True)
    terms = np.exp(a - top) if b is None else b * np.exp(a - top)
    out = np.log(np.sum(terms, axis=axis, keepdims=True)) + top
    return out if keepdims else np.squeeze(out, axis)


def log_softmax(x: PyTree, axis: PyTree = None) -> PyTree:
    """x − log Σ eˣ"""
    x = running_mode().as_array(x)
    return x - logsumexp(x, axis, keepdims=True)


def softmax(x: PyTree, axis: PyTree = None) -> PyTree:
    """eˣ / Σ eˣ"""
    return np.exp(log_softmax(x, axis))


def apply_along_axis(f: Callable, axis: int, v: PyTree, *args: PyTree, **kwargs: PyTree) -> PyTree:
    """f of every line of v along an axis."""
    v = np.moveaxis(running_mode().as_array(v), axis, -1)
    rows = [f(v[i], *args, **kwargs) for i in np.ndindex(v.shape[:-1])]
    out = running_mode().as_array(rows)
    out = out.reshape((*v.shape[:-1], *out.shape[1:]))
    return np.moveaxis(out, -1, axis) if out.ndim == v.ndim else out


def log(x: PyTree, base: PyTree = math.e) -> PyTree:
    """log x / log base"""
    return np.log(x) if base is math.e else np.log(x) / np.log(base)


def function_of_math(name: str) -> Callable | None:
    """The function of math as NumPy or SciPy has it of arrays, if it has."""
    name = OTHER_NAMES.get(name, name)
    f = getattr(np, name, None) or getattr(scipy.special, name, None)
    return f and (lambda *args: f(*map(running_mode().as_array, args)))


def running_mode() -> Mode:
    """The mode of the run."""
    mode = MODE.get()
    assert mode is not None, "nothing is running"
    return mode


OTHER_NAMES = {  # the functions of math whose name in NumPy is another
    **{"fabs": "abs", "pow": "power", "asin": "arcsin", "acos": "arccos", "atan": "arctan", "asinh": "arcsinh"},
    **{"acosh": "arccosh", "atanh": "arctanh", "atan2": "arctan2", "fsum": "sum", "lgamma": "gammaln"},
}
WHOLE = ("floor", "ceil", "trunc")  # these of math give an int, and ask the number for it
NAMES = [name for name in dir(math) if callable(getattr(math, name)) and name not in WHOLE]
COMMON: dict[Callable, Callable] = {  # `Mode.special` of every mode
    **{getattr(math, name): f for name in NAMES if (f := function_of_math(name))},
    **{getattr(scipy.special, f.__name__): f for f in (logsumexp, softmax, log_softmax)},
    math.log: log,
    np.apply_along_axis: apply_along_axis,
    np.isscalar: lambda v: np.ndim(v) == 0,
}
