"""What a layer, a loss, a penalty and an activation are: structural types, nothing to inherit from; which leaves of the
params are learned; and of which layers a layer is made.

A layer, a loss and a penalty are frozen dataclasses of static configuration (str, int, float, bool, tuples, layers)
with pure methods. Each hashes and compares by value, so it can be a static argument of `jax.jit`, and its repr says all
that it is.
"""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import jax
from jax import Array
from jax import numpy as jnp
from jax.typing import DTypeLike

PyTree = Any  # what `jax.tree` takes for a tree; everywhere else this alias stands for Any
Params = PyTree  # of arrays: a NamedTuple, () when there is nothing to learn
Residuals = PyTree  # of arrays


class Layer(Protocol):
    """out = f(params, x), and by hand the vector-Jacobian product of that very f.

    x and out are arrays, or tuples of arrays where a layer takes or gives several; dout and dx then are such tuples.
    A parameter that the loss needs, such as the matrix of a `Factored`, is given out by the layer that holds it.
    """

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> Params: ...

    def forward(self, params: Params, x: PyTree, key: Array | None = None) -> tuple[PyTree, Residuals]:
        """Training: the output, and what `backward` needs. A layer that draws (dropout) draws from `key`."""
        ...

    def backward(self, residuals: Residuals, dout: PyTree) -> tuple[Params, PyTree]:
        """(∂J/∂params, ∂J/∂x) from dout = ∂J/∂out: the types of `params` and `x`, None for an integer x."""
        ...

    def apply(self, params: Params, x: PyTree) -> PyTree:
        """Prediction: `forward(params, x)[0]` unless the layer says otherwise."""
        ...


class ThriftyLayer(Layer, Protocol):
    """A layer whose output costs little to make again, such as LayerNorm or an activation: a `Chain` does not keep it
    for the layer directly behind, if that is no chain with such layers itself."""

    def again(self, residuals: Residuals) -> Array:
        """out, from what `forward` saved."""
        ...


class Statistics(NamedTuple):
    """Running statistics, somewhere in the params: moved after each step of training, never learned.

    A `backward` gives 0 for them, in a Statistics of its own. `fit` keeps them in float32 at least, whatever it
    computes in: a layer casts them to the dtype of x where it uses them.
    """

    values: PyTree


class MovingLayer(Layer, Protocol):
    """A layer with `Statistics` in its params, or a composite of layers that may have some."""

    def moved(self, params: Params, residuals: Residuals) -> Params:
        """The params with their statistics moved, by what `forward` saved; training calls it after each step."""
        ...


def learned(params: Params) -> PyTree:
    """Which leaves are learned: a tree of bools like params, False for the leaves inside a `Statistics`."""

    def is_statistics(node: PyTree) -> bool:
        return isinstance(node, Statistics)

    def of_node(node: PyTree) -> PyTree:
        return jax.tree.map(lambda _: not is_statistics(node), node)

    return jax.tree.map(of_node, params, is_leaf=is_statistics)


def without_statistics(params: Params) -> Params:
    """The same tree with None, which is no leaf, in the place of what is not learned."""
    return jax.tree.map(lambda is_learned, v: v if is_learned else None, learned(params), params)


def moved(layer: Layer, params: Params, residuals: Residuals) -> Params:
    """`layer.moved(params, residuals)`; the params themselves if no leaf is one of statistics.

    TypeError: a layer with statistics in its params and no method `moved`, which would never move them."""
    if all(jax.tree.leaves(learned(params))):
        return params
    if not hasattr(layer, "moved"):
        raise TypeError(
            f"{type(layer).__name__} has running statistics in its params, and no method moved(params, residuals): "
            "give it one, which moves them or, in a layer made of layers, passes them on."
        )
    return layer.moved(params, residuals)


class Part(NamedTuple):
    """A layer in a composite, with its share of the composite's params and residuals.

    name: within the composite. residuals: None if they are not asked for, or were not saved. times: the n of n equal
    layers whose params and residuals are stacked along a leading axis, and whose names are 0 … n − 1; None for one.
    """

    name: str
    layer: Layer
    params: Params
    residuals: Residuals | None = None
    times: int | None = None


class Composite(Layer, Protocol):
    """A layer made of layers, of which `health` can see each: those without `parts` are one layer to it."""

    def parts(self, params: Params, residuals: Residuals | None) -> tuple[Part, ...]:
        """In the order of the forward pass. params: or any tree like them, such as the gradients."""
        ...


def parts_of(layer: Layer, params: Params, residuals: Residuals | None = None) -> tuple[Part, ...]:
    """`layer.parts(params, residuals)`, () for a leaf of the tree of layers."""
    return layer.parts(params, residuals) if hasattr(layer, "parts") else ()


def leaf_layers(layer: Layer, params: Params, path: tuple[str, ...] = ()) -> Iterator[Part]:
    """The leaves of the tree of layers, each of a repeated one by itself, named by their path: "0", "2/1"."""
    parts = parts_of(layer, params)
    if not parts:
        yield Part("/".join(path) or "0", layer, params)
    for part in parts:
        if part.times is None:
            yield from leaf_layers(part.layer, part.params, (*path, part.name))
        else:
            for i in range(part.times):
                yield from leaf_layers(part.layer, jax.tree.map(lambda v, i=i: v[i], part.params), (*path, str(i)))


class LayerExample(NamedTuple):
    """A layer and an x for it: what tests, the verifier and strategies draw.

    shape: of x. inner: how many of its last axes are one example, the others are examples: 1 for vectors (…, n), 2 for
    sequences (…, T, n), 3 for images (…, height, width, channels), 0 for single numbers. below: x is whole numbers
    from 0 to below − 1; real numbers if None.
    """

    layer: Layer
    shape: tuple[int, ...]
    inner: int = 1
    below: int | None = None


# What y is, for an output z (…, K):
# values           any numbers (…, K)
# probabilities    numbers 0 … 1 (…, K)
# distributions    the same, with a sum of 1 over the K classes
# labels           whole numbers 0 … K − 1 (…), the classes themselves
Target = Literal["values", "probabilities", "distributions", "labels"]
Output = Literal["values", "probabilities"]


class LossFormulas(NamedTuple):
    """A loss as people write it: ŷ in {z}; L, of one output of one example, in ŷ and y, without {z}; and ∂J/∂z in ŷ, y
    and {z}."""

    y_hat: str
    L: str
    dz: str


class LossPair(Protocol):
    """J = Σ wᵢLᵢ / Σ wᵢ over all examples, and by hand ∂J/∂z; z is what the model gives out, y an array."""

    def forward(self, z: PyTree, y: Array, w: Array | None = None) -> tuple[Array, Residuals]: ...

    def backward(self, residuals: Residuals) -> PyTree: ...


class Loss(LossPair, Protocol):
    """The pair, and how it is used: on which outputs and targets, and what they predict."""

    metric: ClassVar[str]  # the name in `metrics.METRICS` of the number that is reported beside J
    output: ClassVar[Output]  # what z is: any values, or probabilities, after a last layer such as a sigmoid
    takes: ClassVar[Target]  # what the command gives it for y

    @property
    def formulas(self) -> LossFormulas | None:
        """How it is written; None if it is written as its code has it."""
        ...

    def predict(self, z: PyTree) -> Array:
        """y_hat: what the output z says of y, on y's own scale (a probability, a value)."""
        ...


class LossExample(NamedTuple):
    """A loss, the shape (…, K) of a z for it, and the kind of y: what it takes, or another that it is defined for."""

    loss: Loss
    shape: tuple[int, ...]
    target: Target


class Drawn(NamedTuple):
    """An array of an example of an op, by what its entries are: real numbers, whole numbers 0 … below − 1, bools,
    numbers from 0 to 1 with a sum of 1 over the last axis, or 0; or, of the shape (), a key to draw from."""

    shape: tuple[int, ...]
    entries: Literal["real", "whole", "bool", "distribution", "zero", "key"] = "real"
    below: int = 0


OpExample = dict[str, Any]  # the arguments of an op by their names: arrays as Drawn, settings as they are


def real(*shape: int) -> Drawn:
    return Drawn(shape)


def whole(*shape: int, below: int) -> Drawn:
    return Drawn(shape, "whole", below)


def bools(*shape: int) -> Drawn:
    return Drawn(shape, "bool")


def distribution(*shape: int) -> Drawn:
    return Drawn(shape, "distribution")


def zeros(*shape: int) -> Drawn:
    return Drawn(shape, "zero")


def key() -> Drawn:
    return Drawn((), "key")


class Penalty(Protocol):
    """R(params), a term added to J, and by hand ∂R/∂params."""

    def forward(self, params: Params) -> tuple[Array, Residuals]: ...

    def backward(self, residuals: Residuals) -> Params: ...


class Elementwise(NamedTuple):
    """An activation: a = g(z) entry by entry, and g′, written in z or in a, whichever is simpler; that alone is saved.

    of: which of z and a g′ is written in. formula, derivative: g and g′ as people write them, in {z}, {a} and {slope}.
    What is understood: the functions of NumPy by their names, and σ Φ φ √ π ½ ² ³ for what they stand for; max and min
    of two; ⊙ or a blank between two factors; [v > 0] for 1 where it is so, else 0; one `v if … else w`.
    slope: a number that g and g′ take too, as it is when none is given. kinks: the z at which g′ jumps. steepest: the
    largest g′, if g is flat at both ends, where a unit can saturate. dies: g′ is 0 below some number, and not flat
    above, so that a unit can stay there for ever.
    """

    g: Callable[..., Array]
    dg: Callable[..., Array]
    of: Literal["z", "a"]
    formula: str
    derivative: str
    slope: float | None = None
    kinks: tuple[float, ...] = ()
    steepest: float | None = None
    dies: bool = False
