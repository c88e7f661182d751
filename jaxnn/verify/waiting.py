"""A line for whoever waits: on standard error after two seconds, if that is a terminal or a command asks for it."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

SILENT = 2.0  # seconds
announced: ContextVar[bool] = ContextVar("announced", default=False)  # whether a command asks for it


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Says what is computed in here once it has taken so long that one wonders."""
    is_heard = announced.get() or sys.stderr.isatty()
    timer = threading.Timer(SILENT, lambda: print(f"{what}: computing …", file=sys.stderr, flush=True))
    timer.daemon = True
    if is_heard:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def aloud() -> Iterator[None]:
    """Whoever waits in here is told, whatever standard error is."""
    token = announced.set(True)
    try:
        yield
    finally:
        announced.reset(token)
