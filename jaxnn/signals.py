"""Ctrl-C, and the signals by which a system ends a process: heard, and then not in the way of what is kept."""

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)
INTERRUPTED = 130  # the exit code of a command that kept what was done
AGAIN = 1.0  # seconds after which another signal interrupts too: the first may have been swallowed, as in a __del__


class Heard:
    """A handler that raises KeyboardInterrupt. signum: the first that was heard. deaf: it does nothing any more.
    at_once: it ends the process without a word."""

    signum: int | None = None
    deaf: bool = False
    at_once: bool = False
    last: float = -math.inf

    @property
    def exit_code(self) -> int:
        """As a shell has it: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP."""
        return 128 + (self.signum or signal.SIGINT)

    def raise_again(self) -> None:
        """KeyboardInterrupt if one was raised and lost: Python swallows what falls into a `__del__` or a C callback."""
        if self.signum is not None and not self.deaf:
            raise KeyboardInterrupt

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.deaf or time.monotonic() < self.last + AGAIN:
            return
        self.signum, self.last = self.signum or signum, time.monotonic()
        if self.at_once:
            os._exit(self.exit_code)
        raise KeyboardInterrupt


@contextmanager
def heard(put_back: bool = True) -> Iterator[Heard]:
    """While this lasts, SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt, until the handler is made deaf.

    Those that are ignored (`nohup`) or have a handler of the caller's own stay as they are; outside of the main thread
    all do. Within another one it is the same handler, as deaf after this as before. put_back: False where the process
    ends after this, and is not to be disturbed while it does.
    """
    outer = signal.getsignal(signal.SIGINT)
    if isinstance(outer, Heard):
        was_deaf = outer.deaf
        try:
            yield outer
        finally:
            outer.deaf = was_deaf
        return
    handler = Heard()
    is_main = threading.current_thread() is threading.main_thread()
    before = {signum: signal.getsignal(signum) for signum in ENDING if is_main}
    mine = {signum: old for signum, old in before.items() if old in DEFAULTS}
    try:
        for signum in mine:
            signal.signal(signum, handler)
        yield handler
    finally:
        handler.deaf = True
        for signum, old in mine.items():
            signal.signal(signum, old if put_back else signal.SIG_IGN)


def ignore() -> None:
    """From now on nothing that is `heard` interrupts."""
    for signum in ENDING:
        handler = signal.getsignal(signum)
        if isinstance(handler, Heard):
            handler.deaf = True
