"""What goes on inside a network while it trains, layer by layer: vanishing gradients, dead and saturated units, and
where a number first stopped being finite. The layers are the leaves of the tree of layers, `protocols.leaf_layers`."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import optax
from jax import Array
from jax import numpy as jnp
from jax.tree_util import keystr, tree_leaves_with_path

from jaxnn.layers.activation import Activation
from jaxnn.layers.repeat import Repeat
from jaxnn.protocols import Layer, Params, PyTree, Residuals, leaf_layers, parts_of

FLAT = 0.05  # a unit whose slope stays under this share of the largest is saturated


def nested(f: Callable[..., PyTree], layer: Layer, params: Params, residuals: Residuals | None) -> PyTree:
    """f(leaf layer, its params, its residuals) of every leaf layer, in lists nested as the layers are; with a leading
    axis for those of a Repeat, which are traced once."""
    parts = parts_of(layer, params, residuals)
    if not parts:
        return f(layer, params, residuals)
    return [for_all(part.times, partial(nested, f, part.layer))(part.params, part.residuals) for part in parts]


def columns(f: Callable[..., Array], layer: Layer, params: Params, values: PyTree) -> Array:
    """(leaf layers, k): f(leaf layer, its params, its value), of shape (k,), with a value a layer, `nested`."""
    parts = parts_of(layer, params)
    if not parts:
        return f(layer, params, values)[None]
    rows = []
    for part, value in zip(parts, values, strict=True):
        row = for_all(part.times, partial(columns, f, part.layer))(part.params, value)
        rows.append(row.reshape(-1, row.shape[-1]))
    return jnp.concatenate(rows)


def for_all(n: int | None, f: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """f for n layers at once, along a leading axis; f itself for None."""
    return f if n is None else jax.vmap(f, axis_size=n)


def slopes(model: Layer, params: Params, residuals: Residuals) -> PyTree:
    """The largest g′ over the examples of each unit that can die or saturate, None for other layers; nested."""

    def largest(layer: Layer, params: Params, r: Residuals | None) -> Array | None:
        if r is not None and isinstance(layer, Activation) and (layer.rule.dies or layer.rule.steepest):
            return layer.rule.dg(r).reshape(-1, r.shape[-1]).max(0)
        return None

    return nested(largest, model, params, residuals)


def of_layers(model: Layer, grads: Params, slopes: PyTree) -> Array:
    """(3, leaf layers): `gradient_norm`, `dead` and `saturated` of each."""

    def of_one(layer: Layer, dparams: Params, slope: Array | None) -> Array:
        return jnp.stack([gradient_norm(dparams), dead(layer, slope), saturated(layer, slope)])

    return columns(of_one, model, grads, slopes).T


def gradient_norm(dparams: Params) -> Array:
    """‖∂J/∂params‖₂, NaN where there are no params."""
    return jnp.asarray(optax.tree.norm(dparams) if jax.tree.leaves(dparams) else jnp.nan, jnp.float32)


def dead(layer: PyTree, slope: Array | None) -> Array:
    """Share of units whose slope was 0 for every example, NaN for a layer whose units cannot die."""
    return (slope == 0).mean(dtype=jnp.float32) if slope is not None and layer.rule.dies else jnp.float32(jnp.nan)


def saturated(layer: PyTree, slope: Array | None) -> Array:
    """Share of units that were flat for every example, NaN for a layer whose units cannot saturate."""
    if slope is None or not layer.rule.steepest:
        return jnp.float32(jnp.nan)
    return (slope < FLAT * layer.rule.steepest).mean(dtype=jnp.float32)


def is_finite(tree: PyTree) -> Array:
    return jnp.stack([jnp.isfinite(v).all() for v in jax.tree.leaves(tree)]).all()


@dataclasses.dataclass(frozen=True)
class Watched:
    """A layer that saves whether its output is finite, and nothing else."""

    layer: Layer

    def __str__(self) -> str:
        return str(self.layer)

    def forward(self, params: Params, x: Array, key: Array | None = None) -> tuple[Array, Array]:
        out, _ = self.layer.forward(params, x, key)
        return out, is_finite(out)


def watched(model: PyTree) -> PyTree:
    """The model with each leaf layer `Watched`: in its fields, if it has parts and layers in its fields."""
    if isinstance(model, tuple):
        return tuple(map(watched, model))
    if not hasattr(model, "forward"):
        return model  # some other field
    if not hasattr(model, "parts"):
        return Watched(model)
    fields = {field.name: watched(getattr(model, field.name)) for field in dataclasses.fields(model)}
    if isinstance(model, Repeat):
        fields["recompute"] = False  # it would not save what its layers save
    new = dataclasses.replace(model, **fields)
    return Watched(model) if new == model else new


@partial(jax.jit, static_argnums=0)
def finite_outputs(model: Layer, params: Params, x: Array, key: Array | None) -> Array:
    """(leaf layers,): whether the output of each is finite; of a `watched` model."""
    _, residuals = model.forward(params, x, key)
    finite = nested(lambda layer, params, finite: finite, model, params, residuals)
    return columns(lambda layer, params, finite: finite[None], model, params, finite)[:, 0]


def first_not_finite(model: Layer, params: Params, x: Array, key: Array | None) -> str:
    """A phrase that names the first leaf layer whose parameters or output for x and this key are not finite."""
    model = watched(model)
    finite = finite_outputs(model, params, x, key)
    for leaf, output_is_finite in zip(leaf_layers(model, params), finite, strict=True):
        name = f"layer {leaf.name}, {leaf.layer}"
        for path, v in tree_leaves_with_path(leaf.params):
            if not is_finite(v):
                return f"{keystr(path, simple=True)} of {name}"
        if not output_is_finite:
            return f"the output of {name}"
    return "the cost"
