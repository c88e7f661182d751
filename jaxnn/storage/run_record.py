"""The folder of a run from its first moment on: made, held and, where the run was killed, found again. No JAX."""

import itertools
import json
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from jaxnn.storage import hold, text_file, whole_file

FORMAT = "jaxnn run 1"
RECORD = "run.json"
STATES = "checkpoints"  # there while the run is not finished
MODEL = "model.safetensors"
LONGEST = 2**20  # bytes of a record


@contextmanager
def begun(
    wanted: Path | None, name: str, command: str, settings: Mapping[str, object], notes: list[str]
) -> Iterator[Path]:
    """A folder of its own for a run, `wanted` or else runs/NAME, held until this ends; with a record of what runs.

    A name that is taken becomes NAME-2, NAME-3, …: runs side by side do not meet. Left with neither a state nor a
    model in it, the folder goes, and so do parents that were made for it. notes: sentences for the record.
    ValueError: `wanted` is there already or cannot be made.
    """
    base = wanted or Path("runs", name)
    new_parents = [parent for parent in base.parents if not parent.exists()]
    with ExitStack() as stack:
        try:
            base.parent.mkdir(parents=True, exist_ok=True)
            folder = made([wanted] if wanted else named_like(base), stack)
            if folder is None:
                on = f", or go on with it: {to_go_on(command, base)}" if is_unfinished(base) else ""
                raise ValueError(f"{base} is there already: give --out another name, or move it away{on}.")
            record = {"format": FORMAT, "command": command, "settings": dict(settings), "notes": notes}
            text_file.write(folder / RECORD, json.dumps(record, default=str, indent=1) + "\n")
            (folder / STATES).mkdir()
        except OSError as error:
            raise ValueError(f"Cannot make the run folder {base}: {error.strerror}. Give --out another name.") from None
        try:
            yield folder
        finally:
            if not (folder / MODEL).exists() and not any((folder / STATES).rglob("*.safetensors")):
                shutil.rmtree(folder, ignore_errors=True)
                with suppress(OSError):  # not empty
                    for parent in new_parents:
                        parent.rmdir()


def made(folders: Iterable[Path], stack: ExitStack) -> Path | None:
    """The first of these that is new or was left by a killed run before its record, held; None if there is none."""
    for folder in folders:
        with suppress(FileExistsError):
            folder.mkdir()
        with suppress(ValueError, FileNotFoundError, NotADirectoryError, PermissionError), ExitStack() as mine:
            mine.enter_context(hold.held(folder))
            if {path.name for path in folder.iterdir()} <= {whole_file.partial_of(folder / RECORD).name}:
                stack.push(mine.pop_all())
                return folder
    return None


def named_like(base: Path) -> Iterator[Path]:
    """NAME, NAME-2, NAME-3, …"""
    yield base
    for n in itertools.count(2):
        yield base.with_name(f"{base.name}-{n}")


def settings_of(folder: Path, command: str) -> dict[str, object]:
    """The settings of the run in this folder. ValueError: no run of this command was begun there."""
    record = record_of(folder)
    if record.get("format") != FORMAT or not isinstance(record.get("settings"), dict):
        raise ValueError(f"{folder / RECORD} is no {FORMAT}: begin the run anew.")
    if record.get("command") != command:
        raise ValueError(f"{folder} is of another command: {to_go_on(record.get('command'), folder)}.")
    return record["settings"]


def record_of(folder: Path) -> dict[str, Any]:
    """What is recorded of a run. ValueError: no record, or no JSON."""
    path = folder / RECORD
    try:
        with open(path, encoding="utf-8") as file:
            record = json.loads(file.read(LONGEST))
    except FileNotFoundError:
        raise ValueError(f"There is no run in {folder}: it has no {RECORD}.") from None
    except OSError as error:
        raise ValueError(f"Cannot read {path}: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is damaged: begin the run anew.") from None
    return record if isinstance(record, dict) else {}


def finish(folder: Path) -> None:
    """The run is finished: its states go."""
    shutil.rmtree(folder / STATES, ignore_errors=True)


def is_unfinished(folder: Path) -> bool:
    """Whether a run was begun there, and can go on: it has states, or no model yet."""
    return (folder / RECORD).is_file() and ((folder / STATES).is_dir() or not (folder / MODEL).is_file())


def left(parent: Path) -> list[str]:
    """A sentence for the runs in this folder that were killed: nobody holds them, and they have no model."""
    runs = []
    for path in sorted(parent.glob(f"*/{RECORD}")):
        folder = path.parent
        if is_ours(folder) and is_unfinished(folder) and not (folder / MODEL).exists() and not hold.is_held(folder):
            runs.append(folder)
    if not runs:
        return []
    more = f" (and {len(runs) - 3} more)" if len(runs) > 3 else ""
    names = ", ".join(map(str, runs[:3]))
    on = to_go_on(record_of(runs[0]).get("command"), runs[0])
    return [f"Left by runs that were killed: {names}{more}. To go on with one: {on}; or remove it."]


def to_go_on(command: object, folder: Path) -> str:
    """The line that goes on with a run."""
    return f"jaxnn {command} --resume {shlex.quote(str(folder))}"


def is_ours(folder: Path) -> bool:
    """Whether its record is one of ours."""
    try:
        return record_of(folder).get("format") == FORMAT
    except ValueError:
        return False
