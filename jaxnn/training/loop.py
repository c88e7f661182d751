"""The loop over compiled chunks of iterations: each lasts about half a second, and hands out the state after it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import jax
import numpy as np

from jaxnn.protocols import PyTree
from jaxnn.training.epoch import Done, Run, State
from jaxnn.training.feed import Position
from jaxnn.training.stops import Reason

SECONDS = 0.5  # of a chunk
FASTER = 10  # times as many iterations as in the chunk before, at most
FIRST_WORK = 1e8  # flop of the first chunk, near enough


def chunks(
    call: Callable[..., tuple[State, Done]],
    given: Callable[[Position, int], PyTree],
    run: Run,
    state: State,
    *,
    position: Position,
    end: int,
    every: int | None,
) -> Iterator[tuple[State, Done]]:
    """(state, what was done) after each chunk, from this position on until the end, a number of iterations, or until a
    reason to stop is met.

    call(state, position, n, given) is a `partial` of a compiled function; given(position, n) is what its iterations are
    given, prepared while the device computes the chunk before. A chunk ends at every multiple of `every` iterations.
    """
    here = position.since(Position(0, 0), run.iterations)

    def length(pace: int) -> int:
        """The iterations of the chunk that begins here."""
        return max(0, min(pace, end - here, every - here % every if every else pace))

    is_over = (np.asarray(state.reason) != Reason.EPOCHS).all()
    pace = first_pace(run, state)
    n = 0 if is_over else length(pace)
    rows = given(position, n) if n else None
    if n:
        compile_aside(partial(call, state, position, n, rows))
    while n:
        start = time.perf_counter()
        state, done = call(state, position, n, rows)
        position, here, before = position.after(n, run.iterations), here + n, n
        n = length(pace)
        rows = given(position, n) if n else None
        if (np.asarray(state.reason) != Reason.EPOCHS).all():  # it waits for the device
            n = 0
        pace = pace_after(before, time.perf_counter() - start, run.chunk)
        yield state, done


def first_pace(run: Run, state: State) -> int:
    """The iterations of the first chunk: far less than half a second on most machines."""
    n_params = sum(v.size for v in jax.tree.leaves(state.params))
    return int(np.clip(FIRST_WORK / (6 * run.batch_size * n_params + 1), 1, run.chunk))


def pace_after(n: int, seconds: float, most: int) -> int:
    """The iterations of a chunk after one of n iterations that took so long."""
    return int(np.clip(n * SECONDS / seconds, 1, min(FASTER * n, most)))


def compile_aside(call: partial) -> None:
    """Compiles a call in a thread of its own, for signals are not heard while XLA compiles. What fails here fails again
    in the call, and says so."""
    lowered = call.func.lower(*call.args)  # type: ignore[attr-defined]  # it is compiled

    def compiled() -> None:
        with suppress(Exception):
            lowered.compile()

    thread = threading.Thread(target=compiled, daemon=True)
    thread.start()
    thread.join()
