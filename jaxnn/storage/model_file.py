"""A trained model as one safetensors file: arrays, and in its header what they mean. No pickle, nothing executed."""

import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxnn.data.labels import readable
from jaxnn.data.scale import Scale
from jaxnn.protocols import Layer, Loss, Params, PyTree
from jaxnn.storage import tree_file
from jaxnn.storage.rule_text import parse
from jaxnn.storage.tree_file import Content
from jaxnn.trained import Trained, predicted

FORMAT = "jaxnn model 2"
WITHOUT_CHECKSUM = "jaxnn model 1"  # the format before
OF_LANGUAGE = "jaxnn language model 1"  # see `language_file`
DTYPES = ("float32", "float64", "bfloat16")  # of params
REAL = {np.dtype("float32"), np.dtype("float64")}  # of scales
NAMES = ("features", "classes", "targets")
LONGEST_SETTINGS = 2**16  # characters
ALWAYS = 1000  # a whole number in the layers' text may be so large, whatever the arrays are
GIVE = "give a folder that `jaxnn train` wrote."


class Saved(NamedTuple):
    """A trained network, the settings of the run that made it, and a sentence on its file, "" when all is well."""

    trained: Trained
    settings: dict[str, PyTree]
    remark: str


def save(path: Path, trained: Trained, settings: Mapping[str, PyTree]) -> None:
    """Writes a trained network, and the settings of the run that made it, to `path`, whole or not at all.

    ValueError, and no file, as in `content_of`.
    """
    trees, texts = content_of(trained, settings)
    tree_file.write(path, trees, texts)


def content_of(trained: Trained, settings: Mapping[str, PyTree]) -> tuple[dict[str, PyTree], dict[str, str]]:
    """The trees and texts of its file. ValueError: `load` would not give the same again, for a rule is the user's own,
    parts do not fit each other, or a network has more layers than are read."""
    trees = {"params": trained.params, "x_shift": trained.x_scale.shift, "x_unit": trained.x_scale.unit}
    if trained.y_scale is not None:
        trees |= {"y_shift": trained.y_scale.shift, "y_unit": trained.y_scale.unit}
    texts = {"format": FORMAT, "model": repr(trained.network), "loss": repr(trained.loss)}
    texts |= {name: json.dumps(getattr(trained, name)) for name in NAMES}
    texts |= {"settings": json.dumps(dict(settings), default=str)}
    try:
        loaded = trained_of(tree_file.content_of(trees, texts))
        settings_of(texts["settings"])
    except ValueError as error:
        raise ValueError(
            f"The model is not written, for it could not be loaded again: {error}. Use layers and losses of jaxnn "
            "alone, or keep the params in a file of your own."
        ) from None
    for rule, again in ((trained.network, loaded.network), (trained.loss, loaded.loss)):
        if again != rule:
            raise ValueError(f"{rule} is not saved: of jaxnn's own classes it would be loaded as another one, {again}.")
    return trees, texts


def load(path: Path) -> Trained:
    """The trained network in `path`. ValueError when there is none, or it is not one of ours."""
    return read(path).trained


def settings(path: Path) -> dict[str, PyTree]:
    """The settings of the run that made the file. ValueError as in `load`."""
    return read(path).settings


def read(path: Path) -> Saved:
    """All that is in `path`. ValueError as in `load`."""
    if not os.path.exists(path):
        raise ValueError(f"There is no {path}: {GIVE}")
    content = tree_file.read(path)
    version = content.texts.get("format")
    if version == OF_LANGUAGE:
        raise ValueError(f"{path} is a language model, which goes on with a text: use jaxnn sample.")
    if version not in (FORMAT, WITHOUT_CHECKSUM):
        raise ValueError(f"{path} is a safetensors file, but no {FORMAT}, nor of the format before: {GIVE}")
    if version == FORMAT and not content.is_checked:
        raise ValueError(f"{path} is damaged: it has no checksum, which every {FORMAT} has.")
    try:
        trained, of_run = trained_of(content), settings_of(content.texts.get("settings", ""))
    except ValueError as error:
        raise ValueError(f"{path} is damaged, or of another version of jaxnn: {readable(str(error))}.") from None
    remark = f"{path} is a {version}, which has no checksum: nothing would show a number that was altered since."
    return Saved(trained, of_run, "" if content.is_checked else remark)


def trained_of(content: Content) -> Trained:
    """The trained network of this content. ValueError: it is none, or its parts do not fit each other."""
    missing = [name for name in ("model", "loss", *NAMES) if name not in content.texts]
    if missing:
        raise ValueError(f"its header does not say its {missing[0]}")
    names = {name: names_of(name, content.texts[name]) for name in NAMES}
    scales = ("x", "y") if names["targets"] else ("x",)
    check_arrays(content, {"params", *(f"{v}_{part}" for v in scales for part in Scale._fields)})
    largest = max(ALWAYS, *(v.size for v in content.arrays.values()))
    network, loss = parse(content.texts["model"], Layer, largest), parse(content.texts["loss"], Loss)
    x_scale, y_scale = scale_of(content, "x"), scale_of(content, "y") if names["targets"] else None
    trained = Trained(network, loss, params_of(content, network), x_scale, y_scale, **names)
    check_counts(trained)
    return trained


def check_arrays(content: Content, expected: set[str]) -> None:
    """ValueError: the trees are not these, or one of their arrays is empty or not finite."""
    there = {name.split("/")[0] for name in content.arrays}
    if there != expected:
        raise ValueError(f"its arrays are those of {', '.join(sorted(there))}, not of {', '.join(sorted(expected))}")
    for name, v in content.arrays.items():
        if not v.size or not np.isfinite(v).all():
            raise ValueError(f"{name} has no entries, or some that are not finite")


def names_of(what: str, text: str) -> tuple[str, ...]:
    """Those of a JSON list. ValueError: another text."""
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"its {what} are no list of names: {readable(text)}")
    return tuple(names)


def settings_of(text: str) -> dict[str, PyTree]:
    """Those of a JSON object: plain values, or lists of them. ValueError: another text."""
    try:
        given = json.loads(text) if len(text) <= LONGEST_SETTINGS else None
    except (ValueError, RecursionError):
        given = None
    plain = (str, int, float, type(None))
    if not isinstance(given, dict):
        raise ValueError(f"its settings are no list of names and values: {readable(text)}")
    for name, v in given.items():
        if not all(isinstance(item, plain) for item in (v if isinstance(v, list) else [v])):
            raise ValueError(f"its setting {readable(name)} is no plain value")
    return given


def params_of(content: Content, network: Layer) -> Params:
    """Those that the network would begin with, with other numbers. ValueError: others, or of several dtypes."""
    dtype, *others = {str(v.dtype) for name, v in content.arrays.items() if name.split("/")[0] == "params"}
    if others or dtype not in DTYPES:
        raise ValueError(
            f"its parameters are of {', '.join((dtype, *others))}: all must be of one of {', '.join(DTYPES)}"
        )
    with jax.enable_x64(True):
        like = jax.eval_shape(lambda: network.init(jax.random.key(0), dtype))
    return content.tree("params", like)


def scale_of(content: Content, which: str) -> Scale:
    """That of x or y. ValueError: one that scales no columns."""
    shift, unit = (content.arrays[f"{which}_{part}"] for part in Scale._fields)
    if not (shift.ndim == 1 and shift.shape == unit.shape and {shift.dtype, unit.dtype} <= REAL and (unit > 0).all()):
        raise ValueError(f"{which}_shift and {which}_unit must be real numbers (n,), and all units above 0")
    return Scale(shift, unit)


def check_counts(trained: Trained) -> None:
    """ValueError: names, scales, the loss, and the network's inputs and outputs are not as many as each other."""
    n, features, classes, targets = len(trained.x_scale.shift), trained.features, trained.classes, trained.targets
    takes = trained.loss.takes
    if features and len(features) != n:
        raise ValueError(f"it has {len(features)} features, and scales {n}")
    if bool(classes) == bool(targets) or (targets and takes != "values"):
        raise ValueError(f"it must have either classes or targets, as its loss, which takes {takes}, wants them")
    if trained.y_scale and len(trained.y_scale.shift) != len(targets):
        raise ValueError(f"it has {len(targets)} targets, and scales {len(trained.y_scale.shift)}")
    K = 1 if len(classes) == 2 and takes != "labels" else len(classes or targets)
    dtype = jax.tree.leaves(trained.params)[0].dtype
    try:
        row = jax.ShapeDtypeStruct((1, n), dtype)
        y_hat = jax.eval_shape(partial(predicted, trained.network, trained.loss), trained.params, row)
    except (TypeError, ValueError) as error:
        raise ValueError(f"its network does not take {n} real numbers a row: {error}") from None
    shapes = [v.shape for v in jax.tree.leaves(y_hat)]
    if shapes != [(1, K)]:
        raise ValueError(f"a row of {n} numbers gives {shapes} outputs, not (1, {K})")
