"""Every layer and loss, found by scanning, with the examples in its own file: cases are discovered, never enlisted."""

import importlib
import pkgutil

import jax
import numpy as np
from jax import numpy as jnp

import jaxnn.layers
import jaxnn.losses


def modules(package):
    return [importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__)]


LAYERS = {name: example for m in modules(jaxnn.layers) for name, example in m.EXAMPLES.items()}
LOSSES = {name: example for m in modules(jaxnn.losses) for name, example in m.EXAMPLES.items()}


def draw_params(layer, rng, dtype=np.float64):
    """Every leaf random, biases too: at zero biases a rule that loses them would go unseen."""
    shapes = jax.eval_shape(lambda key: layer.init(key, dtype), jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), shapes)


def draw_target(kind, rng, shape):
    if kind == "labels":
        return rng.integers(0, shape[-1], shape[:-1])
    y = rng.uniform(size=shape)
    return {
        "values": lambda: rng.normal(size=shape),
        "probabilities": lambda: y,
        "distributions": lambda: y / y.sum(-1, keepdims=True),
    }[kind]()


def draw_output(loss, rng, shape):
    """z where the loss is defined: probabilities for the one that takes them."""
    return rng.uniform(0.05, 0.95, shape) if type(loss).__name__ == "BinaryCrossEntropy" else 2 * rng.normal(size=shape)
