"""What `jaxnn sweep` does."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax
from rich.console import Console
from rich.table import Column, Table

from jaxnn import data, experiment, signals
from jaxnn.commands.config import Sweep, seconds
from jaxnn.commands.run import command, drawn, run_of, settings_of, writing, written
from jaxnn.commands.screen import bar, describe, results, screen
from jaxnn.layers.chain import Chain
from jaxnn.penalty import L2
from jaxnn.protocols import Layer, Loss
from jaxnn.storage import compilations, run_folder, run_record
from jaxnn.storage.rule_text import parse
from jaxnn.trained import Trained
from jaxnn.training.checkpoint import Checkpoint
from jaxnn.training.history import Fit
from jaxnn.training.sweep import sweep as train_all


class Network(NamedTuple):
    """One of the networks, trained."""

    width: int
    learning_rate: float
    seed: int
    fit: Fit

    @property
    def epoch(self) -> int:
        """The epoch of its lowest validation cost, counted from 1; 0 if none is finite."""
        cost = self.fit.history.validation_cost
        return int(np.nanargmin(cost)) + 1 if np.isfinite(cost).any() else 0

    @property
    def cost(self) -> float:
        """Its lowest validation cost; ∞ if none is finite."""
        return float(self.fit.history.validation_cost[self.epoch - 1]) if self.epoch else np.inf

    @property
    def metric(self) -> float:
        """The metric of the validation rows at that epoch; NaN if there is none."""
        return float(self.fit.history.validation_metric[self.epoch - 1]) if self.epoch else np.nan


Networks = Sequence[Network]
Setting = tuple[int, float]  # (width, learning rate)


class Rows(NamedTuple):
    """Some of the rows, scaled."""

    x: np.ndarray
    y: np.ndarray


def sweep(config: Sweep) -> int:
    """Trains all networks and writes a run folder.

    ValueError: settings that do not fit the data; data that cannot be read; a folder that cannot be made; no network
    has a finite validation cost.
    """
    if config.cache:
        compilations.keep()
    console = screen()
    say = partial(console.print, markup=False, soft_wrap=True)
    if config.resume and not run_record.is_unfinished(config.resume):
        say(f"{config.resume} is finished: there is nothing to go on with.")
        return 0
    table = data.load(config.data)
    optimizer = experiment.optimizer_of(config.optimizer)
    parts, held_out = experiment.split_parts(table, config.seed, hold_out=True)
    loss = experiment.loss_of(config.network(config.widths[0]), table)
    x, y, x_scale, y_scale = experiment.scaled(table, experiment.target_for(loss, table), parts["train"])
    experiment.check_ranges(x, y, table, config.dtype)
    train, validation = (Rows(x[parts[part]], y[parts[part]]) for part in ("train", held_out))
    models = {width: experiment.network(config.network(width), loss, table) for width in config.widths}
    x64, name = jax.enable_x64(config.dtype == "float64"), f"{table.name}-sweep"
    batch_size, remarks = experiment.batch_size_of(config.batch_size, len(train.x))
    n = len(config.learning_rates) * config.seeds
    with x64:
        for model in models.values():  # before any is trained
            parse(repr(model), Layer)  # it could be loaded
            size = batch_size or len(train.x)
            experiment.check_memory(model, optimizer, x, size, config.dtype, what=f"To train {n} networks", times=n)
    with x64, run_of(config, name, say) as folder, np.errstate(all="ignore"):
        say(describe(table, parts))
        for remark in (*experiment.constants(table, parts["train"]), *remarks):
            say(remark)
        config = replace(config, batch_size=batch_size)
        networks: list[Network] = []
        try:
            for width, model in models.items():
                states = folder / run_record.STATES / f"width-{width}"
                checkpoint = Checkpoint(states, seconds(config.checkpoint_every), say)
                networks += networks_of(config, width, model, loss, optimizer, train, validation, console, checkpoint)
        except KeyboardInterrupt:
            if any((folder / run_record.STATES).rglob("*.safetensors")):
                raise KeyboardInterrupt(f"to go on: {run_record.to_go_on(command(config), folder)}") from None
            raise
        best = best_of(networks)
        if not best.epoch:
            run_record.finish(folder)
            raise ValueError("No network has a finite validation cost: try smaller learning rates.")
        console.print(ranking(networks, loss.metric))
        settings = config.network(best.width, best.learning_rate)
        what = f"{best.width} units, learning rate {best.learning_rate:g}, seed {best.seed}"
        say(f"Best of the lowest mean: {what}, as it was after epoch {best.epoch}.")
        trained = Trained(
            network=models[best.width],
            loss=loss,
            params=best.fit.params,
            x_scale=x_scale,
            y_scale=y_scale,
            features=table.features,
            classes=table.classes,
            targets=table.targets,
        )
        signals.ignore()
        console.print(results(trained, table, x, y, parts))
        with writing(config, folder):
            run_folder.write(folder, trained, settings_of(settings), best.fit.history, held_out)
            write(folder, networks)
        drawn(partial(run_folder.draw, folder, best.fit.history, held_out, loss.metric, table.name), say)
        drawn(partial(draw, folder, networks, table.name), say)
        run_record.finish(folder)
        say(written(folder))
    return 0


def networks_of(
    config: Sweep,
    width: int,
    model: Chain,
    loss: Loss,
    optimizer: Callable[..., optax.GradientTransformation],
    train: Rows,
    validation: Rows,
    console: Console,
    checkpoint: Checkpoint,
) -> list[Network]:
    """The networks of one width, for every learning rate and seed."""
    pairs = list(itertools.product(config.learning_rates, range(config.seed, config.seed + config.seeds)))
    with bar(console, f"{len(pairs)} networks of {width} units") as progress:
        task = progress.add_task("", total=config.epochs, cost="")
        fits = train_all(
            model,
            loss,
            train.x,
            train.y,
            keys=jax.vmap(jax.random.key)(np.array([seed for _, seed in pairs])),
            learning_rates=[rate for rate, _ in pairs],
            optimizer=optimizer,
            epochs=config.epochs,
            batch_size=config.batch_size,
            validation=validation,
            penalty=L2(config.l2) if config.l2 else None,
            patience=config.epochs,
            dtype=config.dtype,
            progress=lambda epoch, cost: progress.update(task, completed=epoch, cost=f"lowest cost {cost:.6g}"),
            checkpoint=checkpoint,
        )
    return [Network(width, rate, seed, fit) for (rate, seed), fit in zip(pairs, fits, strict=True)]


def by_setting(networks: Networks) -> dict[Setting, list[Network]]:
    """The networks of each setting, one a seed; the setting of the lowest mean cost first. If that is ∞ for all, the
    setting of the lowest cost first."""
    groups = itertools.groupby(networks, key=lambda network: (network.width, network.learning_rate))
    of = {setting: list(group) for setting, group in groups}

    def mean_then_least(setting: Setting) -> tuple[float, float]:
        costs = [network.cost for network in of[setting]]
        return float(np.mean(costs)), min(costs)

    return {setting: of[setting] for setting in sorted(of, key=mean_then_least)}


def best_of(networks: Networks) -> Network:
    """The best seed of the setting whose mean is lowest: the best of all may only be lucky with the held-out rows."""
    return min(next(iter(by_setting(networks).values())), key=lambda network: network.cost)


def ranking(networks: Networks, metric: str) -> Table:
    """A row for each width and learning rate: lowest validation cost over the seeds, and the metric there."""
    right = partial(Column, justify="right")
    head = ("units", "learning rate", "validation cost", "least", "most", metric.replace("_", " "), "epoch")
    grid = Table(*map(right, head))
    for (width, rate), group in by_setting(networks).items():
        costs = [network.cost for network in group]
        numbers = (np.mean(costs), min(costs), max(costs), np.mean([network.metric for network in group]))
        epoch = np.mean([network.epoch for network in group])
        grid.add_row(f"{width}", f"{rate:g}", *(f"{v:.4g}" for v in numbers), f"{epoch:.0f}")
    return grid


def write(folder: Path, networks: Networks) -> None:
    """results.csv: a row for each network."""
    columns: dict[str, list] = {
        "width": [network.width for network in networks],
        "learning_rate": [network.learning_rate for network in networks],
        "seed": [network.seed for network in networks],
        "epoch": [network.epoch for network in networks],
        "validation_cost": [network.cost for network in networks],
        "validation_metric": [network.metric for network in networks],
        "stopped": [network.fit.stopped.reason for network in networks],
    }
    run_folder.write_csv(folder / "results.csv", columns)


def draw(folder: Path, networks: Networks, title: str) -> None:
    """sweep.png: the lowest validation cost by learning rate, a line a width, a point a seed. ImportError: no
    matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    groups = by_setting(networks)
    for n, width in enumerate(dict.fromkeys(network.width for network in networks)):
        rates = sorted(rate for w, rate in groups if w == width)
        costs = [[network.cost for network in groups[width, rate]] for rate in rates]
        axes.plot(rates, list(map(np.mean, costs)), color=f"C{n}", label=f"{width} units")
        axes.plot(np.repeat(rates, list(map(len, costs))), np.concatenate(costs), ".", color=f"C{n}", alpha=0.5)
    axes.set(xlabel="learning rate", ylabel="lowest validation cost", xscale="log", yscale="log", title=title)
    axes.legend()
    axes.grid(alpha=0.3)
    run_folder.write_figure(folder / "sweep.png", figure)
