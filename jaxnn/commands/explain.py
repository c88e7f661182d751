"""What `jaxnn explain` does."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from jaxnn import data
from jaxnn.commands.config import Explain, Train
from jaxnn.commands.own_file import imported, in_users_words, own_functions
from jaxnn.experiment import network, parts_of, scaled
from jaxnn.explanation.function import descend_gradient
from jaxnn.explanation.network import descend
from jaxnn.explanation.page import page
from jaxnn.penalty import L2
from jaxnn.storage import model_file, text_file
from jaxnn.training.prepare import drawn
from jaxnn.verify import FAIL, INCONCLUSIVE, PASS

OF_A_NEW_NETWORK = ("hidden", "activation", "initializer", "loss", "l2")


def explain(config):
    for wanted in filter(None, (config.latex, config.html)):
        text_file.write(wanted, None)  # better now than after the work
    is_file, is_run = Path(config.what).suffix == ".py", Path(config.what).is_dir() and config.what not in data.SETS
    for name in (*OF_A_NEW_NETWORK, *("seed",) * is_run, *("examples", "notation") * is_file):
        if (is_run or is_file) and getattr(config, name) != getattr(Explain, name):
            raise ValueError(f"--{name} is of a new network, and {config.what} has its own: leave it out.")
    if is_file:
        return functions(config, Path(config.what))
    file = Path(config.what) / "model.safetensors" if is_run else None
    its = settings(config, file)
    with jax.enable_x64(its.dtype == "float64"):
        return shown(config, its, model_file.load(file) if file else None)


def shown(config, its, trained):
    table = data.load(its.data)
    model, loss, y = network(its, table)
    rows = parts_of(table, its.seed, hold_out=its.patience is not None)[0]["train"]
    width = table.x[0].size
    if trained and len(trained.x_scale.shift) != width:
        raise ValueError(f"{its.data} has {width} inputs now, the run was trained on {len(trained.x_scale.shift)}.")
    if trained:
        model, loss, params, x_scale, y_scale = trained[:5]
        x, y = x_scale(table.x.reshape(-1, width)), y_scale(y) if y_scale else y
    else:
        params = drawn(model, jax.random.split(jax.random.key(its.seed))[0], "float32")  # as `jaxnn train` starts
        x, y, *_ = scaled(table, y, rows)
    some = rows[: config.examples]
    x, y = x[some], y[some]
    dtype = jax.tree.leaves(params)[0].dtype
    y = y if jnp.issubdtype(y.dtype, jnp.integer) else np.asarray(y, dtype)
    print(f"{len(some)} examples of {table.name}; {model}; {loss}\n")
    penalty = L2(its.l2) if its.l2 else None
    flags = {"penalty": penalty, "notation": config.notation, "learning_rate": config.learning_rate}
    iterations = descend(model, loss, params, x, y, **flags)
    return written(config, iterations, f"{table.name}: {len(some)} examples")


def functions(config, path):
    """Those of a file of `jaxnn verify`."""
    with in_users_words(path), imported(path) as module:
        *its, args = own_functions(path, module, config.seed)
        iterations = descend_gradient(*its, *args, learning_rate=config.learning_rate)
        return written(config, iterations, path.name)


def written(config, iterations, title):
    explanation = next(iterations)
    print(explanation)
    if config.latex:
        text_file.write(config.latex, explanation.to_latex())
    if config.html:
        later = itertools.islice(iterations, config.iterations - 1)
        text_file.write(config.html, page([explanation, *later], title))
    for file in filter(None, (config.latex, config.html)):
        print(f"Written to {file}.")
    return {PASS: 0, FAIL: 1, INCONCLUSIVE: 3}[explanation.report.verdict]


def settings(config, file):
    """Those of `jaxnn train` that made a run, or that would make the network."""
    names = {field.name for field in dataclasses.fields(Train)}
    its: dict[str, Any] = model_file.settings(file) if file else {**vars(config), "data": config.what}
    known: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in its.items() if name in names}
    return Train(**known)
