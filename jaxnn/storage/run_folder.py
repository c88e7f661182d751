"""What a run leaves behind: model.safetensors, history.csv, iterations.csv, learning_curve.png; whole or not at all."""

import io
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np

from jaxnn.data.labels import is_text
from jaxnn.protocols import Layer, Params, PyTree, leaf_layers
from jaxnn.storage import model_file, text_file, whole_file
from jaxnn.storage.run_record import MODEL
from jaxnn.trained import Trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EMPTY = '""'  # a line of one empty cell, which is not to look like none
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet's formula begins with


def write(folder: Path, trained: Trained, settings: Mapping[str, PyTree], history: PyTree, held_out: str) -> None:
    """Fills `folder` with the model and the history. If it has vanished, it is made again. settings: of the run.
    history, held_out: as of `write_history`."""
    folder.mkdir(parents=True, exist_ok=True)
    model_file.save(folder / MODEL, trained, settings)
    write_history(folder, trained.network, trained.params, history, held_out, trained.loss.metric)


def write_history(folder: Path, network: Layer, params: Params, history: PyTree, held_out: str, metric: str) -> None:
    """A row an epoch, and a row an iteration. history: a `History`. held_out, metric: what the rows of its validation
    are, and what is reported of them beside the cost."""
    columns: dict[str, np.ndarray] = {
        "epoch": np.arange(1, len(history.cost) + 1),
        "cost": history.cost,
        f"{held_out}_cost": history.validation_cost,
        f"{held_out}_{metric}": history.validation_metric,
    }
    layers = [leaf.name for leaf in leaf_layers(network, jax.tree.map(np.asarray, params))]
    for name in ("gradient_norm", "dead", "saturated"):
        for layer, values in zip(layers, getattr(history, name).T, strict=True):
            if not np.isnan(values).all():
                columns[f"{name} of layer {layer}"] = values
    write_csv(folder / "history.csv", columns)
    costs = history.iteration_cost
    write_csv(folder / "iterations.csv", {"iteration": np.arange(1, len(costs) + 1), "cost": costs})


def write_csv(path: Path | None, columns: Mapping[str, Iterable]) -> None:
    """Columns by name, into a file that appears whole, or on the standard output when `path` is None; NaN is empty.

    A word that a spreadsheet would run as a formula has an apostrophe before it.
    """
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    text = "".join(f"{','.join(map(as_cell, row)) or EMPTY}\n" for row in rows)
    if path is None:
        sys.stdout.write(text)
    else:
        text_file.write(path, text)


def as_cell(v: object) -> str:
    """A value as it is written. The csv module gives a carriage return no quotes, and a line would end there."""
    if v != v:
        return ""
    text = f"'{v}" if isinstance(v, str) and v[:1] in FORMULA and is_text(v) else str(v)
    return '"{}"'.format(text.replace('"', '""')) if any(c in text for c in ',"\r\n') else text


def draw(folder: Path, history: PyTree, held_out: str, metric: str, title: str) -> None:
    """learning_curve.png: the cost by epoch, and the metric of the held-out rows. ImportError: no matplotlib."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    metric = {"r2": "R²"}.get(metric, metric.replace("_", " "))
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = np.arange(1, len(history.cost) + 1)
    marker = "o" if len(epochs) < 10 else None  # one point makes no line
    left.plot(epochs, history.cost, marker=marker, label="train (mean over the epoch)")
    left.plot(epochs, history.validation_cost, marker=marker, label=held_out)
    left.set(xlabel="epoch", ylabel="cost J", yscale="log", title=title)
    left.legend(loc="upper right")  # to look for the best place takes long, and matplotlib says so
    right.plot(epochs, history.validation_metric, marker=marker, color="C1")
    never = "" if np.isfinite(history.validation_metric).any() else ": never finite"
    right.set(xlabel="epoch", ylabel=metric, title=f"{metric} of the {held_out} rows{never}")
    for axes in (left, right):
        axes.set_xlim(0, len(epochs) + 1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    write_figure(folder / "learning_curve.png", figure)


def write_figure(path: Path, figure: "Figure") -> None:
    """A figure of matplotlib as a picture that appears whole."""
    content = io.BytesIO()
    figure.savefig(content, dpi=120)
    whole_file.write(path, content.getvalue())
