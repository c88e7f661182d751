"""What a user's cost and gradient return, taken for what is asked of them where it can mean one thing only. A note says
so; where there are two meanings, `BadAnswer` says what to return."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp
from jax.tree_util import all_leaves, keystr, tree_flatten_with_path, tree_map_with_path

from jaxnn.protocols import PyTree
from jaxnn.verify.arguments import BadAnswer, answer_like, is_float_leaf

Names = tuple[str, ...]  # of the keys, fields and places on the way to a leaf


class Cost(NamedTuple):
    """How a cost is read. is_first: J is the first of what it returns."""

    is_first: bool
    notes: tuple[str, ...] = ()

    def of(self, out: PyTree) -> PyTree:
        """J, one number, of what the cost returned."""
        J = out[0] if self.is_first else out
        return reshaped(J, ())


def cost_in(out: PyTree, who: str, has_aux: bool) -> Cost:
    """The reading of a cost that returned this; has_aux: it is (J, aux). BadAnswer: J is not one number."""
    notes: list[str] = []
    if not has_aux and isinstance(out, (tuple, list)):
        if [is_number(v) for v in out] != [True, *[False] * (len(out) - 1)]:
            raise BadAnswer(f"{who} returned {len(out)} things: return J, one number, alone or before what is none.")
        notes.append(f"{who} returned {len(out)} things: J is the first, the only number")
        has_aux = True
    J = out[0] if has_aux else out
    if isinstance(J, (tuple, list, dict)) or np.size(J) != 1:
        given = type(J).__name__ if isinstance(J, (tuple, list, dict)) else f"shape {np.shape(J)}"
        raise BadAnswer(f"{who} returned {given}: a cost is one number, a sum or a mean.")
    if np.shape(J) != ():
        notes.append(f"{who} returned shape {np.shape(J)}: its one entry is J")
    return Cost(has_aux, tuple(notes))


def is_number(v: PyTree) -> bool:
    """Whether it is one number, or an array of one."""
    return isinstance(v, (int, float)) or (hasattr(v, "dtype") and np.size(v) == 1)


class Gradient(NamedTuple):
    """Arrays, one for each float leaf that is not empty of what is differentiated."""

    leaves: list[PyTree]
    notes: tuple[str, ...] = ()


class Answer(NamedTuple):
    """What a rule returned: the gradient, and J; no values if it returned no J."""

    tree: PyTree
    values: list[PyTree]


class Asked(NamedTuple):
    """What is asked of a rule, `who`: a gradient like `like`, alone or with J, and with more if has_aux says so."""

    like: PyTree
    who: str
    has_aux: bool

    def listed(self, out: PyTree) -> list[PyTree]:
        """The arrays of the gradient, and J if the rule returned it."""
        tree, values = self.split(out)
        return [*gradient_in(tree, self.like, self.who).leaves, *values]

    def fits(self, tree: PyTree) -> bool:
        """Whether it can be the gradient."""
        try:
            gradient_in(tree, self.like, self.who)
        except BadAnswer:
            return False
        return True

    def split(self, out: PyTree) -> Answer:
        """Which part of a pair is the gradient, and which is J. A wrong gradient is one too: `gradient_in` says why."""
        if not isinstance(out, tuple) or len(out) != 2:
            return Answer(out, [])
        first, second = out
        is_valued = isinstance(first, tuple) and len(first) == 2 and np.shape(first[0]) == ()  # can be (value, aux)
        is_one = not isinstance(first, (tuple, list, dict)) and np.size(first) == 1
        if self.has_aux:
            if is_valued and (self.fits(second) or not self.fits(first)):
                return Answer(second, [first[0]])
            return Answer(first, [])
        if self.fits(out):  # a pair of arrays
            return Answer(out, [])
        if is_one and (self.fits(second) or not self.fits(first)):
            return Answer(second, [reshaped(first, ())])
        if is_valued and self.fits(second):
            return Answer(second, [first[0]])
        return Answer(first if self.fits(first) else out, [])


def gradient_in(out: PyTree, like: PyTree, who: str) -> Gradient:
    """The gradient that a rule returned, in a tree like `like`. Also taken for it are keys with one prefix or suffix,
    dW1 for W1; arrays that lack axes of size 1, or have more of them; and a tuple for a dict. BadAnswer: anything else.
    """
    notes: list[str] = []
    if isinstance(out, (tuple, list)) and isinstance(like, dict):
        out, notes = in_dict(out, like, who)
    expected, given = by_names(like), by_names(out)
    needed = {names: leaf for names, leaf in expected.items() if is_float_leaf(leaf)}
    affix = affix_in(given, list(needed))
    if affix is None or (affix == ("", "") and not given.keys() <= expected.keys()):
        return Gradient(answer_like(out, like, who), tuple(notes))
    others = given.keys() - {renamed(names, affix) for names in expected}
    if affix != ("", ""):
        pairs = [(".".join(renamed(names, affix)), ".".join(names)) for names in needed]
        taken, meant = (", ".join(side) for side in zip(*pairs, strict=True))
        left = f"; {', '.join(sorted(map('.'.join, others)))} is not asked for" if others else ""
        notes.append(f"{who} returned {taken}, taken for the derivatives by {meant}{left}")
    leaves = []
    for path, (names, leaf) in zip(paths_of(like), needed.items(), strict=True):
        v = given[renamed(names, affix)]
        if np.shape(v) != np.shape(leaf):
            notes.append(shape_note(np.shape(v), np.shape(leaf), who, path))
        leaves += [reshaped(v, np.shape(leaf))] if np.size(leaf) else []
    return Gradient(leaves, tuple(notes))


def in_dict(out: Sequence[PyTree], like: dict, who: str) -> tuple[PyTree, list[str]]:
    """(the entries of a tuple by the keys of a dict, in its order or in that of the alphabet, a note); what it is, if
    its shapes fit neither. BadAnswer: they fit both."""
    if not all_leaves(out) or not all_leaves(like.values()):
        return out, []
    shapes = [np.shape(v) for v in out]
    orders = [order for order in (list(like), sorted(like)) if [np.shape(like[name]) for name in order] == shapes]
    if not orders:
        return out, []
    if orders[0] != orders[-1]:
        raise BadAnswer(f"{who} returned a tuple for a dict: return a dict with the keys {', '.join(orders[0])}.")
    return dict(zip(orders[0], out, strict=True)), [f"{who} returned a tuple, taken for {', '.join(orders[0])}"]


def shape_note(shape: tuple[int, ...], expected: tuple[int, ...], who: str, path: str) -> str:
    """That an array of another shape has its entries in one order only. BadAnswer: it has not."""
    short, wanted = ([n for n in axes if n != 1] for axes in (shape, expected))
    words = f"{who} returned shape {shape} for {path}, whose shape is {expected}"
    if short != wanted or len(shape) == len(expected):
        raise BadAnswer(f"{words}: a derivative has the shape of what it belongs to.")
    try:
        fits = np.broadcast_shapes(shape, expected) == expected
    except ValueError:
        fits = False
    return f"{words}: its entries are taken in their order" + ("" if fits else "; an update with it has another shape")


def reshaped(v: PyTree, shape: tuple[int, ...]) -> PyTree:
    """The entries, or the specification, of v in this shape."""
    if np.shape(v) == shape:
        return v
    if isinstance(v, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(shape, v.dtype)
    return v.reshape(shape) if hasattr(v, "reshape") else np.asarray(v).reshape(shape)


def affix_in(given: Collection[Names], needed: Sequence[Names]) -> tuple[str, str] | None:
    """The (prefix, suffix) with which every needed leaf is given; None if there is none, or more than one."""
    if all(names in given for names in needed):
        return "", ""
    first, affixes = needed[0], set()
    for names in given if first else ():
        if names[:-1] == first[:-1] and names and first[-1] in names[-1]:
            before, _, after = names[-1].partition(first[-1])
            affixes.add((before, after))
    fitting = [affix for affix in affixes if all(renamed(names, affix) in given for names in needed)]
    return fitting[0] if len(fitting) == 1 else None


def renamed(names: Names, affix: tuple[str, str]) -> Names:
    """('1', 'W') with a d before its last name: ('1', 'dW')."""
    before, after = affix
    return (*names[:-1], f"{before}{names[-1]}{after}") if names else names


def by_names(tree: PyTree) -> dict[Names, PyTree]:
    """The leaves of a tree by their names, which those of a dict and of a NamedTuple share."""
    return {names_of(path): leaf for path, leaf in tree_flatten_with_path(tree)[0]}


def names_of(path: Sequence[PyTree]) -> Names:
    return tuple(str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key)))) for key in path)


def paths_of(tree: PyTree) -> list[str]:
    """The paths of the float leaves."""
    entries = tree_flatten_with_path(tree)[0]
    return [keystr(path) or "the argument" for path, leaf in entries if is_float_leaf(leaf)]


# Whole numbers


def whole_parameters(like: PyTree, out: PyTree = None) -> set[Names]:
    """The whole numbers in `like` that are parameters: those by which `out`, a gradient, has a derivative; all if there
    is no float among them."""
    leaves, given = by_names(like), by_names(out)
    whole = {names: v for names, v in leaves.items() if is_whole(v)}
    needed = [names for names, v in leaves.items() if is_float_leaf(v)]
    if not needed:
        return set(whole)
    affix = affix_in(given, needed) or ("", "")
    derivatives = {names: given[renamed(names, affix)] for names in whole if renamed(names, affix) in given}
    return {names for names, v in derivatives.items() if is_derivative(v) and np.size(v) == np.size(whole[names])}


def is_whole(v: PyTree) -> bool:
    """Whether it is a whole number, or an array of them, that is known."""
    known = isinstance(v, (int, np.ndarray, np.integer, jax.Array)) and not isinstance(v, jax.core.Tracer)
    return known and jnp.issubdtype(getattr(v, "dtype", type(v)), jnp.integer)


def is_derivative(v: PyTree) -> bool:
    """Whether it is a number or an array of numbers; that of a whole number by `jax.grad` is none."""
    return isinstance(v, (int, float)) or jnp.issubdtype(getattr(v, "dtype", bool), jnp.number)


def with_floats(tree: PyTree, whole: Collection[Names]) -> PyTree:
    """The tree with floats for these whole numbers, in the usual dtype of whoever made them."""

    def in_float(path: Sequence[PyTree], v: PyTree) -> PyTree:
        if names_of(path) not in whole:
            return v
        return v.astype(jnp.zeros(()).dtype) if isinstance(v, jax.Array) else np.float64(v)

    return tree_map_with_path(in_float, tree)
