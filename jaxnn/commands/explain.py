"""What `jaxnn explain` does."""

import dataclasses
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import get_type_hints

import jax
import numpy as np
import optax
from jax import numpy as jnp

from jaxnn import data
from jaxnn.commands.answer import Answer
from jaxnn.commands.config import OF_A_NEW_NETWORK, Explain, Train
from jaxnn.commands.own_file import check_writable, own_functions
from jaxnn.data.labels import readable, shown
from jaxnn.experiment import check_memory, loss_of, network, scaled, split_parts, target_for
from jaxnn.explanation.explanation import Explanation
from jaxnn.explanation.function import descend_gradient
from jaxnn.explanation.network import descend
from jaxnn.explanation.page import page
from jaxnn.penalty import L2
from jaxnn.protocols import PyTree
from jaxnn.storage import model_file
from jaxnn.storage.rule_text import fits
from jaxnn.storage.run_record import MODEL
from jaxnn.trained import Trained
from jaxnn.training.given import initial_params
from jaxnn.verify import FAIL, INCONCLUSIVE, PASS

BALLS = 200  # times what a number takes is what it takes where it is verified
EXIT_CODES = {PASS: 0, FAIL: 1, INCONCLUSIVE: 3}


def explain(config: Explain) -> int:
    """Explains a network: prints an explanation, and writes the files that are wished for. The exit code is that of the
    verdict."""
    check_writable((config.latex, config.html))
    what = Path(config.what)
    if what.is_dir() and config.what not in data.SETS:
        config.refuse(*OF_A_NEW_NETWORK, "seed")
        return of_run(config, what / MODEL).give()
    settings = settings_of({**vars(config), "data": config.what}, config.what)
    with jax.enable_x64(False):
        return of_network(config, settings, None).give()


def of_run(config: Explain, file: Path) -> Answer:
    """Explains the network that a run trained."""
    with jax.enable_x64(True):  # for a model in float64; others keep their dtype
        trained, settings, remark = model_file.read(file)
    if remark:
        print(remark, file=sys.stderr)
    with jax.enable_x64(jax.tree.leaves(trained.params)[0].dtype == "float64"):
        return of_network(config, settings_of(settings, str(file)), trained)


def of_network(config: Explain, settings: Train, trained: Trained | None) -> Answer:
    """Explains a trained network, or a new one, on some training rows of its data."""
    table = data.load(settings.data)
    if trained and (trained.classes, trained.targets) != (table.classes, table.targets):
        raise ValueError(f"{settings.data} has other classes or targets now than those that the run was trained on.")
    loss = trained.loss if trained else loss_of(settings, table)
    y = target_for(loss, table)
    rows = split_parts(table, settings.seed, hold_out=settings.patience is not None)[0]["train"]
    width = table.x[0].size
    if trained and len(trained.x_scale.shift) != width:
        raise ValueError(
            f"{settings.data} has {width} inputs now, the run was trained on {len(trained.x_scale.shift)}."
        )
    if trained:
        x, y = trained.x_scale(table.x.reshape(-1, width)), trained.y_scale(y) if trained.y_scale else y
        explained, params = trained.network, trained.params
    else:
        x, y, *_ = scaled(table, y, rows)
        explained = network(settings, loss, table)
        size = min(config.examples, len(rows))
        check_memory(explained, optax.sgd, x[:size], size, "float32", what="To explain a network", times=BALLS)
        params = initial_params(explained, jax.random.split(jax.random.key(settings.seed))[0], "float32")
    some = rows[: config.examples]
    x, y = x[some], y[some]
    dtype = jax.tree.leaves(params)[0].dtype
    y = y if jnp.issubdtype(y.dtype, jnp.integer) else np.asarray(y, dtype)
    iterations = descend(
        explained,
        loss,
        params,
        x,
        y,
        penalty=L2(settings.l2) if settings.l2 else None,
        notation=config.notation,
        learning_rate=config.learning_rate,
    )
    found = answer(config, iterations, f"{shown(table.name)}: {len(some)} examples")
    head = f"{len(some)} examples of {shown(table.name)}; {explained}; {loss}\n\n"
    return dataclasses.replace(found, text=head + found.text)


def answer_on_functions(config: Explain, path: Path, module: ModuleType) -> Answer:
    """On the cost and gradient of a file of `jaxnn verify`, which is imported."""
    cost, grad, args = own_functions(path, module, config.seed)
    return answer(config, descend_gradient(cost, grad, *args, learning_rate=config.learning_rate), path.name)


def answer(config: Explain, iterations: Iterator[Explanation], title: str) -> Answer:
    """The first iteration, and the files that are wished for."""
    explanation, files = next(iterations), {}
    if config.latex:
        files[str(config.latex)] = explanation.to_latex()
    if config.html:
        later = itertools.islice(iterations, config.iterations - 1)
        files[str(config.html)] = page([explanation, *later], title)
    last = "".join(f"Written to {file}.\n" for file in files)
    return Answer(EXIT_CODES[explanation.report.verdict], f"{explanation}\n", files, last)


def settings_of(given: dict[str, PyTree], where: str) -> Train:
    """Those of `jaxnn train` that made a run, or that would make the network. ValueError: they are none."""
    hints = get_type_hints(Train)
    known: dict[str, PyTree] = {name: v for name, v in given.items() if name in hints and name != "out"}
    known |= {name: tuple(v) for name, v in known.items() if isinstance(v, list)}
    for name, v in known.items():
        if not fits(v, hints[name]):
            raise ValueError(
                f"{where} has {readable(str(v))} for the setting {name}: `jaxnn train` writes no such thing."
            )
    settings = Train(**known)
    settings.check()
    return settings
