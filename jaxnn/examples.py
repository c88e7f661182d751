"""Every layer, loss and op, found by scanning, with the examples in its own file; and random inputs for them."""

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn import catalogue
from jaxnn.protocols import Drawn, Layer, LayerExample, LossExample, OpExample, Params, Target, learned


def examples(room: str) -> dict:
    """{name: example} of all files of a room. ValueError: two files have an example of one name."""
    of_room: dict = {}
    for file in catalogue.names(room):
        of_file = catalogue.module(room, file).EXAMPLES
        taken = of_room.keys() & of_file.keys()
        if taken:
            raise ValueError(
                f"{file}.py in jaxnn/{room} has an example {min(taken)!r}, and so has another file: rename it."
            )
        of_room |= of_file
    return of_room


LAYERS: dict[str, LayerExample] = examples("layers")
LOSSES: dict[str, LossExample] = examples("losses")
OPS: dict[str, dict[str, OpExample]] = {
    op: catalogue.module("ops", op).EXAMPLES for op in catalogue.names("ops")
}  # of each op by its name


def draw_params(layer: Layer, rng: np.random.Generator, dtype: DTypeLike = np.float64) -> Params:
    """Every leaf random, biases too: at zero biases a rule that loses them would go unseen. Running statistics, of
    which some are variances, are positive."""
    shapes = jax.eval_shape(lambda key: layer.init(key, dtype), jax.random.key(0))

    def drawn(leaf: jax.ShapeDtypeStruct, is_learned: bool) -> Array:
        v = rng.normal(size=leaf.shape)
        return jnp.asarray(v if is_learned else abs(v), leaf.dtype)

    return jax.tree.map(drawn, shapes, learned(shapes))


def draw_x(example: LayerExample, rng: np.random.Generator, dtype: DTypeLike = np.float64) -> Array:
    """An x for the layer: normal in this dtype, or whole numbers."""
    if example.below is not None:
        return jnp.asarray(rng.integers(0, example.below, example.shape), jnp.int32)
    return jnp.asarray(rng.normal(size=example.shape), dtype)


def draw_z(example: LossExample, rng: np.random.Generator, dtype: DTypeLike = np.float64) -> Array:
    """A z for which the loss is defined."""
    inside = example.loss.output == "probabilities"
    z = rng.uniform(0.05, 0.95, example.shape) if inside else 2 * rng.normal(size=example.shape)
    return jnp.asarray(z, dtype)


def draw_y(
    target: Target, rng: np.random.Generator, shape: tuple[int, ...], dtype: DTypeLike = np.float64
) -> np.ndarray:
    """A y of this kind for outputs of this shape (…, K)."""
    if target == "labels":
        return rng.integers(0, shape[-1], shape[:-1])
    y = rng.normal(size=shape) if target == "values" else rng.uniform(size=shape)
    return np.asarray(y / y.sum(-1, keepdims=True) if target == "distributions" else y, dtype)


def draw_arguments(example: OpExample, rng: np.random.Generator, dtype: DTypeLike = np.float64) -> OpExample:
    """The arguments of an example of an op, real numbers normal in this dtype."""
    return {name: draw(v, rng, dtype) if isinstance(v, Drawn) else v for name, v in example.items()}


def draw(drawn: Drawn, rng: np.random.Generator, dtype: DTypeLike) -> Array:
    """One of its arrays."""
    match drawn.entries:
        case "whole":
            return jnp.asarray(rng.integers(0, drawn.below, drawn.shape), jnp.int32)
        case "bool":
            return jnp.asarray(rng.integers(0, 2, drawn.shape), bool)
        case "distribution":
            return jnp.asarray(draw_y("distributions", rng, drawn.shape), dtype)
        case "zero":
            return jnp.zeros(drawn.shape, dtype)
        case "key":
            return jax.random.key(rng.integers(2**31))
        case _:
            return jnp.asarray(rng.normal(size=drawn.shape), dtype)
