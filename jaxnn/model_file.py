"""A trained model as one safetensors file: arrays, and in its header what they mean. No pickle, nothing executed."""

import ast
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp
from jax.tree_util import keystr, tree_flatten_with_path
from safetensors import SafetensorError, safe_open
from safetensors.flax import save_file

import jaxnn
from jaxnn.data import Scale
from jaxnn.layer import Layer, Loss

FORMAT = "jaxnn model 1"


class Model(NamedTuple):
    """A trained network with what its data need: how inputs and values are scaled, and what things are called."""

    model: Layer
    loss: Loss
    params: Any
    x_scale: Scale  # of the flattened inputs
    y_scale: Scale | None  # of the values; None for classes
    features: tuple[str, ...]
    classes: tuple[str, ...]
    targets: tuple[str, ...]

    def predict(self, x):
        """y_hat (m, K) for raw rows x (m, …): probabilities of classes, or values in their own units."""
        dtype = jax.tree.leaves(self.params)[0].dtype
        z = self.model.apply(self.params, jnp.asarray(self.x_scale(np.reshape(x, (len(x), -1))), dtype))
        y_hat = np.asarray(self.loss.predict(z))
        return y_hat if self.y_scale is None else self.y_scale.back(y_hat)


def save(path, model, settings):
    """Writes a Model, and the settings (a dict of JSON values) of the run that made it, to `path`, whole or not at all."""
    paths, _ = tree_flatten_with_path(model.params)
    arrays = {f"params/{keystr(p, simple=True, separator='/')}": v for p, v in paths}
    arrays |= {"x_shift": model.x_scale.shift, "x_unit": model.x_scale.unit}
    if model.y_scale is not None:
        arrays |= {"y_shift": model.y_scale.shift, "y_unit": model.y_scale.unit}
    names = {"features": model.features, "classes": model.classes, "targets": model.targets, "settings": settings}
    header = {"format": FORMAT, "model": repr(model.model), "loss": repr(model.loss)}
    header |= {name: json.dumps(value) for name, value in names.items()}
    partial = Path(f"{path}.partial")
    save_file(arrays, partial, header)
    os.replace(partial, path)


def load(path):
    """The Model in `path`. ValueError when there is none, or it is not one of ours."""
    try:
        with safe_open(path, "numpy") as file:
            header, arrays = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"Cannot read a model from {path}: {error}.") from None
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} is a safetensors file, but not a jaxnn model.")
    model, loss = parse(header["model"]), parse(header["loss"])
    paths, tree = tree_flatten_with_path(jax.eval_shape(model.init, jax.random.key(0)))
    params = tree.unflatten([jnp.asarray(arrays[f"params/{keystr(p, simple=True, separator='/')}"]) for p, _ in paths])
    y_scale = Scale(arrays["y_shift"], arrays["y_unit"]) if "y_shift" in arrays else None
    names = (tuple(json.loads(header[name])) for name in ("features", "classes", "targets"))
    return Model(model, loss, params, Scale(arrays["x_shift"], arrays["x_unit"]), y_scale, *names)


def parse(text):
    """The layer or loss whose repr is `text`: jaxnn's own classes and plain values, and nothing else is evaluated."""

    def value(node):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[], keywords=fields) if (
                name in jaxnn.__all__ and name[0].isupper()
            ):
                return getattr(jaxnn, name)(**{field.arg: value(field.value) for field in fields})
            case ast.Tuple(elts=items):
                return tuple(value(item) for item in items)
            case _:
                return ast.literal_eval(node)

    try:
        return value(ast.parse(text, mode="eval").body)
    except (SyntaxError, TypeError, ValueError) as error:
        raise ValueError(
            f"The model file describes a network that this version cannot build, {text}: {error}"
        ) from None
