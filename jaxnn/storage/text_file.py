"""A text file that appears whole, or not at all."""

import os
from contextlib import suppress


def write(path, text):
    """ValueError where it cannot be written. text None: into no file, to see whether it could be."""
    if path.is_dir():
        raise ValueError(f"Cannot write {path}: it is a folder.")
    part = path.with_name(f".{path.name}.partial")
    try:
        part.write_text(text or "", encoding="utf-8")
        if text is not None:
            os.replace(part, path)
    except OSError as error:
        raise ValueError(f"Cannot write {path}: {error.strerror}.") from None
    finally:
        with suppress(OSError):
            part.unlink()
