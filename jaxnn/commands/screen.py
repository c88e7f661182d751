"""What the commands print: tables, sentences, progress."""

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TextIO, cast

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from jaxnn.data import Table as DataTable
from jaxnn.data.labels import listed, shown
from jaxnn.layers.chain import Chain
from jaxnn.metrics import accuracy, r2, rmse
from jaxnn.protocols import Loss, Params, PyTree
from jaxnn.trained import Trained
from jaxnn.training.given import once


class Lasting:
    """The standard output as long as it can be written to: a terminal or a pipe that is closed ends no training."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        self.or_nowhere(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        self.or_nowhere(self.stream.flush)

    def or_nowhere(self, write: Callable[[], object]) -> None:
        """Writes; from the first time that fails on, everything goes nowhere."""
        try:
            write()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


def screen() -> Console:
    """Where a run tells how it goes."""
    return Console(highlight=False, file=cast(TextIO, Lasting(sys.stdout)))


Parts = Mapping[str, np.ndarray]  # {part of the data: its row numbers}


def describe(table: DataTable, parts: Parts) -> str:
    """The data in a sentence."""
    rows = ", ".join(f"{len(rows)} {part}" for part, rows in parts.items())
    shape = " × ".join(map(str, table.x.shape[1:]))
    what = f"{shape} features" if table.features else f"images of {shape}"
    if table.classes:
        counts = zip(table.classes, np.bincount(table.y), strict=True)
        target = f"{len(table.classes)} classes ({listed([f'{shown(name)} {n}' for name, n in counts])})"
    else:
        target = f"target {listed([*map(shown, table.targets)])}"
    return f"{shown(table.name)}: {len(table.x)} rows ({rows}); {what}; {target}"


def layer_table(model: Chain, loss: Loss, params: Params, shape: tuple[int, ...]) -> Table:
    """A row for each layer: its number, settings, output for an x of this shape, and parameters; for the loss; and for
    the total of the parameters."""
    right = partial(Column, justify="right")
    grid = Table(right(), "layer", "output", "parameters", right("count"))
    x = jax.ShapeDtypeStruct(shape, jax.tree.leaves(params)[0].dtype)
    for i, (layer, p) in enumerate(zip(model.layers, params, strict=True)):
        x = jax.eval_shape(layer.apply, p, x)
        leaves = jax.tree.leaves(p)
        names = p._asdict().items() if hasattr(p, "_asdict") else ()
        shapes = ", ".join(f"{name} {v.shape}" for name, v in names if v is not None)
        count = f"{sum(v.size for v in leaves):,}" if leaves else ""
        grid.add_row(f"{i}", label(layer), f"{x.shape}", shapes, count)
    grid.add_row("", repr(loss), "()", "", "")
    grid.add_row("", "total", "", "", f"{sum(v.size for v in jax.tree.leaves(params)):,}")
    return grid


def label(layer: PyTree) -> str:
    """The class and the settings of a layer that its repr has, without their names: Dense(30, 64, xavier)."""
    names = (field.name for field in dataclasses.fields(layer))
    values = (getattr(layer, name) for name in names if f"{name}=" in repr(layer))
    words = (type(v).__name__ if hasattr(v, "forward") else str(v) for v in values if v is not None)
    return f"{type(layer).__name__}({', '.join(words)})"


def results(trained: Trained, table: DataTable, x: np.ndarray, y: np.ndarray, parts: Parts) -> Table:
    """A table of the cost and the metrics of each part of the rows. x, y: the scaled data."""
    metrics = {"accuracy": accuracy} if table.classes else {"RMSE": rmse, "R²": r2}
    right = partial(Column, justify="right")
    grid = Table("rows", right(), right("cost"), *map(right, metrics))
    dtype = jax.tree.leaves(trained.params)[0].dtype
    cost = once(lambda params, x, y: trained.loss.forward(trained.network.apply(params, x), y)[0])
    y_hat = trained.predict(table.x)
    for part, rows in parts.items():
        J = cost(trained.params, x[rows].astype(dtype), y[rows])
        with jax.enable_x64(True):  # predictions are in their own units, however large
            values = [once(of)(y_hat[rows], table.y[rows]) for of in metrics.values()]
        grid.add_row(part, f"{len(rows)}", *("—" if np.isnan(v) else f"{v:.4g}" for v in (J, *values)))
    return grid


def bar(console: Console, what: str = "training") -> Progress:
    """A progress bar, whose tasks have a field `cost`."""
    cost = TextColumn("{task.fields[cost]}")
    return Progress(TextColumn(what), BarColumn(), MofNCompleteColumn(), cost, TimeElapsedColumn(), console=console)
