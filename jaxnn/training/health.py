"""What goes on inside a network while it trains, layer by layer: vanishing gradients, dead and saturated units, and
where a number first stopped being finite. A Chain has its layers, any other model is one layer."""

import jax
import optax
from jax import numpy as jnp
from jax.tree_util import keystr, tree_leaves_with_path

from jaxnn.layers.activation import Activation
from jaxnn.layers.chain import Chain

FLAT = 0.05  # a unit whose slope stays under this share of the largest is saturated


def layers(model):
    return model.layers if isinstance(model, Chain) else (model,)


def by_layer(model, tree):
    """A tree of the model's params or residuals, as one entry a layer."""
    return tree if isinstance(model, Chain) else (tree,)


def gradient_norms(model, grads):
    """(layers,): ‖∂J/∂params‖₂ of each layer, NaN where there are no params."""
    norms = [optax.tree.norm(dv) if jax.tree.leaves(dv) else jnp.nan for dv in by_layer(model, grads)]
    return jnp.stack([jnp.asarray(norm, jnp.float32) for norm in norms])


def slopes(model, residuals):
    """One entry a layer: the largest g′ over the examples of each unit that can die or saturate, None for others."""

    def largest(layer, r):
        if isinstance(layer, Activation) and (layer.rule.dies or layer.rule.steepest):
            return layer.rule.dg(r).reshape(-1, r.shape[-1]).max(0)
        return None

    return [largest(layer, r) for layer, r in zip(layers(model), by_layer(model, residuals), strict=True)]


def dead(model, slopes):
    """(layers,): share of units whose slope was 0 for every example, NaN for layers whose units cannot die."""

    def share(layer, slope):
        return (slope == 0).mean(dtype=jnp.float32) if slope is not None and layer.rule.dies else jnp.float32(jnp.nan)

    return jnp.stack([share(layer, slope) for layer, slope in zip(layers(model), slopes, strict=True)])


def saturated(model, slopes):
    """(layers,): share of units that were flat for every example, NaN for layers whose units cannot saturate."""

    def share(layer, slope):
        if slope is None or not layer.rule.steepest:
            return jnp.float32(jnp.nan)
        return (slope < FLAT * layer.rule.steepest).mean(dtype=jnp.float32)

    return jnp.stack([share(layer, slope) for layer, slope in zip(layers(model), slopes, strict=True)])


def is_finite(tree):
    return jnp.stack([jnp.isfinite(v).all() for v in jax.tree.leaves(tree)]).all()


def first_not_finite(model, params, x):
    """A phrase that names the first layer whose parameters or output for x are not finite."""
    for i, (layer, p) in enumerate(zip(layers(model), by_layer(model, params), strict=True)):
        for path, v in tree_leaves_with_path(p):
            if not is_finite(v):
                return f"{keystr(path, simple=True)} of layer {i}, {layer}"
        x = layer.apply(p, x)
        if not is_finite(x):
            return f"the output of layer {i}, {layer}"
    return "the cost"
