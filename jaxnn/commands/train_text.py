"""What `jaxnn train --model gpt` and `--model llama` do."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from math import exp
from typing import NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp
from jax.tree_util import tree_map_with_path
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from jaxnn import memory, signals
from jaxnn.commands.config import TrainText, seconds
from jaxnn.commands.run import command, drawn, run_of, settings_of, writing, written
from jaxnn.commands.sample import text_after
from jaxnn.commands.screen import screen
from jaxnn.commands.train import EXIT_CODES
from jaxnn.data.labels import printable, shown
from jaxnn.data.tokens import Text, contexts, read_text
from jaxnn.experiment import device_memory, params_dtype
from jaxnn.losses.softmax_cross_entropy import SoftmaxCrossEntropy
from jaxnn.models.gpt import gpt
from jaxnn.models.llama import llama
from jaxnn.models.sampling import Drawing
from jaxnn.penalty import is_weight
from jaxnn.protocols import Layer, Params, PyTree
from jaxnn.storage import compilations, language_file, run_folder, run_record
from jaxnn.storage.language_file import LanguageModel
from jaxnn.training.checkpoint import Checkpoint
from jaxnn.training.epoch import State
from jaxnn.training.fit import followed
from jaxnn.training.given import once
from jaxnn.training.history import Fit, History
from jaxnn.training.prepare import Training, prepare
from jaxnn.training.stops import Reason

EPOCHS = 4  # if nothing is said
MOST_VALIDATED = 2**18  # tokens of the last tenth whose cost is watched
SAMPLE_EVERY, SAMPLE = 60.0, 150  # seconds from one sample to the next at least, and its tokens
HELD_OUT = "validation"
LOSS = SoftmaxCrossEntropy()

Say = Callable[[str], object]


class Experiment(NamedTuple):
    """All that is trained, and on what. x, y and those of validation: (m, T) contexts and the tokens after theirs."""

    text: Text
    model: Layer
    x: np.ndarray
    y: np.ndarray
    validation: tuple[np.ndarray, np.ndarray]
    batch_size: int
    steps: int
    epochs: int  # the steps are in so many
    optimizer: optax.GradientTransformation
    remarks: tuple[str, ...]

    def language_model(self, params: Params) -> LanguageModel:
        return LanguageModel(self.model, params, self.text.vocabulary, self.x.shape[1])


def train_text(config: TrainText) -> int:
    """Trains a language model and writes a run folder. Exit code as that of `train`.

    ValueError: settings that do not fit the text; a text that cannot be read; a folder that cannot be made.
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
        training = prepared(config, experiment)
        with run_of(config, f"{experiment.text.name}-{config.model}", say) as folder:
            for line in (*described(config, experiment, training.params), *experiment.remarks):
                say(line)
            states = Checkpoint(folder / run_record.STATES, seconds(config.checkpoint_every), say)
            result = fitted(experiment, training, console, states)
            reason = Reason[result.stopped.reason.upper()]
            if reason == Reason.INTERRUPTED and not result.history.iteration_cost.size:
                raise KeyboardInterrupt
            signals.ignore()  # a second Ctrl-C must not lose what the first one kept
            say(result.stopped.message)
            model = experiment.language_model(result.params)
            with writing(config, folder):
                folder.mkdir(parents=True, exist_ok=True)
                language_file.save(folder / run_record.MODEL, model, settings_of(config))
                run_folder.write_history(folder, *model[:2], result.history, HELD_OUT, LOSS.metric)
            say(result_line(experiment, result.params))
            drawn(partial(run_folder.draw, folder, result.history, HELD_OUT, LOSS.metric, experiment.text.name), say)
            if reason == Reason.INTERRUPTED:
                say(f"To go on: {run_record.to_go_on(command(config), folder)}")
            else:
                run_record.finish(folder)
            say(written(folder))
    return EXIT_CODES.get(reason, 0)


def experiment_of(config: TrainText) -> Experiment:
    """What these settings train. ValueError: settings that do not fit the text, or a text that cannot be read."""
    text = read_text(config.data, as_bytes=config.tokens == "bytes")
    train, last = text.parts(config.context)
    x, y = contexts(train, config.context)
    most = max(1, MOST_VALIDATED // config.context)
    last_x, last_y = (v[:most] for v in contexts(last, config.context))
    batch_size = min(config.batch_size, len(x))
    m = len(x) // batch_size * batch_size
    steps = config.steps or (config.epochs or EPOCHS) * (m // batch_size)
    model = model_of(config, text.vocabulary.size)
    check_memory(config, model, text.vocabulary.size, last_x.size, batch_size)
    return Experiment(
        text=text,
        model=model,
        x=x[:m],
        y=y[:m],
        validation=(last_x, last_y),
        batch_size=batch_size,
        steps=steps,
        epochs=-(-steps * batch_size // m),
        optimizer=optimizer_of(config, steps // config.accumulate),
        remarks=tuple(remarks(config, text, len(x), batch_size, last_x.size)),
    )


def remarks(config: TrainText, text: Text, contexts: int, batch_size: int, validated: int) -> Iterator[str]:
    """A sentence for what is otherwise than one would think."""
    if batch_size < config.batch_size:
        yield f"--batch-size {config.batch_size} is more than the contexts to train on: each batch is all {contexts}."
    if contexts % batch_size:
        yield f"{contexts % batch_size} of {contexts} contexts are left out: each batch has {batch_size}."
    if validated >= MOST_VALIDATED // config.context * config.context:
        yield f"The validation cost is that of the first {validated:,} {text.vocabulary.unit}s of the last tenth."


def model_of(config: TrainText, vocabulary: int) -> Layer:
    """ValueError: heads that do not divide the width, or an odd number of entries for each of a llama."""
    layers, heads, width, keep = config.layers, config.heads, config.width, config.keep
    if config.model == "gpt":
        return gpt(vocabulary, config.context, layers=layers, heads=heads, width=width, keep=keep)
    model = llama(vocabulary, layers=layers, heads=heads, kv_heads=config.kv_heads, width=width, keep=keep)
    if width // heads % 2:
        raise ValueError(
            f"A width of {width} gives each of {heads} heads {width // heads} numbers, and a llama turns pairs."
        )
    return model


def optimizer_of(config: TrainText, updates: int) -> optax.GradientTransformation:
    """AdamW, clipping, warm-up and cosine. ValueError: a warm-up that is not over before the updates are."""
    warm_up = min(100, updates // 10) if config.warm_up is None else config.warm_up
    if warm_up >= updates:
        raise ValueError(
            f"--warm-up is {warm_up}, and there are {updates} updates in all: give fewer, or train longer."
        )
    rate = config.learning_rate
    schedule = optax.warmup_cosine_decay_schedule(rate / (warm_up + 1), rate, warm_up, updates, rate / 10)
    adamw = optax.adamw(schedule, 0.9, 0.99, weight_decay=config.weight_decay, mask=weights)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), adamw)
    if config.accumulate == 1:
        return optimizer
    return optax.MultiSteps(optimizer, config.accumulate).gradient_transformation()


def weights(params: Params) -> PyTree:
    """Which leaves decay: by their names, for a γ of layers side by side is a matrix too."""
    return tree_map_with_path(lambda path, _: is_weight(path), params)


def check_memory(config: TrainText, model: Layer, vocabulary: int, validated: int, batch_size: int) -> None:
    """ValueError: it takes more memory than there is; by the least that it can take, and nothing is allocated."""
    dtype = params_dtype(config.dtype)
    params = jax.eval_shape(partial(model.init, dtype=dtype), jax.random.key(0))
    count = sum(v.size for v in jax.tree.leaves(params))
    saved = config.layers * config.width * batch_size * config.context  # of each block one input at least
    outputs = max(saved, validated * max(3 * config.width, vocabulary))
    what = f"To train a {config.model} of {count:,} parameters on {batch_size} contexts of {config.context} at a time"
    needed = (4 * count + outputs) * jnp.dtype(dtype).itemsize
    memory.check_fits(needed, what, "give a smaller width, context or batch.", device_memory())


def prepared(config: TrainText, experiment: Experiment) -> Training:
    """The run, which ends after its steps."""
    training = prepare(
        experiment.model,
        LOSS,
        experiment.x,
        experiment.y,
        key=jax.random.key(config.seed),
        optimizer=experiment.optimizer,
        epochs=experiment.epochs,
        batch_size=experiment.batch_size,
        validation=experiment.validation,
        dtype=config.dtype,
    )
    return replace(training, steps=experiment.steps)


def described(config: TrainText, experiment: Experiment, params: Params) -> Iterator[str]:
    """The text and the model, a line each."""
    text, vocabulary = experiment.text, experiment.text.vocabulary
    known = "" if vocabulary.characters is None else f", {vocabulary.size} different"
    parts = f"{experiment.x.size:,} to train on, {experiment.validation[0].size:,} for validation"
    yield f"{shown(text.name)}: {len(text.tokens):,} {vocabulary.unit}s{known} ({parts})"
    count = sum(v.size for v in jax.tree.leaves(params))
    sizes = f"{config.layers} blocks, {config.heads} heads, width {config.width}, context {config.context}"
    batches = f"{experiment.steps:,} batches of {experiment.batch_size} contexts"
    yield f"{config.model}: {sizes}; {count:,} parameters; {batches}"


class Watch:
    """What is said of a run while it goes on: in a bar, a line an epoch, and a sample now and then."""

    def __init__(self, experiment: Experiment, training: Training, progress: Progress) -> None:
        self.experiment, self.iterations, self.progress = experiment, training.run.iterations, progress
        self.task = progress.add_task("", total=experiment.steps, said="")
        self.begun: tuple[int, float] | None = None  # steps and time, after what was compiled first
        self.sampled, self.paused = 0.0, 0.0  # when there was a sample, and seconds that all of them took

    def look(self, state: State, part: History) -> None:
        """After a stretch, in which an epoch ends at most."""
        done, now = int(state.epoch) * self.iterations + int(state.iteration), time.monotonic()
        if self.begun is None:
            self.begun, self.sampled = (done, now), now
        steps = (done - self.begun[0]) / max(now - self.begun[1] - self.paused, 1e-9)
        speed = f" {steps * self.experiment.batch_size * self.experiment.x.shape[1]:,.0f} tokens/s" if steps else ""
        cost = state.so_far.cost if state.iteration else part.cost[-1]
        said = f"{done:,}/{self.experiment.steps:,} cost {cost:.4f}{speed}"
        self.progress.update(self.task, completed=done, said=said)
        if len(part.cost):
            costs = f"cost {part.cost[-1]:.4f}, {HELD_OUT} cost {part.validation_cost[-1]:.4f}"
            self.say(f"epoch {int(state.epoch)}: {costs}{speed}")
        if now - self.sampled >= SAMPLE_EVERY:
            model = self.experiment.language_model(state.params)
            self.say(f"{said}; a sample:")
            self.say(printable(text_after(model, None, SAMPLE, Drawing(), seed=done)))
            self.sampled = time.monotonic()
            self.paused += self.sampled - now

    def say(self, text: str) -> None:
        self.progress.console.print(text, markup=False, soft_wrap=True)


def fitted(experiment: Experiment, training: Training, console: Console, checkpoint: Checkpoint) -> Fit:
    """The run, watched."""
    left = TimeRemainingColumn()
    columns = TextColumn("training"), BarColumn(20), TextColumn("{task.fields[said]}"), TimeElapsedColumn(), left
    with Progress(*columns, console=console) as progress:
        watch = Watch(experiment, training, progress)
        return followed(training, watch.look, every=1, checkpoint=checkpoint)


def result_line(experiment: Experiment, params: Params) -> str:
    """The cost of the validation text with these params, in a sentence."""
    J = once(lambda params, x, y: LOSS.forward(experiment.model.apply(params, x), y)[0])(params, *experiment.validation)
    unit = experiment.text.vocabulary.unit
    return f"Validation: a cost of {J:.4f} a {unit}, as if each were one of {exp(J):.1f} equally likely ones."
