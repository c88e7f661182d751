"""The arguments of a formula as a list of float arrays, everything else held constant; a problem, two functions of
them; and answers that do not fit."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import jax
import numpy as np
from jax import numpy as jnp
from jax.tree_util import PyTreeDef, keystr, tree_flatten_with_path

from jaxnn.protocols import PyTree
from jaxnn.verify.domains import Domain

Function = Callable[[list], list]  # of the float leaves, to a list of arrays


class BadAnswer(ValueError):
    """A function returned something other than what was asked of it."""


@dataclass(frozen=True)
class Arguments:
    """args, of which the float leaves are numbered: `floats`. `build` puts other arrays in their places.

    A Python float counts as a float leaf in an argument that is differentiated, and is a constant elsewhere.
    """

    leaves: tuple[PyTree, ...]
    treedef: PyTreeDef
    float_leaves: tuple[int, ...]  # the numbers of the leaves that are floats
    differentiated: tuple[int, ...]  # of the floats, which the answer is about
    paths: tuple[str, ...]  # of the floats, within their argument
    argument_of: tuple[int, ...]  # for each float leaf, the number of its argument
    floats: tuple[np.ndarray, ...]
    names: tuple[str, ...]  # of the arguments

    @property
    def dtypes(self) -> list[np.dtype]:
        """What JAX makes of each float leaf: float32 of NumPy's float64, unless x64 is on."""
        return [jax.dtypes.canonicalize_dtype(v.dtype) for v in self.floats]

    def name(self, i: int) -> str:
        """What a float leaf is called, with its argument."""
        return f"{self.names[self.argument_of[i]]}{self.paths[i]}"

    def build(self, floats: Sequence[PyTree]) -> tuple[PyTree, ...]:
        """args with these arrays for its float leaves."""
        leaves = list(self.leaves)
        for i, v in zip(self.float_leaves, floats, strict=True):
            leaves[i] = v
        return self.treedef.unflatten(leaves)

    def answer(self, f: Callable[..., PyTree]) -> PyTree:
        """What f(*args) returns: shapes and dtypes of a JAX function, without running it; the result of other code.
        BadAnswer: it returns nothing."""
        specs = [jax.ShapeDtypeStruct(v.shape, t) for v, t in zip(self.floats, self.dtypes, strict=True)]
        try:
            out = jax.eval_shape(lambda floats: f(*self.build(floats)), specs)
        except Exception as error:  # NumPy code, or a mistake, which it then says again
            try:
                out = f(*self.build([v.copy() for v in self.floats]))
            except Exception:
                if isinstance(error, (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError)):
                    raise
                raise error from None
        if out is None:
            raise BadAnswer(f"{called(f)} returned None: let it end with a return of what it computes.")
        return out


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Two functions of the same float leaves that should be one: `claim` by hand, `truth` by autodiff, or by
    differences for NumPy code.

    Both give a list of arrays, named by `paths`. The first of them, one for each differentiated float leaf, are the
    gradient of `scalar`, if there is one; if there is none, but tangents, the derivative of `values` along them; if
    `has_value`, the last of them is the value of `scalar`. `by_autodiff` is there beside `truth` because links and
    witnesses need the same derivative of a forward pass that they have changed.
    """

    title: str
    arguments: Arguments
    claim: Function
    truth: Function
    scalar: Callable[[list], PyTree] | None = None
    paths: tuple[str, ...]
    derivatives: int = 0  # so many of the arrays, the first, are derivatives; what follows are values
    has_value: bool = False
    values: Function | None = None  # what `truth` lists after the derivative, if anything
    notes: tuple[str, ...] = ()  # how the user's arguments and answers are understood
    redrawable: tuple[int, ...] = ()  # the float leaves that may be drawn anew
    cotangents: tuple[int, ...] = ()  # the float leaves, tangents too, that are random at every point
    listed: Callable[[PyTree], list[PyTree]] = list  # the list of arrays in what a function like the hand rule returned
    by_autodiff: Callable[..., list] | None = None  # (floats, own=) -> `truth`, of the forward pass that own makes
    domains: Mapping[int, Domain] = field(default_factory=dict)  # by float leaf, where it is drawn
    along: Callable[[Function], Function] = lambda f: f  # a function like `claim`, within the arguments' domains

    @cached_property
    def cost(self) -> Function:
        """`scalar` as a `Function`: one and the same, so that it is compiled once."""
        scalar = self.scalar
        assert scalar is not None, "there is no cost"
        return lambda floats: [scalar(floats)]


def arguments_of(args: tuple[PyTree, ...], differentiated: Collection[int], f: Callable) -> Arguments:
    """`Arguments` of f(*args); of the arguments whose numbers are in `differentiated` the derivative is asked.

    TypeError: a complex argument. ValueError: an entry to be differentiated that is not finite.
    """
    names = parameter_names(f, len(args))
    entries, treedef = tree_flatten_with_path(args)
    float_leaves: list[int] = []
    asked: list[int] = []
    for i, (path, leaf) in enumerate(entries):
        own, name = path[0].idx in differentiated, f"{names[path[0].idx]}{keystr(path[1:])}"
        check_leaf(leaf, name, own)
        if is_float_leaf(leaf) and (own or not isinstance(leaf, float)):
            asked += [len(float_leaves)] if own and np.size(leaf) > 0 else []
            float_leaves.append(i)
    return Arguments(
        leaves=tuple(as_jax_holds(leaf) for _, leaf in entries),
        treedef=treedef,
        float_leaves=tuple(float_leaves),
        differentiated=tuple(asked),
        paths=tuple(keystr(entries[i][0][1:]) for i in float_leaves),
        argument_of=tuple(entries[i][0][0].idx for i in float_leaves),
        floats=tuple(np.asarray(entries[i][1]) for i in float_leaves),
        names=tuple(names),
    )


def check_leaf(leaf: PyTree, name: str, differentiated: bool) -> None:
    """TypeError if it is complex; ValueError if it is to be differentiated and not finite."""
    if isinstance(leaf, complex) or jnp.issubdtype(getattr(leaf, "dtype", np.dtype(bool)), jnp.complexfloating):
        raise TypeError(
            f"{name} is complex: only real functions are verified; give the real and the imaginary part as two arrays."
        )
    if differentiated and is_float_leaf(leaf) and not np.isfinite(np.asarray(leaf, float)).all():
        place = np.argwhere(~np.isfinite(np.asarray(leaf, float)))[0].tolist()
        raise ValueError(f"{name} is not finite at {place}: give finite numbers.")


def as_jax_holds(leaf: PyTree) -> PyTree:
    """NumPy's whole numbers in the width that JAX gives them: int32 unless x64 is on."""
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "iu":
        return leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype))
    return leaf


def is_float_leaf(leaf: PyTree) -> bool:
    return isinstance(leaf, float) or jnp.issubdtype(getattr(leaf, "dtype", np.dtype(bool)), jnp.floating)


def by_path(tree: PyTree) -> dict[str, PyTree]:
    """The leaves of a tree by their paths."""
    return {keystr(path) or "the argument": leaf for path, leaf in tree_flatten_with_path(tree)[0]}


def answer_like(out: PyTree, like: PyTree, who: str) -> list[PyTree]:
    """The leaves of the tree `out` at the float leaves of `like`; BadAnswer if its paths or shapes are others."""
    expected, given = by_path(like), by_path(out)
    needed = {path: leaf for path, leaf in expected.items() if is_float_leaf(leaf)}
    missing, unknown = needed.keys() - given.keys(), given.keys() - expected.keys()
    shapes, wanted = ([np.shape(v) for v in leaves] for leaves in (jax.tree.leaves(out), expected.values()))
    if isinstance(out, (tuple, list)) and shapes == wanted and len(needed) == len(expected):
        return [v for v in jax.tree.leaves(out) if np.size(v)]  # a tuple for a list or a NamedTuple
    if missing or unknown:
        faults = [f"nothing for {path}" for path in needed if path in missing]
        faults += [f"{path}, which is not asked for" for path in given if path in unknown]
        raise BadAnswer(
            f"{who} returned {'; '.join(faults)}: it must return one array for each float array of what it "
            f"differentiates, in a tree of the same structure ({', '.join(needed)})."
        )
    for path, leaf in needed.items():
        if np.shape(given[path]) != np.shape(leaf):
            raise BadAnswer(
                f"{who} returned shape {np.shape(given[path])} for {path}, whose shape is {np.shape(leaf)}: "
                "a derivative has the shape of what it belongs to."
            )
    return [given[path] for path, leaf in needed.items() if np.size(leaf)]


def check_dtypes(out: Sequence[PyTree], like: PyTree, who: str) -> None:
    """BadAnswer if JAX code returned another dtype than that of what it differentiates."""
    floats = {path: leaf for path, leaf in by_path(like).items() if is_float_leaf(leaf)}
    nonempty = [(path, leaf) for path, leaf in floats.items() if np.size(leaf)]
    for (path, leaf), v in zip(nonempty, out, strict=True):
        expected = jax.dtypes.canonicalize_dtype(np.asarray(leaf).dtype)
        if isinstance(v, jax.ShapeDtypeStruct) and v.dtype != expected:
            raise BadAnswer(f"{who} returned {v.dtype} for {path}, which is {expected}: cast it with .astype.")


def parameter_names(f: Callable, n: int) -> list[str]:
    """What f calls its first n positional arguments."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [names[i] if i < len(names) else f"args[{i}]" for i in range(n)]


def called(f: object) -> str:
    """The name of a function, for a sentence."""
    return getattr(f, "__name__", None) or type(f).__name__


def sums_to_one(v: np.ndarray) -> bool:
    """Whether these are distributions, in rows or in columns, whose sums are 1 up to rounding."""
    v = np.asarray(v, np.float64) if v.ndim else np.zeros(1)
    errors = [np.abs(v.sum(axis) - 1).max(initial=0) for axis in (0, -1)]
    return bool(v.size and (v >= 0).all() and min(errors) < 0.02 and not np.isin(v, (0, 1)).all())
