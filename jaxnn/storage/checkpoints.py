"""The last two states of a run, in a folder of their own: a run that was killed goes on from there."""

from collections.abc import Callable, Mapping
from pathlib import Path

from jaxnn.protocols import PyTree
from jaxnn.storage import tree_file
from jaxnn.storage.tree_file import Content

FORMAT = "jaxnn checkpoint 1"
KEPT = 2


def save(folder: Path, number: int, trees: Mapping[str, PyTree], texts: Mapping[str, str]) -> None:
    """Writes a state as that of this number, whole or not at all; then removes all but it and the one before it.
    OSError: it cannot be written; those before it stay."""
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(folder, number)
    tree_file.write(path, trees, {"format": FORMAT, **texts})
    there = paths(folder)
    last = there.index(path) + 1
    for other in [*there[: max(0, last - KEPT)], *there[last:]]:  # those of a higher number were damaged
        other.unlink()


def newest(folder: Path, say: Callable[[str], object]) -> Content | None:
    """The state of the highest number that is whole; None if there is none at all. What was left half written is
    removed; say(sentence) tells of what is damaged. ValueError: all there are are damaged."""
    for part in folder.glob(".*.partial"):
        part.unlink()
    there = paths(folder)
    for path in reversed(there):
        try:
            content = tree_file.read(path)
            if not (content.is_checked and content.texts.get("format") == FORMAT):
                raise ValueError(f"{path} is no checkpoint of this version of jaxnn.")
        except ValueError as error:
            if path == there[0]:
                raise ValueError(f"{error} There is no other: remove {folder} to begin anew.") from None
            say(f"{error} The run goes on from the state before it.")
        else:
            return content
    return None


def path_of(folder: Path, number: int) -> Path:
    """The file of the state of this number."""
    return folder / f"{number}.safetensors"


def paths(folder: Path) -> list[Path]:
    """The files of the states, by their numbers."""
    return sorted((path for path in folder.glob("*.safetensors") if path.stem.isdecimal()), key=lambda p: int(p.stem))
