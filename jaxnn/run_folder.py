"""What a run leaves behind: model.safetensors, history.csv, iterations.csv, learning_curve.png; whole or not at all."""

import csv
import dataclasses
import itertools
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from jaxnn import model_file


@contextmanager
def new(wanted, name):
    """(a temporary folder to fill, its name to be): renamed at the end to `wanted`, or else to runs/NAME, runs/NAME-2, …

    ValueError when it is there already or cannot be made. When the block raises, nothing is left behind.
    """
    numbered = (Path("runs", name if n == 1 else f"{name}-{n}") for n in itertools.count(1))
    final = wanted or next(path for path in numbered if not path.exists())
    if final.exists():
        raise ValueError(f"{final} is there already: give --out another name, or move it away.")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    except OSError as error:
        raise ValueError(f"Cannot make the run folder {final}: {error.strerror}.") from None
    try:
        yield partial, final
        partial.chmod(0o755)  # mkdtemp's is private
        os.rename(partial, final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write(folder, trained, config, history):
    """Fills `folder` with the model and the history: a row an epoch, and a row an iteration."""
    model_file.save(folder / "model.safetensors", trained, dataclasses.asdict(config))
    columns = {
        "epoch": np.arange(1, len(history.cost) + 1),
        "cost": history.cost,
        "validation_cost": history.validation_cost,
        f"validation_{trained.loss.metric}": history.validation_metric,
    }
    for name in ("gradient_norm", "dead", "saturated"):
        for i, values in enumerate(getattr(history, name).T):
            if not np.isnan(values).all():
                columns[f"{name} of layer {i}"] = values
    write_csv(folder / "history.csv", columns)
    costs = history.iteration_cost
    write_csv(folder / "iterations.csv", {"iteration": np.arange(1, len(costs) + 1), "cost": costs})


def write_csv(path, columns):
    """Columns by name, into a file that appears whole, or on the standard output when `path` is None; NaN is empty."""
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    text = [list(columns), *(["" if v != v else v for v in row] for row in rows)]
    if path is None:
        csv.writer(sys.stdout).writerows(text)
        return
    partial = Path(f"{path}.partial")
    try:
        with open(partial, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(text)
        os.replace(partial, path)
    except OSError as error:
        raise ValueError(f"Cannot write {path}: {error.strerror}.") from None


def draw(folder, history, held_out, metric, title):
    """learning_curve.png: the cost by epoch, and the metric of the held-out rows. False where there is no matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = np.arange(1, len(history.cost) + 1)
    left.plot(epochs, history.cost, label="training (running mean)")
    left.plot(epochs, history.validation_cost, label=held_out)
    left.set(xlabel="epoch", ylabel="cost J", yscale="log", title=title)
    left.legend()
    right.plot(epochs, history.validation_metric, color="C1", label=held_out)
    right.set(xlabel="epoch", ylabel=metric, title=f"{metric} of the {held_out} rows")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(folder / "learning_curve.png", dpi=120)
    return True
