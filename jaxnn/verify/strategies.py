"""Hypothesis strategies for a test of your own gradient: a custom rule, a kernel, a layer, a cost with its gradient.

A backward pass, in a test file of five lines; `forward` and `backward` are yours, a letter is a size:

    from jaxnn import verify
    from jaxnn.verify.strategies import given, operands

    @given(operands("mk", "nk", "n"))  # x (m, k), W (n, k), b (n,)
    def test_dense(args):
        verify.assert_vjp(forward, backward, *args)

A cost and its gradient, for `params` of any tree, 4 inputs and 3 classes:

    from jaxnn import verify
    from jaxnn.verify.strategies import batches, given, like

    @given(like(params), batches(4, 3, "labels"))
    def test_gradient(params, batch):
        verify.assert_gradient(cost, grad, params, *batch)

`given` is Hypothesis's own, and what it is given are strategies like any other. JAX compiles in a first example, often
for longer than Hypothesis's deadline of 200 ms. In conftest.py, two lines lift it for all tests:
`hypothesis.settings.register_profile("jax", deadline=None)` and `hypothesis.settings.load_profile("jax")`.

What is drawn is made for finding faults and for reading them:

- Entries are k/8 in [−2, 2], exact in every float dtype down to bfloat16; none is subnormal. They shrink to 0, then to
  small whole numbers, halves, quarters, eighths.
- Sizes come from a small pool, so JAX compiles a few programs and not one an example. The sizes in one draw differ from
  each other, so no transpose and no wrong axis fits. Some draws have a size 1, first in the shape: one example.
- `special=True`: an array may besides hold entries of one kind of `SPECIAL`, or its largest entry twice ("tie"). The
  kind is noted with a failing example and counted by `pytest --hypothesis-show-statistics`.
- NumPy arrays come out: drawing never touches a device.

More than 2048 entries, in an array or a tree, are drawn from a seed: they do not shrink one by one.

Hypothesis comes with the extra `test`. ImportError: importing this module without it.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np
from jax import numpy as jnp
from jax.tree_util import PyTreeDef
from jax.typing import DTypeLike

from jaxnn.examples import LAYERS, LOSSES
from jaxnn.layers.chain import Chain
from jaxnn.models.perceptron import perceptron
from jaxnn.protocols import Layer, LayerExample, Loss, Params, PyTree

try:
    from hypothesis import event, given, note
    from hypothesis import strategies as st
    from hypothesis.strategies import DrawFn, SearchStrategy
except ModuleNotFoundError as error:
    raise ImportError(
        "jaxnn.verify.strategies draws with Hypothesis, which is not installed: pip install -e '.[test]' brings it."
    ) from error

__all__ = ["arrays", "batches", "cotangents", "layers", "like", "losses", "networks", "operands", "sizes", "targets"]
__all__ += ["KINDS", "SPECIAL", "given"]

SIZES = ((3, 2, 5, 4, 7, 6), (2, 4, 3, 6, 5, 7), (1, 3, 4, 2, 6, 5))  # the pool: the first n of a row
NETWORKS = ((3, 2, 5), (4, 3, 5, 2), (1, 2, 4, 3, 5))  # (m, n_in, …, n_out)
SPECIAL = {"zero": 0.0, "saturated": 40.0, "tiny": 2.0**-20}  # each with either sign
KINDS = ("values", "probabilities", "distributions", "one-hot", "labels")
INITS: dict[tuple[Layer, np.dtype], Params] = {}  # what `_init` has found
SEEDED = 2048  # Hypothesis stops at 8192 bytes an example; special=True takes two bytes an entry


Shape = tuple[int, ...]
Arrays = SearchStrategy[np.ndarray]


def _rounded(k: int, step: int) -> float:
    """k, away from 0 to a multiple of step."""
    return math.copysign(-(-abs(k) // step) * step, k)


def _readable(low: int, high: int) -> list[int]:
    """k = low … high, easiest to read first."""
    return sorted(range(low, high + 1), key=lambda k: (-math.gcd(k, 8), k))


# A drawn array is a row of a table at drawn indices, and both shrink to 0: a whole array tries whole numbers, then
# halves, quarters, eighths, and each entry tries to come nearer to 0.
OUTWARD = sorted(range(-16, 17), key=lambda k: (abs(k), k < 0))
VALUES = np.array([[_rounded(k, step) for k in OUTWARD] for step in (8, 4, 2, 1)]) / 8
PROBABILITIES = np.array([_readable(0, 8)]) / 8
INSIDE = np.array([_readable(1, 7)]) / 8


@functools.cache  # Hypothesis checks a strategy when it first draws from it, which costs more than the draw
def _indices(shape: Shape, n: int, seeded: bool = False) -> Arrays:
    """Integers 0 … n − 1 as one draw: a string of bytes costs what one number costs, and each byte shrinks to 0."""
    if seeded or math.prod(shape) > SEEDED:
        return st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).integers(n, size=shape))
    kind = np.min_scalar_type(n - 1).newbyteorder(">")
    size = math.prod(shape) * kind.itemsize
    return st.binary(min_size=size, max_size=size).map(lambda raw: np.frombuffer(raw, kind).reshape(shape) % n)


GRAIN = st.integers(0, 7)


# What is drawn comes out of composites: Hypothesis prints the result of `map` as the call that made it.
@st.composite
def _entries(draw: DrawFn, table: np.ndarray, shape: Shape, dtype: DTypeLike, seeded: bool = False) -> np.ndarray:
    row = table[min(draw(GRAIN), len(table) - 1)]  # eighths in most draws
    return row[draw(_indices(shape, len(row), seeded))].astype(dtype)


@st.composite
def _specials(draw: DrawFn, shape: Shape, dtype: DTypeLike, seeded: bool) -> np.ndarray:
    kinds = ["none", *SPECIAL, "tie"] if math.prod(shape) > 1 else ["none", *SPECIAL]
    kind = draw(st.sampled_from(kinds))  # before the entries: what fails without a special one then shrinks to "none"
    v = draw(_entries(VALUES, shape, dtype, seeded))
    event("special", kind)
    if kind == "none":
        return v
    note(f"special: {kind}, in an array of shape {v.shape}")
    at = draw(_indices(shape, 4, seeded)) == 1
    if kind == "tie":
        at.flat[(int(np.argmax(v)) + draw(st.integers(1, v.size - 1))) % v.size] = True
        return np.where(at, v.max(), v)
    at.flat[draw(st.integers(0, v.size - 1))] = True
    smallest = float(jnp.finfo(dtype).smallest_normal)  # 2⁻²⁰ is subnormal in float16
    special = max(SPECIAL[kind], smallest) if SPECIAL[kind] > 0 else 0.0
    return np.where(at, np.copysign(np.asarray(special, dtype), v), v)


@functools.cache
def _array(shape: Shape, dtype: np.dtype, special: bool, seeded: bool = False) -> Arrays:
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"Entries are real and of a float dtype, not {dtype}.")
    if special and 0 not in shape:
        return _specials(shape, dtype, seeded)
    return _entries(VALUES, shape, dtype, seeded)


@st.composite
def _tree(draw: DrawFn, structure: PyTreeDef, leaves: Sequence[SearchStrategy]) -> PyTree:
    return jax.tree.unflatten(structure, [draw(leaf) for leaf in leaves])


@st.composite
def _classes(draw: DrawFn, shape: Shape, K: int) -> np.ndarray:
    return draw(_indices(shape, K)).astype(np.int32)


@st.composite
def _distributions(draw: DrawFn, shape: Shape, K: int, dtype: DTypeLike, shares: int) -> np.ndarray:
    """Rows of k/shares, each share given to one class."""
    return np.eye(K, dtype=dtype)[draw(_indices((*shape, shares), K))].mean(-2)


def arrays(shape: Shape | SearchStrategy[Shape], dtype: DTypeLike = np.float32, special: bool = False) -> Arrays:
    """An array of a float dtype. shape: a tuple, or a strategy of tuples such as `sizes(2)`.

    TypeError: a dtype that is not float.
    """
    if isinstance(shape, SearchStrategy):
        return shape.flatmap(lambda shape: arrays(shape, dtype, special))
    return _array(tuple(shape), np.dtype(dtype), special)


def sizes(n: int) -> SearchStrategy[Shape]:
    """A tuple of n sizes from the pool, all different: a shape, or the sizes that several shapes share.

    ValueError: n above 6.
    """
    if n > len(SIZES[0]):
        raise ValueError(f"{n} different sizes: the pool has {len(SIZES[0])}.")
    return st.sampled_from([row[:n] for row in SIZES])


def operands(
    *shapes: str, dtype: DTypeLike = np.float32, special: bool = False
) -> SearchStrategy[tuple[np.ndarray, ...]]:
    """A tuple of arrays whose shapes are words, a letter a size: "mk", "nk", "n" are (m, k), (n, k), (n,); "" is ().

    Different letters are different sizes; the first is 1 in some draws. ValueError: more than 6 letters.
    """
    letters = list(dict.fromkeys("".join(shapes)))

    def of_sizes(sizes: Shape) -> SearchStrategy[tuple[np.ndarray, ...]]:
        size = dict(zip(letters, sizes, strict=True))
        return st.tuples(*(arrays(tuple(size[letter] for letter in word), dtype, special) for word in shapes))

    return sizes(len(letters)).flatmap(of_sizes)


def like(tree: PyTree, special: bool = False) -> SearchStrategy[PyTree]:
    """A tree of the given one's structure, shapes and dtypes; its leaves are arrays, or `jax.ShapeDtypeStruct`.

    A leaf that is no float (integers, a PRNG key) is held: it comes back itself. TypeError: a leaf that is complex, or
    that is to be held and has no value.
    """
    leaves, structure = jax.tree.flatten(tree)
    seeded = sum(math.prod(jnp.shape(leaf)) for leaf in leaves) > SEEDED

    def of_leaf(leaf: PyTree) -> SearchStrategy[PyTree]:
        dtype = getattr(leaf, "dtype", None) or jnp.result_type(leaf)  # an array's own: NumPy's float64 stays float64
        if jnp.issubdtype(dtype, jnp.inexact):
            return _array(jnp.shape(leaf), np.dtype(dtype), special, seeded)
        if isinstance(leaf, jax.ShapeDtypeStruct):
            raise TypeError(f"A leaf of {dtype} is held as it is: give its value, not a ShapeDtypeStruct.")
        return st.just(leaf)

    return _tree(structure, [of_leaf(leaf) for leaf in leaves])


def cotangents(f: Callable[..., PyTree], *args: PyTree, special: bool = False) -> SearchStrategy[PyTree]:
    """A cotangent of f(*args): the tree, shapes and dtypes of its output. f is traced, not run; args as for `like`.

    No float leaf is constant, so none is all ones or all zeros; a leaf of one entry is neither 0 nor 1. A leaf that is
    no float gets the float0 zeros that `jax.vjp` takes.
    """
    leaves, structure = jax.tree.flatten(jax.eval_shape(f, *args))

    def tells(v: np.ndarray) -> bool:
        if v.size > 1:
            return bool(v.min() < v.max())
        return v.size == 0 or v.item() not in (0, 1)

    def of_leaf(leaf: jax.ShapeDtypeStruct) -> Arrays:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return st.just(np.zeros(leaf.shape, jax.dtypes.float0))
        return arrays(leaf.shape, leaf.dtype, special).filter(tells)

    return _tree(structure, [of_leaf(leaf) for leaf in leaves])


def targets(kind: str, shape: Shape, dtype: DTypeLike = np.float32) -> Arrays:
    """y for an output z of this shape (…, K), of one of the `KINDS`.

    values: any; probabilities: in [0, 1]; distributions: rows that sum to exactly 1; one-hot: rows with a single 1, all
    (…, K) of `dtype`; labels: 0 … K − 1, (…) of int32. ValueError: another kind.
    """
    lead, K = tuple(shape[:-1]), shape[-1]
    makers = {
        "values": lambda: arrays(shape, dtype),
        "probabilities": lambda: _entries(PROBABILITIES, shape, dtype),
        "distributions": lambda: _distributions(lead, K, dtype, 8),
        "one-hot": lambda: _distributions(lead, K, dtype, 1),
        "labels": lambda: _classes(lead, K),
    }
    if kind not in makers:
        raise ValueError(f"Unknown kind of target {kind!r}; use one of {', '.join(KINDS)}.")
    return makers[kind]()


def batches(
    n_in: int, n_out: int, kind: str = "values", dtype: DTypeLike = np.float32, special: bool = False
) -> SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    """(x, y): x (m, n_in), y of the kind for outputs (m, n_out), see `targets`; m from the pool, not n_in, not n_out.

    ValueError: a kind that is not one of `KINDS`.
    """
    targets(kind, (1, n_out), dtype)

    def of_size(m: int) -> SearchStrategy[tuple[np.ndarray, np.ndarray]]:
        return st.tuples(arrays((m, n_in), dtype, special), targets(kind, (m, n_out), dtype))

    return st.sampled_from([m for m in (5, 2, 3, 1) if m not in (n_in, n_out)]).flatmap(of_size)


def _init(layer: Layer, dtype: DTypeLike) -> Params:
    """Shapes and dtypes of the layer's params; x64 lets a float64 be one whatever the mode of the test."""
    key = (layer, np.dtype(dtype))
    if key not in INITS:
        with jax.enable_x64(True):
            INITS[key] = jax.eval_shape(lambda: layer.init(jax.random.key(0), dtype))
    return INITS[key]


def _all_different(example: LayerExample) -> bool:
    """Whether no array of the example has two equal sizes."""
    shapes = [example.shape, *(leaf.shape for leaf in jax.tree.leaves(_init(example.layer, np.float32)))]
    return all(len(set(shape)) == len(shape) for shape in shapes)


@st.composite
def layers(
    draw: DrawFn,
    examples: Iterable[tuple | LayerExample] | None = None,
    dtype: DTypeLike = np.float32,
    special: bool = False,
) -> tuple[Layer, Params, np.ndarray]:
    """(layer, params, x): one of the examples, each a pair (layer, shape of x) or a `LayerExample`.

    Without examples: every layer of jaxnn, in the shapes of its `EXAMPLES` that have no two equal sizes.
    """
    if examples is None:
        candidates = list(filter(_all_different, LAYERS.values()))
    else:
        candidates = list(itertools.starmap(LayerExample, examples))
    layer, shape, _, below = draw(st.sampled_from(candidates))
    x = arrays(shape, dtype, special) if below is None else _classes(shape, below)
    return layer, draw(like(_init(layer, dtype), special)), draw(x)


@st.composite
def losses(
    draw: DrawFn,
    examples: Iterable[tuple[Loss, Shape, str]] | None = None,
    dtype: DTypeLike = np.float32,
    special: bool = False,
) -> tuple[Loss, np.ndarray, np.ndarray]:
    """(loss, z, y): one of the examples, each (loss, shape of z, kind of y), see `targets`.

    Without examples: every loss of jaxnn. A z of probabilities (the loss's `output`) is inside (0, 1), not special.
    """
    loss, shape, kind = draw(st.sampled_from(list(LOSSES.values() if examples is None else examples)))
    inside = getattr(loss, "output", "values") == "probabilities"
    z = draw(_entries(INSIDE, shape, dtype) if inside else arrays(shape, dtype, special))
    return loss, z, draw(targets(kind, shape, dtype))


@st.composite
def networks(
    draw: DrawFn,
    activations: Sequence[str] = ("tanh", "relu", "gelu"),
    examples: Iterable[tuple[Loss, Shape, str]] | None = None,
    dtype: DTypeLike = np.float32,
    special: bool = False,
) -> tuple[Chain, Loss, Params, np.ndarray, np.ndarray]:
    """(model, loss, params, x, y): a Chain of 1 to 3 Dense layers with one of the activations between them.

    m and all widths differ. examples: the losses, as `losses` takes them; their shapes do not count. Before a loss of
    probabilities stands a sigmoid. With the three activations and jaxnn's losses there are about 50 programs to
    compile, and 100 examples meet about 15 of them; name fewer of either to have fewer.
    """
    pairs = dict.fromkeys((loss, kind) for loss, _, kind in (LOSSES.values() if examples is None else examples))
    cases: list[tuple[Shape, Loss, str, str]] = []
    for sizes_of_one in NETWORKS:
        names = activations if len(sizes_of_one) > 3 else activations[:1]  # one layer has none between
        for loss, kind in pairs:
            cases += [(sizes_of_one, loss, kind, name) for name in names]
    (m, *widths), loss, kind, name = draw(st.sampled_from(cases))
    model = perceptron(widths, name, loss)
    params = draw(like(_init(model, dtype), special))
    x, y = draw(arrays((m, widths[0]), dtype, special)), draw(targets(kind, (m, widths[-1]), dtype))
    return model, loss, params, x, y
