"""A file of data before it is read: a regular one, of a size that memory has room for."""

import stat
from pathlib import Path

from jaxnn import memory

COPIES = 3  # of the numbers as float64: as they are read, scaled, and on their way to the device


def check_file(path: Path) -> int:
    """Its size in bytes. ValueError: no such file, or one that need not end, such as a pipe or a device.

    A folder passes: it cannot be opened, and then that is said.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ValueError(f"Cannot read {path}: {error.strerror}.") from None
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise ValueError(f"Cannot read {path}: it is a pipe or a device. Write what it gives into a file first.")
    return status.st_size


def check_room(path: Path, size: float) -> None:
    """ValueError: numbers that take this many bytes as float64 are too many to work with."""
    memory.check_fits(COPIES * size, f"{path}", "give fewer rows.")
