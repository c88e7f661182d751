"""What `jaxnn explain` does."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
from jax import numpy as jnp

from jaxnn import commands, data, model_file, text_file
from jaxnn.config import Train
from jaxnn.explain import explain as explained


def explain(config):
    if config.latex:
        text_file.write(config.latex, None)
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
    explanation = explained(model, loss, params, x, y, notation=config.notation, learning_rate=config.learning_rate)
    print(explanation)
    if config.latex:
        text_file.write(config.latex, explanation.to_latex())
        print(f"Written to {config.latex}.")
    return 0 if explanation.report.ok else 1


def settings(config, file):
    """Those of `jaxnn train` that made a run, or that would make the network."""
    names = {field.name for field in dataclasses.fields(Train)}
    its: dict[str, Any] = model_file.settings(file) if file else {**vars(config), "data": config.what}
    known: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in its.items() if name in names}
    return Train(**known)
