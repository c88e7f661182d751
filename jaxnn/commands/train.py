"""What `jaxnn train` does."""

from functools import partial

import jax
import numpy as np
from jax import numpy as jnp
from jax.tree_util import keystr, tree_leaves_with_path
from rich.console import Console

from jaxnn import backprop, data
from jaxnn.commands.screen import bar, describe, layer_table, not_interrupted, results
from jaxnn.experiment import batch_size_of, network, optimizer_of, parts_of, scaled
from jaxnn.penalty import L2
from jaxnn.storage import compilations, run_folder
from jaxnn.trained import Model
from jaxnn.training.fit import fit
from jaxnn.training.prepare import drawn


def train(config):
    if config.cache:
        compilations.keep()
    console = Console(highlight=False)
    say = partial(console.print, markup=False, soft_wrap=True)
    table = data.load(config.data)
    model, loss, y = network(config, table)
    optimizer = optimizer_of(config.optimizer, config.learning_rate)
    parts, held_out = parts_of(table, config.seed, hold_out=config.patience is not None)
    rows, m = parts["train"], len(parts["train"])
    x, y, x_scale, y_scale = scaled(table, y, rows)
    penalty = L2(config.l2) if config.l2 else None
    init_key, key = jax.random.split(jax.random.key(config.seed))

    with jax.enable_x64(config.dtype == "float64"), run_folder.new(config.out, table.name) as (folder, publish):
        say(describe(table, parts))
        params = drawn(model, init_key, "float64" if config.dtype == "float64" else "float32")
        console.print(layer_table(model, loss, params, m))
        batch_size = batch_size_of(config.batch_size, m, say)
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
            trained = Model(model, loss, result.params, x_scale, y_scale, table.features, table.classes, table.targets)
            console.print(results(trained, table, x, y, parts))
            run_folder.write(folder, trained, config, result.history, held_out)
            if not run_folder.draw(folder, result.history, held_out, loss.metric, table.name):
                say("There is no learning_curve.png: it needs matplotlib.")
            final = publish()
            say(f"Written to {final}: {', '.join(sorted(path.name for path in final.iterdir()))}")
    return 130 if interrupted else 0


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
