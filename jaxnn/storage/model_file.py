"""A trained model as one safetensors file: arrays, and in its header what they mean. No pickle, nothing executed."""

import ast
import json
from pathlib import Path

import jax
from jax import numpy as jnp
from jax.tree_util import keystr, tree_leaves_with_path, tree_map_with_path
from safetensors import SafetensorError, safe_open
from safetensors.flax import save as to_bytes

import jaxnn
from jaxnn.data.scale import Scale
from jaxnn.protocols import Layer, Loss, PyTree
from jaxnn.storage import whole_file
from jaxnn.trained import Trained

FORMAT = "jaxnn model 1"


def save(path: Path, trained: Trained, settings: dict[str, PyTree]) -> None:
    """Writes a trained network, and the settings of the run that made it, to `path`, whole or not at all.

    ValueError, and no file, if `load` could not build its layers or its loss again: a rule of the user's own.
    """
    check_can_be_loaded(trained.network)
    check_can_be_loaded(trained.loss)
    arrays = {leaf_name(leaf): v for leaf, v in tree_leaves_with_path(trained.params)}
    arrays |= {"x_shift": trained.x_scale.shift, "x_unit": trained.x_scale.unit}
    if trained.y_scale is not None:
        arrays |= {"y_shift": trained.y_scale.shift, "y_unit": trained.y_scale.unit}
    names = {"features": trained.features, "classes": trained.classes, "targets": trained.targets, "settings": settings}
    header = {"format": FORMAT, "model": repr(trained.network), "loss": repr(trained.loss)}
    header |= {name: json.dumps(value, default=str) for name, value in names.items()}
    whole_file.write(Path(path), to_bytes(arrays, header))  # safetensors' own save_file makes a private file


def check_can_be_loaded(rule: Layer | Loss) -> None:
    """ValueError unless the layer or loss is what `parse` makes of its repr."""
    try:
        loaded = parse(repr(rule))
    except ValueError as error:
        raise ValueError(
            f"A {type(rule).__name__} is not saved, for it could not be loaded again: {error}. Use layers and losses "
            "of jaxnn alone, or keep the params in a file of your own."
        ) from None
    if loaded != rule:
        raise ValueError(f"{rule} is not saved: of jaxnn's own classes it would be loaded as another one, {loaded}.")


def load(path: Path) -> Trained:
    """The trained network in `path`. ValueError when there is none, or it is not one of ours."""
    if not path.is_file():
        raise ValueError(f"There is no {path}: give a folder that `jaxnn train` wrote.")
    try:
        with safe_open(path, "numpy") as file:
            header, arrays = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"Cannot read {path}, it is damaged or no safetensors file: {error}.") from None
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} is a safetensors file, but no {FORMAT}: give a folder that `jaxnn train` wrote.")
    try:
        network, loss = parse(header["model"]), parse(header["loss"])
        expected = jax.eval_shape(network.init, jax.random.key(0))
        params = tree_map_with_path(lambda path, _: jnp.asarray(arrays[leaf_name(path)]), expected)
        if jax.tree.map(jnp.shape, params) != jax.tree.map(jnp.shape, expected):
            raise ValueError(f"the parameters are not those of {network}")
        x_scale = Scale(arrays["x_shift"], arrays["x_unit"])
        y_scale = Scale(arrays["y_shift"], arrays["y_unit"]) if "y_shift" in arrays else None
        names = {name: tuple(json.loads(header[name])) for name in ("features", "classes", "targets")}
        return Trained(network=network, loss=loss, params=params, x_scale=x_scale, y_scale=y_scale, **names)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged, or of another version of jaxnn: {error}.") from None


def settings(path: Path) -> dict[str, PyTree]:
    """The settings of the run that made the file. ValueError as in `load`."""
    load(path)
    with safe_open(path, "numpy") as file:
        return json.loads(file.metadata()["settings"])


def leaf_name(path: tuple[PyTree, ...]) -> str:
    """What the file calls the leaf of the params at this path."""
    return f"params/{keystr(path, simple=True, separator='/')}"


def parse(text: str) -> PyTree:
    """The layer or loss whose repr is `text`: jaxnn's own classes and plain values, and nothing else is evaluated.

    ValueError: a text that is none.
    """

    def value(node: ast.AST) -> PyTree:
        match node:
            case ast.Call(func=ast.Name(id=name), args=[], keywords=fields):
                if name not in jaxnn.__all__ or not name[0].isupper():
                    raise ValueError(f"{name} is no layer or loss of jaxnn")
                return getattr(jaxnn, name)(**{str(field.arg): value(field.value) for field in fields})
            case ast.Tuple(elts=items):
                return tuple(value(item) for item in items)
            case _:
                return ast.literal_eval(node)

    try:
        return value(ast.parse(text, mode="eval").body)
    except (SyntaxError, TypeError, ValueError, MemoryError, RecursionError) as error:
        raise ValueError(f"cannot build {text[:200]}: {error}") from None
