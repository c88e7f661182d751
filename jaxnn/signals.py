"""Ctrl-C, and the signals by which a system ends a process: heard once, and then not in the way of what is kept."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)
INTERRUPTED = 130  # the exit code of a command that kept what was done


class Heard:
    """Which signal came first, and the exit code that says so. at_once: it ends the process without a word."""

    signum: int | None = None
    at_once: bool = False

    @property
    def exit_code(self) -> int:
        """As a shell has it: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP."""
        return 128 + (self.signum or signal.SIGINT)

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum = signum
            if self.at_once:
                os._exit(self.exit_code)
            raise KeyboardInterrupt


@contextmanager
def heard(put_back: bool = True) -> Iterator[Heard]:
    """While this lasts, the first SIGINT, SIGTERM or SIGHUP raises KeyboardInterrupt, and those after it do nothing.

    Those that are ignored (`nohup`) or have a handler of the caller's own stay as they are; outside of the main thread
    all do. put_back: False where the process ends after this, and is not to be disturbed while it does.
    """
    handler = Heard()
    is_main = threading.current_thread() is threading.main_thread()
    before = {signum: signal.getsignal(signum) for signum in ENDING if is_main}
    mine = {signum: old for signum, old in before.items() if old in DEFAULTS}
    try:
        for signum in mine:
            signal.signal(signum, handler)
        yield handler
    finally:
        for signum, old in mine.items():
            signal.signal(signum, old if put_back else signal.SIG_IGN)


def ignore() -> None:
    """From now on nothing that is `heard` interrupts, until that ends."""
    for signum in ENDING:
        if isinstance(signal.getsignal(signum), Heard):
            signal.signal(signum, signal.SIG_IGN)
