"""A text file that appears whole, or not at all."""

from pathlib import Path

from jaxnn.storage import whole_file


def write(path: Path, text: str | None) -> None:
    """Writes the text in UTF-8; text None: into no file, to see whether it could be.

    ValueError where it cannot be written.
    """
    if path.is_dir():
        raise ValueError(f"Cannot write {path}: it is a folder.")
    try:
        whole_file.write(path, None if text is None else text.encode())
    except OSError as error:
        raise ValueError(f"Cannot write {path}: {error.strerror}.") from None
