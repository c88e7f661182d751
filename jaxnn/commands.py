"""What `jaxnn train` and `jaxnn predict` do."""

import dataclasses
import signal
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

import jax
import numpy as np
import optax
from jax import numpy as jnp
from jax.tree_util import keystr, tree_leaves_with_path
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

import jaxnn
from jaxnn import backprop, compilations, data, model_file, run_folder
from jaxnn.layer import Layer
from jaxnn.layers.activations import Activation
from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.metrics import accuracy, r2, rmse
from jaxnn.penalty import L2
from jaxnn.train import drawn, fit


def train(config):
    if config.cache:
        compilations.keep()
    console = Console(highlight=False)
    say = partial(console.print, markup=False, soft_wrap=True)
    table = data.load(config.data)
    model, loss, y = network(config, table)
    optimizer = optimizer_of(config)
    parts, held_out = parts_of(table, config)
    rows, m = parts["train"], len(parts["train"])
    x, y, x_scale, y_scale = scaled(table, y, rows)
    penalty = L2(config.l2) if config.l2 else None
    init_key, key = jax.random.split(jax.random.key(config.seed))

    with jax.enable_x64(config.dtype == "float64"), run_folder.new(config.out, table.name) as (folder, publish):
        say(describe(table, parts))
        params = drawn(model, init_key, "float64" if config.dtype == "float64" else "float32")
        console.print(layer_table(model, loss, params, m))
        batch_size = batch_size_of(config, m, say)
        first = rows[:batch_size]
        say(compare_with_autodiff(model, loss, penalty, params, x[first], y[first]))
        with bar(console) as progress:
            task = progress.add_task("training", total=config.epochs, cost="")
            result = fit(
                model,
                loss,
                x[rows],
                y[rows],
                key=key,
                params=params,
                optimizer=optimizer,
                epochs=config.epochs,
                batch_size=batch_size,
                order=None if config.shuffle else lambda epoch: np.arange(m),
                validation=(x[parts[held_out]], y[parts[held_out]]),
                penalty=penalty,
                target_cost=config.target_cost,
                tolerance=config.tolerance,
                patience=config.patience,
                dtype=config.dtype,
                progress=lambda epoch, cost: progress.update(task, completed=epoch, cost=f"cost {cost:.6g}"),
            )
        interrupted = result.stopped.reason == "interrupted"
        if interrupted and not result.stopped.epoch:
            raise KeyboardInterrupt
        with not_interrupted():  # a second Ctrl-C must not lose what the first one kept
            say(result.stopped.message)
            trained = model_file.Model(
                model, loss, result.params, x_scale, y_scale, table.features, table.classes, table.targets
            )
            console.print(results(trained, table, x, y, parts))
            run_folder.write(folder, trained, config, result.history, held_out)
            if not run_folder.draw(folder, result.history, held_out, loss.metric, table.name):
                say("There is no learning_curve.png: it needs matplotlib.")
            final = publish()
            say(f"Written to {final}: {', '.join(sorted(path.name for path in final.iterdir()))}")
    return 130 if interrupted else 0


def predict(config):
    if config.out and config.out.exists():
        raise ValueError(f"{config.out} is there already: give --out another name, or move it away.")
    with jax.enable_x64(True):  # for a model in float64; others keep their dtype
        trained = model_file.load(config.run / "model.safetensors")
        y_hat = trained.predict(data.load_rows(config.rows, trained.features, len(trained.x_scale.shift)))
    if trained.classes:
        scores = np.concatenate([1 - y_hat, y_hat], 1) if y_hat.shape[1] == 1 else y_hat
        columns = {"class": np.array(trained.classes)[scores.argmax(1)]}
        kind = "output" if trained.loss.metric == "r2" else "P"  # of a squared error: no probabilities
        columns |= {f"{kind}({name})": scores[:, k] for k, name in enumerate(trained.classes)}
    else:
        columns = {name: y_hat[:, k] for k, name in enumerate(trained.targets)}
    run_folder.write_csv(config.out, columns)
    return 0


def batch_size_of(config, m, say):
    """None for all rows, which is said where more are asked for."""
    if not config.batch_size or config.batch_size <= m:
        return config.batch_size
    say(f"--batch-size {config.batch_size} is more than the rows to train on: each batch is all {m} of them.")
    return None


def scaled(table, y, rows):
    """(x, y, x_scale, y_scale): all data flattened and scaled, as these rows are to be."""
    flat = table.x.reshape(len(table.x), -1)
    x_scale = (data.standardise if table.features else data.brighten)(flat[rows])
    y_scale = None if table.classes else data.standardise(y[rows])
    return x_scale(flat), y_scale(y) if y_scale else y, x_scale, y_scale


def parts_of(table, config):
    """({part: its row numbers}, the part that is watched while training): the test rows never decide when to stop."""
    train_rows, test_rows = data.split(table, config.seed)
    if config.patience is None:
        return {"train": train_rows, "test": test_rows}, "test"
    if len(train_rows) < 2:
        raise ValueError("A fifth of the training rows is to be held out, and there is only 1: give more rows.")
    fifth = max(1, len(train_rows) // 5)
    return {"train": train_rows[fifth:], "validation": train_rows[:fifth], "test": test_rows}, "validation"


def network(config, table):
    """(model, loss, y): hidden layers and an output that fit the data, and y as the loss wants it."""
    K = len(table.classes)
    name = config.loss
    if name == "auto":
        name = "half_squared_error" if not K else "sigmoid_cross_entropy" if K == 2 else "softmax_cross_entropy"
    if not K and name.endswith("cross_entropy"):
        raise ValueError(
            f"--loss {name} needs classes, and the target of {table.name} is a quantity: use half_squared_error."
        )
    y = table.y
    if K and name != "softmax_cross_entropy":
        y = y[:, None].astype(float) if K == 2 else np.eye(K)[y]
    outputs = K if y.ndim == 1 else y.shape[1]

    sizes = (table.x[0].size, *config.hidden)
    layers: list[Layer] = []
    for n_in, n_out in pairwise(sizes):
        layers += [Dense(n_in, n_out, config.initializer), Activation(config.activation, config.slope)]
    layers += [Dense(sizes[-1], outputs, config.initializer)]
    if name == "binary_cross_entropy":
        layers += [Activation("sigmoid")]
    return Chain(tuple(layers)), getattr(jaxnn, name.title().replace("_", ""))(), y


def optimizer_of(config):
    """The optax optimiser of this name with this learning rate."""
    rate = config.learning_rate or (0.1 if config.optimizer == "sgd" else 0.001)
    try:
        optimizer = getattr(optax, config.optimizer)(learning_rate=rate)
    except (AttributeError, TypeError):
        optimizer = None
    if not isinstance(optimizer, optax.GradientTransformation):
        raise ValueError(
            f"optax has no optimiser {config.optimizer!r} that takes a learning rate: try sgd, adam, adamw."
        )
    return optimizer


def describe(table, parts):
    """The data in a sentence."""
    rows = ", ".join(f"{len(rows)} {part}" for part, rows in parts.items())
    shape = " × ".join(map(str, table.x.shape[1:]))
    what = f"{shape} features" if table.features else f"images of {shape}"
    if table.classes:
        counts = zip(table.classes, np.bincount(table.y), strict=True)
        target = f"{len(table.classes)} classes ({', '.join(f'{name} {n}' for name, n in counts)})"
    else:
        target = f"target {', '.join(table.targets)}"
    return f"{table.name}: {len(table.x)} rows ({rows}); {what}; {target}"


def layer_table(model, loss, params, m):
    """A row for each layer: its number, settings, output for m examples, and parameters."""
    right = partial(Column, justify="right")
    grid = Table(right(), "layer", "output", "parameters", right("count"))
    x = jax.ShapeDtypeStruct((m, model.layers[0].n_in), jax.tree.leaves(params)[0].dtype)
    for i, (layer, p) in enumerate(zip(model.layers, params, strict=True)):
        x = jax.eval_shape(layer.apply, p, x)
        shapes = ", ".join(f"{name} {v.shape}" for name, v in p._asdict().items()) if p else ""
        grid.add_row(f"{i}", label(layer), f"{x.shape}", shapes, f"{sum(v.size for v in p):,}" if p else "")
    grid.add_row("", label(loss), "()", "", f"{sum(v.size for v in jax.tree.leaves(params)):,}")
    return grid


def label(layer):
    """A layer's class and settings without their names: Dense(30, 64, xavier)."""
    values = (getattr(layer, field.name) for field in dataclasses.fields(layer))
    return f"{type(layer).__name__}({', '.join(str(v) for v in values if v is not None)})"


def compare_with_autodiff(model, loss, penalty, params, x, y):
    """A line that says how far the hand-derived gradient and jax.grad agree on these rows, and where least."""
    dtype = jax.tree.leaves(params)[0].dtype
    x = jnp.asarray(x, dtype)
    with jax.default_matmul_precision("highest"):
        _, hand = jax.jit(backprop.value_and_grad(model, loss, penalty))(params, x, y)
        _, auto = jax.jit(jax.value_and_grad(backprop.cost(model, loss, penalty)))(params, x, y)

    def error(dv, true):  # relative to the leaf's largest entry
        dv, true = np.asarray(dv, np.float64), np.asarray(true, np.float64)
        return np.abs(dv - true).max() / (np.abs(true).max() or 1.0)

    errors = [
        (error(dv, true), keystr(path, simple=True, separator=", "))
        for (path, dv), true in zip(tree_leaves_with_path(hand), jax.tree.leaves(auto), strict=True)
    ]
    worst, leaf = max(errors)
    how = f"the same to {-np.log10(worst):.1f} digits (least in layer {leaf})" if worst else "the same bit for bit"
    return f"Gradient by hand against jax.grad, first batch, {dtype}: {how}."


def results(trained, table, x, y, parts):
    """A table of the cost and the metrics of each part of the rows."""
    metrics = {"accuracy": accuracy} if table.classes else {"RMSE": rmse, "R²": r2}
    right = partial(Column, justify="right")
    grid = Table("rows", right(), right("cost"), *map(right, metrics))
    cost = jax.jit(lambda params, x, y: trained.loss.forward(trained.model.apply(params, x), y)[0])
    y_hat = trained.predict(table.x)
    for part, rows in parts.items():
        J = cost(trained.params, x[rows].astype(trained.params[0].W.dtype), y[rows])
        values = [jax.jit(of)(y_hat[rows], table.y[rows]) for of in metrics.values()]
        grid.add_row(part, f"{len(rows)}", *(f"{value:.4g}" for value in (J, *values)))
    return grid


def bar(console, what="training"):
    cost = TextColumn("{task.fields[cost]}")
    return Progress(TextColumn(what), BarColumn(), MofNCompleteColumn(), cost, TimeElapsedColumn(), console=console)


@contextmanager
def not_interrupted():
    """Ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
