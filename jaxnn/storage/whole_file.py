"""A file that appears whole, or not at all."""

import os
from contextlib import suppress
from pathlib import Path


def write(path: Path, content: bytes | None) -> None:
    """Writes the content under another name beside `path`, on to the disk, and then renames it.

    content None: into no file, to see whether it could be. OSError where it cannot be written; whatever is raised, no
    part of it stays, and a file that was there before stays as it was.
    """
    part = path.with_name(f".{path.name}.partial")
    try:
        with open(part, "wb") as file:
            file.write(content or b"")
            file.flush()
            os.fsync(file.fileno())
        if content is not None:
            os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink()
