"""The commands `jaxnn train` and `jaxnn predict`. JAX is imported inside them, so that --help does not wait for it."""

import dataclasses
import sys
import warnings
from contextlib import nullcontext

import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from jaxnn import data
from jaxnn.config import Command, Train


def main(args=None):
    """Runs a command. Exit code 0: done; 2: bad input, one sentence says what; 130: interrupted."""
    try:
        config = tyro.cli(
            Command, args=args, prog="jaxnn", description="Neural networks with gradients derived by hand."
        )
        return train(config) if isinstance(config, Train) else predict(config)
    except ValueError as error:
        print(f"jaxnn: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("jaxnn: interrupted before anything was learned; nothing is written.", file=sys.stderr)
        return 130


def train(config):
    import jax

    from jaxnn import run_folder
    from jaxnn.model_file import Model
    from jaxnn.penalty import L2
    from jaxnn.train import fit

    console = Console(highlight=False)
    table = data.load(config.data)
    model, loss, y = network(config, table)
    optimizer = optimizer_of(config)
    train_rows, test_rows = data.split(table, config.seed)
    watched, watched_name = test_rows, "test"
    if config.patience:  # the test rows must not decide when to stop
        fifth = max(1, len(train_rows) // 5)
        watched, watched_name, train_rows = train_rows[:fifth], "validation", train_rows[fifth:]
    flat = table.x.reshape(len(table.x), -1)
    x_scale = (data.standardise if table.features else data.brighten)(flat[train_rows])
    y_scale = None if table.classes else data.standardise(y[train_rows])
    x, y = x_scale(flat), y_scale(y) if y_scale else y
    penalty, key = L2(config.l2) if config.l2 else None, jax.random.key(config.seed)

    x64 = jax.enable_x64(True) if config.dtype == "float64" else nullcontext()
    with x64, run_folder.new(config.out, table.name) as (folder, final):
        params = model.init(key, "float64" if config.dtype == "float64" else "float32")
        describe(console, table, model, loss, params, train_rows, test_rows)
        first = train_rows[: config.batch_size]
        console.print(compare_with_autodiff(model, loss, penalty, params, x[first], y[first], config.dtype))
        with bar(console) as progress, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            task = progress.add_task("training", total=config.epochs, cost=float("nan"))
            run = fit(
                model,
                loss,
                x[train_rows],
                y[train_rows],
                key=key,
                params=params,
                optimizer=optimizer,
                epochs=config.epochs,
                batch_size=config.batch_size,
                order=None if config.shuffle else lambda epoch: np.arange(len(train_rows)),
                validation=(x[watched], y[watched]),
                penalty=penalty,
                target_cost=config.target_cost,
                tolerance=config.tolerance,
                patience=config.patience,
                dtype=config.dtype,
                progress=lambda epoch, cost: progress.update(task, completed=epoch, cost=cost),
            )
        for warning in caught:
            console.print(f"{warning.message}", markup=False)
        console.print(run.stopped.message, markup=False)
        if run.stopped.reason == "interrupted" and run.stopped.epoch == 0:
            raise KeyboardInterrupt

        trained = Model(model, loss, run.params, x_scale, y_scale, table.features, table.classes, table.targets)
        console.print(results(trained, table, x, y, {"train": train_rows, "test": test_rows}))
        run_folder.write(folder, trained, config, run.history)
        if not run_folder.draw(folder, run.history, watched_name, loss.metric, table.name):
            console.print("There is no learning_curve.png: it needs matplotlib.")
    console.print(f"Written to {final}: {', '.join(sorted(path.name for path in final.iterdir()))}", markup=False)
    return 130 if run.stopped.reason == "interrupted" else 0


def predict(config):
    from jaxnn import model_file, run_folder

    trained = model_file.load(config.run / "model.safetensors")
    n = len(trained.x_scale.shift)
    x = data.load_rows(config.rows, n)
    y_hat = trained.predict(x)
    if trained.classes:
        p = np.concatenate([1 - y_hat, y_hat], 1) if y_hat.shape[1] == 1 else y_hat
        columns = {"class": np.array(trained.classes)[p.argmax(1)]}
        columns |= {f"P({name})": p[:, k] for k, name in enumerate(trained.classes)}
    else:
        columns = {name: y_hat[:, k] for k, name in enumerate(trained.targets)}
    run_folder.write_csv(config.out, columns)
    return 0


def network(config, table):
    """(model, loss, y): hidden layers and an output that fit the data, and y as the loss wants it."""
    import jaxnn
    from jaxnn.layers.activations import Activation
    from jaxnn.layers.chain import Chain
    from jaxnn.layers.dense import Dense

    K = len(table.classes)
    name = config.loss
    if name == "auto":
        name = "half_squared_error" if not K else "sigmoid_cross_entropy" if K == 2 else "softmax_cross_entropy"
    if not K and name.endswith("cross_entropy"):
        raise ValueError(
            f"--loss {name} needs classes, and the target of {table.name} is a quantity: use half_squared_error."
        )
    if not K or name == "softmax_cross_entropy":
        y = table.y
    else:
        y = table.y[:, None] if K == 2 else np.eye(K)[table.y]
    outputs = K if y.ndim == 1 else y.shape[1]

    sizes = (table.x[0].size, *config.hidden)
    layers = []
    for n_in, n_out in zip(sizes, sizes[1:]):  # noqa: B905
        layers += [Dense(n_in, n_out, config.initializer), Activation(config.activation, config.slope)]
    layers += [Dense(sizes[-1], outputs, config.initializer)]
    if name == "binary_cross_entropy":
        layers += [Activation("sigmoid")]
    return Chain(tuple(layers)), getattr(jaxnn, name.title().replace("_", ""))(), y


def optimizer_of(config):
    """The optax optimiser of this name with this learning rate."""
    import optax

    make = getattr(optax, config.optimizer, None)
    rate = config.learning_rate or (0.1 if config.optimizer == "sgd" else 0.001)
    try:
        optimizer = make(learning_rate=rate)
    except TypeError:
        optimizer = None
    if not isinstance(optimizer, optax.GradientTransformation):
        raise ValueError(
            f"optax has no optimiser {config.optimizer!r} that takes a learning rate: try sgd, adam, adamw."
        )
    return optimizer


def describe(console, table, model, loss, params, train_rows, test_rows):
    """The data in a line, and the layers in a table."""
    import jax

    from jaxnn.health import layers

    what = f"{len(table.classes)} classes" if table.classes else f"target {', '.join(table.targets)}"
    if table.classes:
        counts = np.bincount(table.y)
        what += f" ({', '.join(f'{name} {n}' for name, n in zip(table.classes, counts, strict=True))})"
    shape = " × ".join(map(str, table.x.shape[1:]))
    features = f"{shape} features" if table.features else f"images of {shape}"
    rows = f"{len(table.x)} rows, {len(train_rows)} to train and {len(test_rows)} to test"
    console.print(f"{table.name}: {rows}; {features}; {what}", markup=False)

    grid = Table("layer", "output", "params", Column("count", justify="right"))
    x = jax.ShapeDtypeStruct((len(train_rows), model.layers[0].n_in), jax.tree.leaves(params)[0].dtype)
    for layer, p in zip(layers(model), params, strict=True):
        x = jax.eval_shape(layer.apply, p, x)
        shapes = ", ".join(f"{name} {v.shape}" for name, v in p._asdict().items()) if p else ""
        grid.add_row(label(layer), f"{x.shape}", shapes, f"{sum(v.size for v in p):,}" if p else "")
    grid.add_row(label(loss), "()", "", f"{sum(v.size for v in jax.tree.leaves(params)):,}")
    console.print(grid)


def label(layer):
    """A layer's class and settings without their names: Dense(30, 64, xavier)."""
    values = (getattr(layer, field.name) for field in dataclasses.fields(layer))
    return f"{type(layer).__name__}({', '.join(str(v) for v in values if v is not None)})"


def compare_with_autodiff(model, loss, penalty, params, x, y, dtype):
    """A line that says how far the hand-derived gradient and jax.grad agree on these rows, and where least."""
    import jax
    from jax import numpy as jnp
    from jax.tree_util import keystr, tree_leaves_with_path

    from jaxnn import backprop

    params, x = jax.tree.map(lambda v: jnp.asarray(v, dtype), (params, x))
    with jax.default_matmul_precision("highest"):
        _, hand = jax.jit(backprop.value_and_grad(model, loss, penalty))(params, x, y)
        _, auto = jax.jit(jax.value_and_grad(backprop.cost(model, loss, penalty)))(params, x, y)

    def error(dv, true):  # relative to the leaf's largest entry
        dv, true = np.asarray(dv, np.float64), np.asarray(true, np.float64)
        return np.abs(dv - true).max() / (np.abs(true).max() or 1.0)

    errors = [
        (error(dv, true), keystr(path, simple=True, separator="."))
        for (path, dv), true in zip(tree_leaves_with_path(hand), jax.tree.leaves(auto), strict=True)
    ]
    worst, leaf = max(errors)
    how = f"the same to {-np.log10(worst):.1f} digits (least in {leaf})" if worst else "the same bit for bit"
    return f"gradient by hand against jax.grad, first batch, {dtype}: {how}"


def results(trained, table, x, y, parts):
    """A table of the cost and the metrics of each part of the rows."""
    from jaxnn.metrics import accuracy, r2, rmse

    metrics = {"accuracy": accuracy} if table.classes else {"RMSE": rmse, "R²": r2}
    grid = Table("rows", *(Column(name, justify="right") for name in ("cost", *metrics)))
    for name, rows in parts.items():
        z = trained.model.apply(trained.params, x[rows].astype(trained.params[0].W.dtype))
        J, _ = trained.loss.forward(z, y[rows])
        y_hat = trained.predict(table.x[rows])
        grid.add_row(
            f"{name} ({len(rows)})", f"{J:.4g}", *(f"{of(y_hat, table.y[rows]):.4g}" for of in metrics.values())
        )
    return grid


def bar(console):
    cost = TextColumn("cost {task.fields[cost]:.6g}")
    return Progress(
        TextColumn("training"), BarColumn(), MofNCompleteColumn(), cost, TimeElapsedColumn(), console=console
    )
