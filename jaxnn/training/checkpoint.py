"""A run that is kept on disk while it goes on, and goes on from there after it was killed, bit for bit."""

import hashlib
import json
import math
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxnn.protocols import Params, PyTree
from jaxnn.storage import checkpoints, hold
from jaxnn.training.epoch import Run, State
from jaxnn.training.feed import Batch
from jaxnn.training.history import History, joined
from jaxnn.training.replay import one_step
from jaxnn.training.stops import Stops

ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # in the repr of what has none of its own
COMPUTATION = "the computation of a step"
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


@dataclass(frozen=True)
class Checkpoint:
    """Where a run is kept while it goes on, and how often.

    folder  of one run alone; made if it is not there. It holds the last two states
    every   seconds, at most, from one state to the next. The first is that of the first stretch, the last that of the
            end; no more than half of what a process has done is lost when it is killed
    say     say(sentence) is told what is worth knowing; by default it is a warning

    ValueError: `every` is no number of seconds.
    """

    folder: str | os.PathLike[str]
    every: float = 60.0
    say: Callable[[str], object] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.every < math.inf:
            raise ValueError(f"every is {self.every}: it must be a number of seconds, 0 or more.")


@dataclass
class Kept:
    """What a run is kept by; nothing is done where there is no checkpoint."""

    checkpoint: Checkpoint | None
    facts: dict[str, str]  # see `facts_of`
    axis: int  # of the histories, along which they grow
    begun: float = 0.0
    due: float = -math.inf

    def start(self, state: State) -> tuple[State, list[History]]:
        """The state that was kept, of the form of this one, and its history; else this one, and none.

        ValueError: what was kept is of another run, or all of it is damaged.
        """
        if self.checkpoint is None:
            return state, []
        content = checkpoints.newest(Path(self.checkpoint.folder), self.say)
        if content is None:
            return state, []
        try:
            then, there = (dict(json.loads(content.texts[name])) for name in ("run", "environment"))
            history = History(*(content.arrays[f"history/{name}"] for name in History._fields))
        except (KeyError, TypeError, ValueError, RecursionError):
            raise ValueError(f"What is kept in {self.checkpoint.folder} is no state of a run: remove it.") from None
        said = unlike(there, environment())
        comparable = {name: v for name, v in self.facts.items() if not (said and name == COMPUTATION)}
        differs = [of(name, then.get(name), now) for name, now in comparable.items() if then.get(name) != now]
        if differs:
            raise ValueError(
                f"What is kept in {self.checkpoint.folder} is of another run: {'; '.join(differs)}. Give the settings "
                "and data of that run, or another folder."
            )
        for sentence in [*said, *not_promised()]:
            self.say(sentence)
        try:
            return jax.tree.map(placed, content.tree("state", state), state), [history]
        except ValueError as error:
            raise ValueError(f"What is kept in {self.checkpoint.folder} is of another run: {error}.") from None

    def look(self, state: State, parts: Sequence[History]) -> None:
        """Keeps this state, with the histories of all stretches, if it is time to."""
        if self.checkpoint is not None and time.monotonic() >= self.due:
            self.save(state, parts)
            now = time.monotonic()
            self.due = now + min(self.checkpoint.every, now - self.begun)

    def save(self, state: State, parts: Sequence[History]) -> None:
        """Keeps this state. Where it cannot be written, that is said, and the run goes on with the one before it."""
        if self.checkpoint is None or not parts:
            return
        history = joined(parts, 0, self.axis)
        texts = {"run": json.dumps(self.facts), "environment": json.dumps(environment())}
        number = history.iteration_cost.shape[self.axis]
        try:
            checkpoints.save(Path(self.checkpoint.folder), number, {"state": state, "history": history}, texts)
        except (OSError, ValueError, MemoryError) as error:
            why = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else f"{error or 'no memory'}"
            self.say(f"The state after iteration {number} is not kept: {why}.")

    def say(self, sentence: str) -> None:
        """Tells the caller."""
        if self.checkpoint is not None and self.checkpoint.say is not None:
            self.checkpoint.say(sentence)
        else:
            warnings.warn(sentence, stacklevel=4)


@contextmanager
def kept(
    checkpoint: Checkpoint | str | os.PathLike[str] | None, facts: Callable[[], dict[str, str]], axis: int = 0
) -> Iterator[Kept]:
    """What a run of these facts is kept by. ValueError: another process keeps a run there, or no folder can be made."""
    if checkpoint is None:
        yield Kept(None, {}, axis)
        return
    checkpoint = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)
    folder = Path(checkpoint.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"Cannot keep the run in {folder}: {error.strerror}. Give another folder.") from None
    with hold.held(folder):
        yield Kept(checkpoint, facts(), axis, begun=time.monotonic())


def facts_of(
    run: Run,
    stops: Stops,
    epochs: int | str,
    *,
    key: Array,
    rate: ArrayLike | None,
    params: Params,
    data: Batch,
    validation: Batch | None,
    first: Batch,
    state: State,
) -> dict[str, str]:
    """What makes a run the one that it is, in words that are compared. first: the batch of the first iteration. state:
    of the start, of one network."""
    named: dict[str, object] = {"model": run.model, "loss": run.loss, "penalty": run.penalty, "dtype": run.dtype}
    named |= {"rows": run.m, "batch_size": run.batch_size, "epochs": epochs, **stops._asdict()}
    optimizer = getattr(run.optimizer, "__qualname__", type(run.optimizer).__name__)
    named |= {"optimizer": optimizer, "learning_rate": None if rate is None else np.asarray(rate).tolist()}
    arrays: dict[str, PyTree] = {"key": jax.random.key_data(key), "x": data.x, "y": data.y, "weights": data.w}
    arrays |= {"validation": validation, "params": params, "order": first}
    of_one = None if rate is None else np.ravel(rate)[0]
    step = one_step.lower(run, state.params, state.opt_state, first, jax.random.key(0), of_one).as_text()
    arrays |= {COMPUTATION: np.frombuffer(step.encode(), np.uint8)}
    words = {name: ADDRESS.sub("", str(value)) for name, value in named.items()}
    return words | {name: digest(v) for name, v in arrays.items()}


def digest(tree: PyTree) -> str:
    """Of shapes, dtypes and values of arrays."""
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        v = np.asarray(leaf, order="C")
        total.update(f"{v.dtype} {v.shape}".encode())
        total.update(v.reshape(-1).view(np.uint8).data)
    return f"sha256 {total.hexdigest()}"


def of(name: str, then: str | None, now: str) -> str:
    """In words, what differs."""
    return f"{name} differs" if now.startswith("sha256 ") else f"{name} was {then} and is {now}"


def placed(v: Array, like: Array) -> Array:
    """On the devices on which the other one is, if these are several."""
    return jax.device_put(v, like.sharding) if len(like.devices()) > 1 else v


def environment() -> dict[str, str]:
    """That on which bits depend, beside the run."""
    devices = jax.devices()
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "JAX": jax.__version__,
        "optax": optax.__version__,
        "device": devices[0].device_kind,
        "number of devices": str(len(devices)),
        "number of threads": str(threads),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }


def unlike(then: dict[str, str], now: dict[str, str]) -> list[str]:
    """A sentence for what was otherwise."""
    differs = [f"the {name} was {then.get(name)} and is {v}" for name, v in now.items() if then.get(name) != v]
    return [f"The run goes on, but not to the same bits: {', '.join(differs)}."] if differs else []


def not_promised() -> list[str]:
    """A sentence, where a run that goes on does not have the bits of one that was never stopped."""
    if jax.default_backend() == "gpu" and DETERMINISTIC not in os.environ.get("XLA_FLAGS", ""):
        return [f"On a GPU the same bits are not promised: set XLA_FLAGS={DETERMINISTIC} before the run begins."]
    return []
