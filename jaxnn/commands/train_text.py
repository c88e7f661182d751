"""What `jaxnn train --model gpt` and `--model llama` do."""

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import jax
from jax import numpy as jnp
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from jaxnn import signals
from jaxnn.commands.config import TrainText, seconds
from jaxnn.commands.run import command, drawn, run_of, settings_of, writing, written
from jaxnn.commands.sample import text_after
from jaxnn.commands.screen import screen
from jaxnn.commands.text_experiment import Experiment, experiment_of
from jaxnn.commands.train import EXIT_CODES, compare_with_autodiff
from jaxnn.data.labels import printable, shown
from jaxnn.losses.softmax_cross_entropy import SoftmaxCrossEntropy
from jaxnn.models.sampling import Drawing
from jaxnn.protocols import Params
from jaxnn.storage import compilations, language_file, run_folder, run_record
from jaxnn.storage.language_file import LanguageModel
from jaxnn.training.checkpoint import Checkpoint
from jaxnn.training.epoch import State
from jaxnn.training.fit import followed
from jaxnn.training.given import once
from jaxnn.training.history import Fit, History
from jaxnn.training.prepare import Training, prepare
from jaxnn.training.stops import Reason

SAMPLE_EVERY, SAMPLE = 60.0, 150  # seconds from one sample to the next at least, and its tokens
HELD_OUT = "validation"
LOSS = SoftmaxCrossEntropy()


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
            batch = experiment.x[: experiment.batch_size], experiment.y[: experiment.batch_size]
            say(compare_with_autodiff((experiment.model, LOSS, None), training.params, *batch, training.key))
            states = Checkpoint(folder / run_record.STATES, seconds(config.checkpoint_every), say)
            result = fitted(experiment, training, console, states)
            reason = Reason[result.stopped.reason.upper()]
            if reason == Reason.INTERRUPTED and not result.history.iteration_cost.size:
                raise KeyboardInterrupt
            signals.ignore()  # a second Ctrl-C must not lose what the first one kept
            say(result.stopped.message)
            model = language_model(experiment, result.params)
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
        if not (state.iteration or len(part.cost)):
            return  # the first number of an epoch was not finite
        done, now = int(state.epoch) * self.iterations + int(state.iteration), time.monotonic()
        if self.begun is None:
            self.begun, self.sampled = (done, now), now
        steps = (done - self.begun[0]) / max(now - self.begun[1] - self.paused, 1e-9)
        speed = f" {steps * self.experiment.batch_size * self.experiment.context:,.0f} tokens/s" if steps else ""
        cost = state.so_far.cost if state.iteration else part.cost[-1]
        said = f"{done:,}/{self.experiment.steps:,} cost {cost:.4f}{speed}"
        self.progress.update(self.task, completed=done, said=said)
        if len(part.cost):
            costs = f"cost {part.cost[-1]:.4f}, {HELD_OUT} cost {part.validation_cost[-1]:.4f}"
            self.say(f"epoch {int(state.epoch)}: {costs}{speed}")
        if now - self.sampled >= SAMPLE_EVERY:
            model = language_model(self.experiment, state.params)
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


def language_model(experiment: Experiment, params: Params) -> LanguageModel:
    """The network with these parameters, and what it needs to go on with a text."""
    return LanguageModel(experiment.model, params, experiment.text.vocabulary, experiment.context)


def result_line(experiment: Experiment, params: Params) -> str:
    """The cost of the validation text with these params, in a sentence."""
    J = once(lambda params, x, y: LOSS.forward(experiment.model.apply(params, x), y)[0])(params, *experiment.validation)
    unit = experiment.text.vocabulary.unit
    return f"Validation: a cost of {J:.4f} a {unit}, as if each were one of {jnp.exp(J):.1f} equally likely ones."
