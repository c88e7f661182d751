"""A file that appears whole, or not at all."""

import os
from contextlib import suppress
from pathlib import Path


def write(path: Path, content: bytes | None) -> None:
    """Writes the content under another name beside `path`, on to the disk, and then renames it.

    content None: into no file, to see whether it could be. OSError, which names `path`, where it cannot be written;
    whatever is raised, no part of it stays, and a file that was there before stays as it was.
    """
    part = partial_of(path)
    try:
        with open(part, "wb") as file:
            file.write(content or b"")
            file.flush()
            os.fsync(file.fileno())
        if content is not None:
            os.replace(part, path)
            flush(path.parent)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None
    finally:
        with suppress(OSError):
            part.unlink()


def partial_of(path: Path) -> Path:
    """What a file is called while it is written."""
    return path.with_name(f".{path.name}.partial")


def flush(folder: Path) -> None:
    """The names in a folder on to the disk, where the system can do so."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
