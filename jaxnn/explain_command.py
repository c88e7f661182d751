"""What `jaxnn explain` does."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import jax
from jax import numpy as jnp

from jaxnn import commands, data, model_file, text_file
from jaxnn.chain_rule import descend
from jaxnn.config import Train
from jaxnn.explain_page import page


def explain(config):
    for wanted in filter(None, (config.latex, config.html)):
        text_file.write(wanted, None)  # better now than after the work
    file = Path(config.what) / "model.safetensors"
    trained = model_file.load(file) if Path(config.what).is_dir() else None
    its = settings(config, file if trained else None)
    table = data.load(its.data)
    model, loss, y = commands.network(its, table)
    rows = commands.parts_of(table, its)[0]["train"]
    flat = table.x.reshape(len(table.x), -1)
    if trained:
        model, loss, params, x_scale, y_scale = trained[:5]
    else:
        params = model.init(jax.random.key(its.seed))
        x_scale = (data.standardise if table.features else data.brighten)(flat[rows])
        y_scale = None if table.classes else data.standardise(y[rows])
    some = rows[: config.examples]
    x, y = x_scale(flat[some]), y_scale(y[some]) if y_scale else y[some]
    dtype = jax.tree.leaves(params)[0].dtype
    y = y if jnp.issubdtype(y.dtype, jnp.integer) else jnp.asarray(y, dtype)
    print(f"{len(some)} examples of {table.name}; {model}; {loss}\n")
    its = descend(model, loss, params, x, y, notation=config.notation, learning_rate=config.learning_rate)
    explanation = next(its)
    print(explanation)
    if config.latex:
        text_file.write(config.latex, explanation.to_latex())
    if config.html:
        later = itertools.islice(its, config.iterations - 1)
        text_file.write(config.html, page([explanation, *later], f"{table.name}: {len(some)} examples"))
    for file in filter(None, (config.latex, config.html)):
        print(f"Written to {file}.")
    return 0 if explanation.report.ok else 1


def settings(config, file):
    """Those of `jaxnn train` that made a run, or that would make the network."""
    names = {field.name for field in dataclasses.fields(Train)}
    its: dict[str, Any] = model_file.settings(file) if file else {**vars(config), "data": config.what}
    known: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in its.items() if name in names}
    return Train(**known)
