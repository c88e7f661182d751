"""A folder that one process at a time writes into."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

with suppress(ImportError):  # not on Windows
    import fcntl


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """While this lasts no other process holds the folder; the system lets go of it when this process ends, however.

    ValueError: another process holds it. OSError: there is no such folder.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"Another process is writing into {folder}: wait until it ends.") from None
        except (NameError, OSError):  # a system or a disk without locks
            pass
        yield
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether a process holds it."""
    try:
        with held(folder):
            return False
    except ValueError:
        return True
