"""What `jaxnn train` and `jaxnn sweep` do alike: the folder of a run, from its first moment to its last line."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxnn.commands.config import NOT_OF_THE_RUN, Sweep, Train, TrainText
from jaxnn.data.labels import readable
from jaxnn.storage import hold, run_record
from jaxnn.training.checkpoint import not_promised

Say = Callable[[str], object]


@contextmanager
def run_of(config: Train | TrainText | Sweep, name: str, say: Say) -> Iterator[Path]:
    """The folder of a new run, or of the one that goes on; held until this ends. What killed runs left beside a new
    one is said. ValueError: as `run_record.begun`, or another process writes into it."""
    if config.resume:
        with hold.held(config.resume):
            yield config.resume
        return
    for sentence in run_record.left((config.out or Path("runs", name)).parent):
        say(sentence)
    with run_record.begun(config.out, name, command(config), settings_of(config), not_promised()) as folder:
        yield folder


def settings_of(config: Train | TrainText | Sweep) -> dict[str, object]:
    """Those of the run: neither those of the process that does it, nor where it is."""
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in NOT_OF_THE_RUN}


def command(config: Train | TrainText | Sweep) -> str:
    """What the command is called."""
    return "sweep" if isinstance(config, Sweep) else "train"


@contextmanager
def writing(config: Train | TrainText | Sweep, folder: Path) -> Iterator[None]:
    """ValueError, with the line that goes on from the last state, where something cannot be written."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"Cannot write {error.filename}: {error.strerror}. The run is kept in {folder}; make room, then: "
            f"{run_record.to_go_on(command(config), folder)}"
        ) from None


def drawn(draw: Callable[[], None], say: Say) -> None:
    """Draws a picture. Where that fails it is said, and nothing else is lost."""
    try:
        draw()
    except ImportError:
        say("There is no picture: it needs matplotlib.")
    except OSError as error:
        say(f"There is no picture, for {error.filename}: {error.strerror}.")
    except Exception as error:  # whatever matplotlib makes of a title
        say(f"There is no picture: {readable(str(error) or type(error).__name__)}")


def written(folder: Path) -> str:
    """The last line of a run."""
    return f"Written to {folder}: {', '.join(sorted(path.name for path in folder.iterdir() if path.is_file()))}"
