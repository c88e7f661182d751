"""Arrays that NumPy computes with at one point, while JAX traces what it computes.

The memory of a `Traced` holds the values at that point, so that a print, a shape that depends on values and a view work
as ever; beside them it has the array of JAX. A decision by values is taken as at the point, if the mode allows it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from jaxnn.protocols import PyTree
from jaxnn.verify.arithmetic.stand_ins import holds, running_mode

REDUCED = {
    "add": "sum",
    "multiply": "prod",
    "maximum": "max",
    "minimum": "min",
    "logical_and": "all",
    "logical_or": "any",
}
METHODS = (
    *(
        "sum",
        "mean",
        "prod",
        "max",
        "min",
        "argmax",
        "argmin",
        "std",
        "var",
        "cumsum",
        "cumprod",
        "any",
        "all",
        "round",
    ),
    *("clip", "swapaxes", "squeeze", "repeat", "dot", "take", "trace", "diagonal", "argsort", "nonzero", "conj"),
    *("searchsorted", "compress"),
)
IN_PLACE = ("put", "fill_diagonal", "put_along_axis", "place")  # jax.numpy has them with inplace=False
OTHER_NAMES = {"psi": "digamma", "conjugate": "conj"}  # of ufuncs in JAX
OF_VALUES = ("dtype", "casting", "subok", "order")  # arguments that JAX is not given


class View(NamedTuple):
    """How an array is a part of another: what is written into it is written there."""

    parent: "Traced"
    get: Callable[[jax.Array], jax.Array]  # the part, of the parent's array
    put: Callable[[jax.Array, jax.Array], jax.Array]  # the parent's array, with another part


class Traced(np.ndarray):
    """An array at a point, and the array of JAX that is traced: `x`.

    NotImplementedError for the x of an array that NumPy made unseen.
    """

    _x: jax.Array | None = None
    _view: View | None = None
    _x_of_parent: jax.Array | None = None  # of which _x was taken

    @property
    def x(self) -> jax.Array:
        """The traced array; of a view, that in its parent."""
        if self._view and self._x_of_parent is not self._view.parent.x:
            self._x_of_parent = self._view.parent.x
            self._x = self._view.get(self._x_of_parent)
        if self._x is None:
            raise NotImplementedError("an array of which NumPy does not say how it was made")
        return self._x

    def rebind(self, x: jax.Array) -> None:
        """Takes x for the traced array, after a change in place."""
        x = jnp.broadcast_to(x, self.shape).astype(self.x.dtype)
        if self._view:
            self._view.parent.rebind(self._view.put(self._view.parent.x, x))
        else:
            self._x = x

    def part(self, values: np.ndarray, get: Callable, put: Callable) -> "Traced":
        """A view into this array."""
        out = np.asarray(values).view(Traced)
        out._view = View(self, get, put)
        return out

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: PyTree, out: tuple = (), **settings: PyTree
    ) -> PyTree:
        if not all(isinstance(v, Traced) for v in out):
            return NotImplemented
        x = traced_ufunc(ufunc, method, tuple(map(bare, inputs)), settings)
        values = getattr(ufunc, method)(
            *map(plain, inputs), **tree(plain, settings), **({"out": tuple(map(plain, out))} if out else {})
        )
        if method == "at":
            return inputs[0].rebind(x)
        if not out:
            return dual(values, x)
        out[0].rebind(x)
        return out[0]

    def __array_function__(self, function: Callable, types: PyTree, args: PyTree, kwargs: PyTree) -> PyTree:
        special = running_mode().special.get(function)
        if special:
            return special(*args, **kwargs)
        out = kwargs.pop("out", None)
        if out is not None:
            out[...] = function(*args, **kwargs)
            return out
        where = next((m for m in (jnp.linalg, jnp.fft) if m.__name__.split(".")[-1] in function.__module__), jnp)
        f = getattr(where, function.__name__, None)
        if function.__name__ in IN_PLACE and f:
            x = f(*tree(bare, args), **tree(bare, kwargs), inplace=False)
            function(*tree(plain, args), **tree(plain, kwargs))
            return args[0].rebind(x)
        if f is None:
            return moved(function, *args, **kwargs)
        values = function(*tree(plain, args), **tree(plain, kwargs))
        return dual(values, f(*tree(bare, args), **tree(bare, {k: v for k, v in kwargs.items() if k not in OF_VALUES})))

    def __getitem__(self, index: PyTree) -> PyTree:
        values = plain(self)[in_index(index, plain)]
        at = in_index(index, bare)
        if isinstance(values, np.ndarray) and values.base is not None and np.shares_memory(values, plain(self)):
            return self.part(values, lambda x: x[at], lambda x, new: x.at[at].set(new))
        return dual(values, self.x[at])

    def __setitem__(self, index: PyTree, value: PyTree) -> None:
        value = running_mode().as_array(value)
        new = jnp.asarray(bare(value))
        if is_mask(index) and new.ndim == 0:
            mask = jnp.asarray(bare(index))
            x = jnp.where(mask.reshape(mask.shape + (1,) * (self.ndim - mask.ndim)), new, self.x)
            plain(self)[plain(index)] = plain(value)
        else:
            x = self.x.at[in_index(index, bare)].set(new)
            plain(self)[in_index(index, plain)] = plain(value)
        self.rebind(x)

    def __iter__(self) -> Iterator:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return repr(plain(self))

    def __str__(self) -> str:
        return str(plain(self))

    def __format__(self, spec: str) -> str:
        return format(plain(self)[()], spec)

    def __copy__(self) -> "Traced":
        return self.copy()

    def __deepcopy__(self, memo: dict | None) -> "Traced":
        return self.copy()

    def __bool__(self) -> bool:
        return bool(known(self))

    def __int__(self) -> int:
        return int(known(self))

    def __index__(self) -> int:
        return known(self).__index__()

    def __float__(self) -> float:
        """TypeError: it would be forgotten on what the float depends. float in the user's code is a stand-in."""
        raise TypeError("float() of a traced array")

    def item(self, *index: PyTree) -> PyTree:
        """An entry, itself."""
        return self[index] if index else self.reshape(())

    def tolist(self) -> PyTree:
        """Lists of the entries."""
        return [v.tolist() for v in self] if self.ndim else self

    def astype(self, dtype: PyTree, *args: PyTree, **kwargs: PyTree) -> PyTree:
        """A copy in this dtype; in float64 if it is one of floats."""
        if np.dtype(dtype).kind == "f":
            dtype = np.float64
        return dual(plain(self).astype(dtype), self.x.astype(jax.dtypes.canonicalize_dtype(dtype)))

    def copy(self, *args: PyTree) -> "Traced":
        """An array that shares nothing with this one."""
        return dual(plain(self).copy(), self.x)

    def fill(self, value: PyTree) -> None:
        """Writes this number into every entry."""
        self[...] = value

    def reshape(self, *shape: PyTree, order: PyTree = "C") -> PyTree:  # type: ignore[override]
        """In another shape: a view if NumPy makes one."""
        shape = shape[0] if len(shape) == 1 else shape
        values = plain(self).reshape(shape, order=order)
        if order != "C" or not np.shares_memory(values, plain(self)):
            return dual(values, jnp.reshape(self.x, values.shape, order))
        return self.part(values, lambda x: x.reshape(values.shape), lambda x, new: new.reshape(x.shape))

    def ravel(self, order: PyTree = "C") -> PyTree:
        """In one dimension: a view if NumPy makes one."""
        return self.reshape(-1, order=order)

    def flatten(self, order: PyTree = "C") -> PyTree:
        """A copy in one dimension."""
        return self.copy().reshape(-1, order=order)

    def transpose(self, *axes: PyTree) -> PyTree:
        """With its axes in another order; without one, a view."""
        return np.transpose(self, axes[0] if len(axes) == 1 else axes) if axes and axes != (None,) else self.T

    def sort(self, axis: int = -1, **kwargs: PyTree) -> None:  # type: ignore[override]
        """Sorts in place."""
        self[...] = np.sort(self, axis)

    @property
    def T(self) -> PyTree:
        """The transpose, a view."""
        return self.part(plain(self).T, lambda x: x.T, lambda x, new: new.T)

    @property
    def flat(self) -> PyTree:
        """The entries, one after the other."""
        return self.reshape(-1)

    @flat.setter
    def flat(self, new: PyTree) -> None:
        self[...] = np.resize(new, self.shape)

    @property  # type: ignore[misc]
    def real(self) -> PyTree:
        """The real parts."""
        return dual(plain(self).real.copy(), self.x.real)

    @property  # type: ignore[misc]
    def imag(self) -> PyTree:
        """The imaginary parts."""
        return dual(plain(self).imag.copy(), self.x.imag)


def function_as_method(name: str) -> Callable:
    """The function of this name in NumPy, as a method."""
    f = getattr(np, name)
    return lambda self, *args, **kwargs: f(self, *args, **kwargs)


def in_place(ufunc: np.ufunc) -> Callable:
    """The method of an operator like +=. A number is not changed in place."""
    return lambda self, v: ufunc(self, v, out=self) if self.ndim else ufunc(self, v)


for _name in METHODS:
    setattr(Traced, _name, function_as_method(_name))
for _name, _ufunc in {"add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.divide}.items():
    setattr(Traced, f"__i{_name}__", in_place(_ufunc))


def traced_ufunc(ufunc: np.ufunc, method: str, inputs: tuple, settings: dict) -> jax.Array:
    """What JAX makes of a ufunc, or of its reduce, accumulate, outer or at."""
    name = OTHER_NAMES.get(ufunc.__name__, ufunc.__name__)
    f = getattr(jnp, name, None) or getattr(jax.scipy.special, name, None)
    if f is None:
        raise NotImplementedError(f"np.{name}")
    kept = {k: bare(v) for k, v in settings.items() if k not in OF_VALUES}
    if method == "at":
        return f.at(inputs[0], in_index(inputs[1], bare), *inputs[2:], inplace=False)
    if method == "reduce":
        kept.setdefault("axis", 0)
        return getattr(jnp, REDUCED[name])(*inputs, **kept) if name in REDUCED else f.reduce(*inputs, **kept)
    return f(*inputs, **kept) if method == "__call__" else getattr(f, method)(*inputs, **kept)


def moved(function: Callable, v: "Traced", *args: PyTree, **kwargs: PyTree) -> PyTree:
    """A function that only moves entries, by where it puts the numbers 0, 1, …; NotImplementedError for any other."""
    args, kwargs = tree(plain, args), tree(plain, kwargs)
    values = function(plain(v), *args, **kwargs)
    places = function(np.arange(v.size).reshape(v.shape), *args, **kwargs)
    if np.asarray(places).dtype.kind != "i" or not np.array_equal(plain(v).ravel()[places], values):
        raise NotImplementedError(function.__name__)
    return dual(values, v.x.ravel()[places])


def known(v: Traced) -> np.ndarray:
    """The values at the point, for a decision. TypeError if the mode does not allow one."""
    if not getattr(running_mode(), "decides", False):
        raise TypeError("while it is traced, an array has no values")
    return plain(v)


def is_mask(index: PyTree) -> bool:
    """Whether an index is an array of truths."""
    return isinstance(index, np.ndarray) and index.dtype.kind == "b"


def in_index(index: PyTree, form: Callable[[PyTree], PyTree]) -> PyTree:
    """An index with its arrays in the form of NumPy, `plain`, or of JAX, `bare`; a mask as it is at the point."""
    if isinstance(index, tuple):
        return tuple(in_index(i, form) for i in index)
    if isinstance(index, slice):
        return slice(*(v.__index__() if isinstance(v, Traced) else v for v in (index.start, index.stop, index.step)))
    if isinstance(index, range | list):
        index = np.array([v.__index__() if isinstance(v, Traced) else v for v in index])
    if isinstance(index, Traced) and is_mask(index):
        return known(index)
    return form(index)


def tree(f: Callable[[PyTree], PyTree], v: PyTree) -> PyTree:
    """f of everything in tuples, lists and dicts. A list of numbers is an array, as JAX wants it."""
    if type(v) is dict:
        return {key: tree(f, entry) for key, entry in v.items()}
    if type(v) is list and v and all(isinstance(entry, int | float) for entry in v):
        return np.array(v)
    return type(v)(tree(f, entry) for entry in v) if type(v) in (tuple, list) else f(v)


def plain(v: PyTree) -> PyTree:
    """The values of a `Traced` at the point; anything else as it is."""
    return np.ndarray.view(v, np.ndarray) if isinstance(v, Traced) else v


def bare(v: PyTree) -> PyTree:
    """The JAX array of a `Traced`, or of floats; anything else as it is."""
    if isinstance(v, Traced):
        return v.x
    return jnp.asarray(v) if isinstance(v, np.ndarray) and v.dtype.kind == "f" else v


def dual(values: PyTree, x: PyTree) -> PyTree:
    """Values at the point and the JAX array that was traced beside them, as a `Traced`; a tuple of such."""
    if isinstance(x, (tuple, list)):
        pairs = [dual(v, w) for v, w in zip(values, x, strict=True)]
        return type(values)(pairs) if type(values) in (tuple, list) else type(values)(*pairs)
    if not isinstance(x, jax.Array):
        return values
    out = np.array(values).view(Traced)
    out._x = x if x.shape == out.shape else jnp.reshape(x, out.shape)
    return out


def array(v: PyTree, dtype: PyTree = None, *, ndmin: int = 0, **settings: PyTree) -> PyTree:
    """np.array of a traced array, or of rows some of which are traced."""
    out = v.copy() if isinstance(v, Traced) else stacked(v)
    out = out.reshape((1,) * (ndmin - out.ndim) + out.shape) if ndmin > out.ndim else out
    return out if dtype is None or np.dtype(dtype) == out.dtype else out.astype(dtype)


def stacked(v: PyTree) -> PyTree:
    """A list of traced arrays, numbers and lists of them as one array."""
    if isinstance(v, Traced):
        return v
    if type(v) not in (list, tuple) or not holds(v, (Traced,)):
        return np.asarray(v)
    rows = list(map(stacked, v))
    values = np.array([plain(row) for row in rows])
    return dual(values, jnp.stack([jnp.asarray(bare(row), values.dtype) for row in rows]))


def view(v: PyTree, dtype: PyTree = None, *args: PyTree, **settings: PyTree) -> PyTree:
    """np.asarray: the same array if it is one."""
    is_same = isinstance(v, Traced) and (dtype is None or np.dtype(dtype) == v.dtype)
    return v if is_same else array(v, dtype)


def number(v: PyTree = 0.0) -> PyTree:
    """float(v), without dimensions."""
    return v.reshape(()).astype(np.float64)


def concatenation(notation: PyTree, of_jax: PyTree) -> Callable:
    """np.c_[index] or np.r_[index] as a function of the index."""
    return lambda index: dual(notation[tree(plain, index)], of_jax[tree(bare, index)])


def copyto(out: PyTree, v: PyTree, where: PyTree = True, **settings: PyTree) -> None:
    """Writes v into an array, where it is asked."""
    out[...] = np.where(where, v, out)


SPECIAL: dict[Callable, Callable] = {
    np.array: array,
    **dict.fromkeys((np.asarray, np.asanyarray, np.ascontiguousarray, np.asfortranarray), view),
    np.copyto: copyto,
    np.lib.stride_tricks.as_strided: lambda v, *args, **kwargs: moved(
        np.lib.stride_tricks.as_strided, v, *args, **kwargs
    ),
    np.c_.__getitem__: concatenation(np.c_, jnp.c_),
    np.r_.__getitem__: concatenation(np.r_, jnp.r_),
}


def values_of(v: PyTree) -> PyTree:
    """The values at the point of everything in lists, tuples and dicts."""
    return tree(plain, v)


def is_row(v: PyTree) -> bool:
    """Whether v is a list or tuple with a traced array somewhere in it."""
    return type(v) in (list, tuple) and holds(v, (Traced,))


def rows_as_arrays(v: Sequence) -> PyTree:
    """The rows of a list as arrays: of a function that takes several arrays."""
    return type(v)(stacked(row) if is_row(row) else row for row in v)  # type: ignore[call-arg]
