"""What `jaxnn sweep` does."""

import itertools
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import optax
from rich.console import Console
from rich.table import Column, Table

from jaxnn import data, experiment
from jaxnn.commands.screen import bar, describe, not_interrupted, results
from jaxnn.penalty import L2
from jaxnn.storage import compilations, run_folder
from jaxnn.trained import Model
from jaxnn.training.history import Fit
from jaxnn.training.sweep import sweep as train_all


class Network(NamedTuple):
    width: int
    learning_rate: float
    seed: int
    fit: Fit

    @property
    def epoch(self):
        """Of its lowest validation cost, counted from 1; 0 where none is finite."""
        cost = self.fit.history.validation_cost
        return int(np.nanargmin(cost)) + 1 if np.isfinite(cost).any() else 0

    @property
    def cost(self):
        """Its lowest validation cost."""
        return float(self.fit.history.validation_cost[self.epoch - 1]) if self.epoch else np.inf

    @property
    def metric(self):
        return float(self.fit.history.validation_metric[self.epoch - 1]) if self.epoch else np.nan


def sweep(config):
    if config.cache:
        compilations.keep()
    console = Console(highlight=False)
    say = partial(console.print, markup=False, soft_wrap=True)
    table = data.load(config.data)
    its = config.network(config.widths[0])
    experiment.optimizer_of(config.optimizer, None)
    parts, held_out = experiment.parts_of(table, config.seed, hold_out=True)
    model, loss, y = experiment.network(its, table)
    x, y, x_scale, y_scale = experiment.scaled(table, y, parts["train"])
    x64, name = jax.enable_x64(config.dtype == "float64"), f"{table.name}-sweep"
    with x64, run_folder.new(config.out, name) as (folder, publish), np.errstate(all="ignore"):
        say(describe(table, parts))
        config = replace(config, batch_size=experiment.batch_size_of(config.batch_size, len(parts["train"]), say))
        found = [
            network
            for width in config.widths
            for network in group(config, width, table, (x, y), (parts["train"], parts[held_out]), console)
        ]
        best = best_of(found)
        if not best.epoch:
            raise ValueError("No network has a finite validation cost: try smaller learning rates.")
        console.print(ranking(found, loss.metric))
        its = config.network(best.width, best.learning_rate)
        model, *_ = experiment.network(its, table)
        setting = f"{best.width} units, learning rate {best.learning_rate:g}, seed {best.seed}"
        say(f"Best of the lowest mean: {setting}, as it was after epoch {best.epoch}.")
        trained = Model(model, loss, best.fit.params, x_scale, y_scale, table.features, table.classes, table.targets)
        with not_interrupted():
            console.print(results(trained, table, x, y, parts))
            write(folder, found)
            run_folder.write(folder, trained, its, best.fit.history, held_out)
            curve = run_folder.draw(folder, best.fit.history, held_out, loss.metric, table.name)
            if not (curve and draw(folder, found, table)):
                say("There are no pictures: they need matplotlib.")
            final = publish()
            say(f"Written to {final}: {', '.join(sorted(path.name for path in final.iterdir()))}")
    return 0


def group(config, width, table, scaled, rows, console):
    """The networks of one width, for every learning rate and seed."""
    (x, y), (train, validation) = scaled, rows
    model, loss, _ = experiment.network(config.network(width), table)
    pairs = list(itertools.product(config.learning_rates, range(config.seed, config.seed + config.seeds)))
    with bar(console, f"{len(pairs)} networks of {width} units") as progress:
        task = progress.add_task("", total=config.epochs, cost="")
        found = train_all(
            model,
            loss,
            x[train],
            y[train],
            keys=jax.vmap(jax.random.key)(np.array([seed for _, seed in pairs])),
            learning_rates=[rate for rate, _ in pairs],
            optimizer=getattr(optax, config.optimizer),
            epochs=config.epochs,
            batch_size=config.batch_size,
            validation=(x[validation], y[validation]),
            penalty=L2(config.l2) if config.l2 else None,
            patience=config.epochs,
            dtype=config.dtype,
            progress=lambda epoch, cost: progress.update(task, completed=epoch, cost=f"lowest cost {cost:.6g}"),
        )
    return [Network(width, *pair, fit) for pair, fit in zip(pairs, found, strict=True)]


def by_setting(found):
    """{(width, learning rate): its networks, one a seed}, the lowest mean cost first; where that is ∞ for all, the
    lowest of all first."""
    settings = itertools.groupby(found, key=lambda network: (network.width, network.learning_rate))
    of = {setting: list(networks) for setting, networks in settings}
    costs = {setting: [network.cost for network in networks] for setting, networks in of.items()}
    return {setting: of[setting] for setting in sorted(of, key=lambda s: (np.mean(costs[s]), min(costs[s])))}


def best_of(found):
    """The best seed of the setting whose mean is lowest: the best of all may only be lucky with the held-out rows."""
    return min(next(iter(by_setting(found).values())), key=lambda network: network.cost)


def ranking(found, metric):
    """A row for each width and learning rate: lowest validation cost over the seeds, and the metric there."""
    right = partial(Column, justify="right")
    head = ("units", "learning rate", "validation cost", "least", "most", metric.replace("_", " "), "epoch")
    grid = Table(*map(right, head))
    for (width, rate), networks in by_setting(found).items():
        costs = [network.cost for network in networks]
        mean = (np.mean(costs), min(costs), max(costs), np.mean([network.metric for network in networks]))
        epoch = np.mean([network.epoch for network in networks])
        grid.add_row(f"{width}", f"{rate:g}", *(f"{v:.4g}" for v in mean), f"{epoch:.0f}")
    return grid


def write(folder, found):
    """results.csv: a row for each network."""
    columns = {
        "width": [network.width for network in found],
        "learning_rate": [network.learning_rate for network in found],
        "seed": [network.seed for network in found],
        "epoch": [network.epoch for network in found],
        "validation_cost": [network.cost for network in found],
        "validation_metric": [network.metric for network in found],
        "stopped": [network.fit.stopped.reason for network in found],
    }
    run_folder.write_csv(folder / "results.csv", columns)


def draw(folder, found, table):
    """sweep.png: the lowest validation cost by learning rate, a line a width, a point a seed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for n, width in enumerate(dict.fromkeys(network.width for network in found)):
        of = {rate: [v.cost for v in its] for (w, rate), its in by_setting(found).items() if w == width}
        rates = sorted(of)
        axes.plot(rates, [np.mean(of[rate]) for rate in rates], color=f"C{n}", label=f"{width} units")
        axes.plot(*zip(*((rate, v) for rate in rates for v in of[rate]), strict=True), ".", color=f"C{n}", alpha=0.5)
    axes.set(xlabel="learning rate", ylabel="lowest validation cost", xscale="log", yscale="log", title=table.name)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(folder / "sweep.png", dpi=120)
    return True
