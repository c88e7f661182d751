"""What `jaxnn verify --rules FILE.py:STEP` asks: of a user's file, the function to trace and its arguments."""

from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from jaxnn import verify as verifier
from jaxnn.commands.own_file import arguments, check_takes, python_file
from jaxnn.protocols import PyTree
from jaxnn.verify import RulesReport


class Step(NamedTuple):
    """A function in a user's file."""

    path: Path
    name: str


def step_of(where: str) -> Step:
    """The step that 'FILE.py:STEP' means. ValueError: it is not of this form."""
    file, _, name = where.rpartition(":")
    if not file or not name.isidentifier():
        raise ValueError(f"--rules {where}: give a file and the name of a function in it, such as train.py:step.")
    return Step(python_file(Path(file)), name)


def rules_in(step: Step, module: ModuleType, options: dict[str, PyTree]) -> RulesReport:
    """The report on the custom rules that the step calls; module: its file, imported. ValueError says in a sentence
    what the file does not define: the function, or example(key), which returns its arguments."""
    path, name = step
    for needed in (name, "example"):
        if not callable(getattr(module, needed, None)):
            raise ValueError(
                f"{path} defines no function {needed}: a file whose rules are verified defines {name} and "
                f"example(key), which returns the tuple of the arguments of {name}."
            )
    f, args = getattr(module, name), arguments(path, module.example, options["key"])
    check_takes(f, args, f"{path}: {name}", "what example returns")
    return verifier.rules(f, *args, **options)
