"""What `jaxnn train` does."""

from functools import partial

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from jax.tree_util import keystr, tree_leaves_with_path
from rich.console import Console

from jaxnn import backprop, signals
from jaxnn.commands.config import Train, seconds
from jaxnn.commands.run import command, drawn, run_of, settings_of, writing, written
from jaxnn.commands.screen import bar, describe, layer_table, results, screen
from jaxnn.experiment import Experiment, experiment_of
from jaxnn.protocols import Layer, Loss, Params, Penalty
from jaxnn.storage import compilations, model_file, run_folder, run_record
from jaxnn.trained import Trained
from jaxnn.training.checkpoint import Checkpoint
from jaxnn.training.fit import fit
from jaxnn.training.given import cast, once
from jaxnn.training.history import Fit
from jaxnn.training.stops import Reason

Parts = tuple[Layer, Loss, Penalty | None]  # of a cost
EXIT_CODES = {Reason.INTERRUPTED: signals.INTERRUPTED, Reason.NOT_FINITE: 1}  # 0 for all others


def train(config: Train) -> int:
    """Trains a network and writes a run folder. Exit code 0; 1 if it diverged, 130 if it was interrupted: what was
    learned until then is written all the same.

    ValueError: settings that do not fit the data; data that cannot be read; a folder that cannot be made.
    """
    if config.cache:
        compilations.keep()
    console = screen()
    say = partial(console.print, markup=False, soft_wrap=True)
    if config.resume and not run_record.is_unfinished(config.resume):
        say(f"{config.resume} is finished: there is nothing to go on with.")
        return 0
    with jax.enable_x64(config.dtype == "float64"):
        experiment = experiment_of(config)
        model_file.content_of(trained_of(experiment, experiment.params), settings_of(config))  # before it is trained
        with run_of(config, experiment.table.name, say) as folder:
            say(describe(experiment.table, experiment.parts))
            console.print(
                layer_table(experiment.model, experiment.loss, experiment.params, experiment.x[experiment.rows].shape)
            )
            for remark in experiment.remarks:
                say(remark)
            some = experiment.rows[: experiment.batch_size]
            parts = experiment.model, experiment.loss, experiment.penalty
            say(compare_with_autodiff(parts, experiment.params, experiment.x[some], experiment.y[some]))
            states = Checkpoint(folder / run_record.STATES, seconds(config.checkpoint_every), say)
            result = fitted(config, experiment, console, states)
            reason = Reason[result.stopped.reason.upper()]
            if reason == Reason.INTERRUPTED and not result.history.iteration_cost.size:
                raise KeyboardInterrupt
            signals.ignore()  # a second Ctrl-C must not lose what the first one kept
            say(result.stopped.message)
            trained = trained_of(experiment, result.params)
            with writing(config, folder):
                run_folder.write(folder, trained, settings_of(config), result.history, experiment.held_out)
            console.print(results(trained, experiment.table, experiment.x, experiment.y, experiment.parts))
            metric, title = experiment.loss.metric, experiment.table.name
            drawn(partial(run_folder.draw, folder, result.history, experiment.held_out, metric, title), say)
            if reason == Reason.INTERRUPTED:
                say(f"To go on: {run_record.to_go_on(command(config), folder)}")
            else:
                run_record.finish(folder)
            say(written(folder))
    return EXIT_CODES.get(reason, 0)


def fitted(config: Train, experiment: Experiment, console: Console, checkpoint: Checkpoint) -> Fit:
    """The run, with a bar that shows how far it is."""
    rows, held_out = experiment.rows, experiment.parts[experiment.held_out]
    with bar(console) as progress:
        task = progress.add_task("training", total=config.epochs, cost="")
        return fit(
            experiment.model,
            experiment.loss,
            experiment.x[rows],
            experiment.y[rows],
            key=experiment.key,
            params=experiment.params,
            optimizer=experiment.optimizer,
            learning_rate=experiment.learning_rate,
            epochs=config.epochs,
            batch_size=experiment.batch_size,
            order=None if config.shuffle else lambda epoch: np.arange(len(rows)),
            validation=(experiment.x[held_out], experiment.y[held_out]),
            penalty=experiment.penalty,
            target_cost=config.target_cost,
            tolerance=config.tolerance,
            patience=config.patience,
            dtype=config.dtype,
            progress=lambda epoch, cost: progress.update(task, completed=epoch, cost=f"cost {cost:.6g}"),
            checkpoint=checkpoint,
        )


def trained_of(experiment: Experiment, params: Params) -> Trained:
    """The network with these parameters, and what its data need."""
    table = experiment.table
    return Trained(
        network=experiment.model,
        loss=experiment.loss,
        params=params,
        x_scale=experiment.x_scale,
        y_scale=experiment.y_scale,
        features=table.features,
        classes=table.classes,
        targets=table.targets,
    )


def compare_with_autodiff(parts: Parts, params: Params, x: np.ndarray, y: np.ndarray, key: Array | None = None) -> str:
    """A line that says how far the gradients by hand and by jax.grad agree on a batch, and where least. key: of what
    layers draw."""
    dtype = jax.tree.leaves(params)[0].dtype
    batch = params, cast(jnp.asarray(x), dtype), y, None, key
    with jax.default_matmul_precision("highest"):
        _, hand = once(backprop.value_and_grad(*parts))(*batch)
        _, auto = once(jax.value_and_grad(backprop.cost(*parts)))(*batch)

    def error(dv: Array, true: Array) -> float:
        """The largest error, relative to the largest entry of the leaf."""
        hand, auto = np.asarray(dv, np.float64), np.asarray(true, np.float64)
        return np.abs(hand - auto).max() / (np.abs(auto).max() or 1.0)

    errors = [
        (error(dv, true), keystr(path, simple=True, separator=", "))
        for (path, dv), true in zip(tree_leaves_with_path(hand), jax.tree.leaves(auto), strict=True)
    ]
    worst, leaf = max(errors)
    how = f"the same to {-np.log10(worst):.1f} digits (least in layer {leaf})" if worst else "the same bit for bit"
    return f"Gradient by hand against jax.grad on a batch, {dtype}: {how}."
