"""The arguments of a formula as a list of float arrays, everything else held constant; and answers that do not fit."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.tree_util import keystr, tree_flatten_with_path


class BadAnswer(ValueError):
    """A function returned something other than what was asked of it."""


@dataclass(frozen=True)
class Arguments:
    """args, of which the float leaves are numbered: `floats`. `build` puts other arrays in their places.

    A Python float counts as a float leaf in an argument that is differentiated, and is a constant elsewhere.
    """

    leaves: tuple[Any, ...]
    treedef: Any
    where: tuple[int, ...]  # of the leaves, which are floats
    differentiated: tuple[int, ...]  # of the floats, which the answer is about
    paths: tuple[str, ...]  # of the floats, within their argument
    positions: tuple[int, ...]  # of the floats, their argument
    floats: tuple[np.ndarray, ...]
    names: tuple[str, ...]  # of the arguments

    @property
    def dtypes(self):
        """What JAX makes of each float leaf: float32 of NumPy's float64, unless x64 is on."""
        return [jax.dtypes.canonicalize_dtype(v.dtype) for v in self.floats]

    def name(self, i):
        """What a float leaf is called, with its argument."""
        return f"{self.names[self.positions[i]]}{self.paths[i]}"

    def build(self, floats):
        leaves = list(self.leaves)
        for i, v in zip(self.where, floats, strict=True):
            leaves[i] = v
        return self.treedef.unflatten(leaves)

    def answer(self, f):
        """What f(*args) returns: shapes and dtypes of a JAX function, without running it; of other code, its result."""
        specs = [jax.ShapeDtypeStruct(v.shape, t) for v, t in zip(self.floats, self.dtypes, strict=True)]
        try:
            return jax.eval_shape(lambda floats: f(*self.build(floats)), specs)
        except Exception as error:  # NumPy code, or a mistake, which it then says again
            try:
                return f(*self.build([v.copy() for v in self.floats]))
            except Exception:
                if isinstance(error, (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError)):
                    raise
                raise error from None


@dataclass(frozen=True)
class Problem:
    """Two functions of the same float leaves that should be one: `claim` by hand, `truth` by autodiff.

    Both give a list of arrays, named by `paths`. The first of them, one for each differentiated float leaf, are the
    gradient of `scalar`, where there is one.
    """

    title: str
    arguments: Arguments
    claim: Callable
    truth: Callable
    scalar: Callable | None
    paths: tuple[str, ...]
    redrawn: tuple[int, ...]  # of the float leaves
    always: tuple[int, ...] = ()  # cotangents: random at every point
    taken: Callable = list  # the list of arrays in what a function like the hand rule returned
    by_autodiff: Callable | None = None  # (floats, own=) -> `truth`, of the forward pass as `own` rewrites it


def arguments_of(args, differentiated, f):
    """`Arguments` of f(*args); of the arguments whose numbers are in `differentiated` the derivative is asked."""
    names = parameter_names(f, len(args))
    entries, treedef = tree_flatten_with_path(args)
    where: list[int] = []
    asked: list[int] = []
    for i, (path, leaf) in enumerate(entries):
        own = path[0].idx in differentiated
        if isinstance(leaf, complex) or jnp.issubdtype(getattr(leaf, "dtype", np.dtype(bool)), jnp.complexfloating):
            raise TypeError(
                f"{names[path[0].idx]}{keystr(path[1:])} is complex: only real functions are verified; "
                "give the real and the imaginary part as two arrays."
            )
        if own and is_float_leaf(leaf) and not np.isfinite(np.asarray(leaf, float)).all():
            where_not = np.argwhere(~np.isfinite(np.asarray(leaf, float)))[0].tolist()
            raise ValueError(
                f"{names[path[0].idx]}{keystr(path[1:])} is not finite at {where_not}: give finite numbers."
            )
        if is_float_leaf(leaf) and (own or not isinstance(leaf, float)):
            asked += [len(where)] * (own and np.size(leaf) > 0)
            where.append(i)
    return Arguments(
        tuple(as_jax_holds(leaf) for _, leaf in entries),
        treedef,
        tuple(where),
        tuple(asked),
        tuple(keystr(entries[i][0][1:]) for i in where),
        tuple(entries[i][0][0].idx for i in where),
        tuple(np.asarray(entries[i][1]) for i in where),
        tuple(names),
    )


def as_jax_holds(leaf):
    """NumPy's whole numbers in the width that JAX gives them: int32 unless x64 is on."""
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "iu":
        return leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype))
    return leaf


def is_float_leaf(leaf):
    return isinstance(leaf, float) or jnp.issubdtype(getattr(leaf, "dtype", np.dtype(bool)), jnp.floating)


def answer_like(out, like, who):
    """The leaves of the tree `out` at the float leaves of `like`; BadAnswer where its paths or shapes are others."""
    name = lambda path: keystr(path) or "the argument"  # noqa: E731
    expected = {name(path): leaf for path, leaf in tree_flatten_with_path(like)[0]}
    found = {name(path): leaf for path, leaf in tree_flatten_with_path(out)[0]}
    needed = {path: leaf for path, leaf in expected.items() if is_float_leaf(leaf)}
    missing, unknown = needed.keys() - found.keys(), found.keys() - expected.keys()
    shapes = [np.shape(v) for v in jax.tree.leaves(out)]
    if isinstance(out, (tuple, list)) and shapes == [np.shape(v) for v in expected.values()] == [
        *map(np.shape, needed.values())
    ]:
        return [v for v in jax.tree.leaves(out) if np.size(v)]  # a tuple for a list or a NamedTuple
    if missing or unknown:
        faults = [f"nothing for {path}" for path in needed if path in missing]
        faults += [f"{path}, which is not asked for" for path in found if path in unknown]
        raise BadAnswer(
            f"{who} returned {'; '.join(faults)}: it must return one array for each float array of what it "
            f"differentiates, in a tree of the same structure ({', '.join(needed)})."
        )
    for path, leaf in needed.items():
        if np.shape(found[path]) != np.shape(leaf):
            raise BadAnswer(
                f"{who} returned shape {np.shape(found[path])} for {path}, whose shape is {np.shape(leaf)}: "
                "a derivative has the shape of what it belongs to."
            )
    return [found[path] for path, leaf in needed.items() if np.size(leaf)]


def check_dtypes(out, like, who):
    """BadAnswer where JAX code returned another dtype than that of what it differentiates."""
    for (path, leaf), v in zip(
        [
            (keystr(p) or "the argument", x)
            for p, x in tree_flatten_with_path(like)[0]
            if is_float_leaf(x) and np.size(x)
        ],
        out,
        strict=True,
    ):
        expected = jax.dtypes.canonicalize_dtype(np.asarray(leaf).dtype)
        if isinstance(v, jax.ShapeDtypeStruct) and v.dtype != expected:
            raise BadAnswer(f"{who} returned {v.dtype} for {path}, which is {expected}: cast it with .astype.")


def parameter_names(f, n):
    """What f calls its first n positional arguments."""
    try:
        names = [
            p.name
            for p in inspect.signature(f).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        names = []
    return [names[i] if i < len(names) else f"args[{i}]" for i in range(n)]


def called(f):
    """The name of a function, for a sentence."""
    return getattr(f, "__name__", None) or type(f).__name__


def sums_to_one(v):
    """Whether these are distributions, in rows or in columns, whose sums are 1 but for rounding."""
    v = np.asarray(v, np.float64) if v.ndim else np.zeros(1)
    error = lambda axis: np.abs(v.sum(axis) - 1).max(initial=0)  # noqa: E731
    return bool(v.size and (v >= 0).all() and min(error(0), error(-1)) < 0.02 and not np.isin(v, (0, 1)).all())
