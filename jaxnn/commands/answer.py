"""What a command found, to be printed and written by whoever is told it. No JAX here: a parent process has none."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jaxnn.storage import text_file


@dataclass(frozen=True)
class Answer:
    """exit_code: of the verdict; text: to print; files: {path: content}; last: to print when they are there."""

    exit_code: int
    text: str
    files: Mapping[str, str]
    last: str = ""

    def give(self) -> int:
        """Prints the text and writes the files, each whole or not at all; the exit code. ValueError: a file cannot be
        written."""
        with suppress(BrokenPipeError):  # the reader has seen enough; the verdict is the same
            print(self.text, end="", flush=True)
        for path, content in self.files.items():
            text_file.write(Path(path), content)
        with suppress(BrokenPipeError):
            print(self.last, end="")
        return self.exit_code
