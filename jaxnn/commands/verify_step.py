"""What `jaxnn verify --rules FILE.py:STEP` asks: of a user's file, the function to trace and its arguments."""

from pathlib import Path
from types import ModuleType

from jaxnn import verify as verifier
from jaxnn.commands.own_file import arguments, check_takes
from jaxnn.protocols import PyTree
from jaxnn.verify import RulesReport


def rules_in(path: Path, name: str, module: ModuleType, options: dict[str, PyTree]) -> RulesReport:
    """The report on the custom rules that the function of this name calls; module: its file, imported.

    ValueError says in a sentence what is missing: the function, or example(key), which returns its arguments.
    """
    for needed in (name, "example"):
        if not callable(getattr(module, needed, None)):
            raise ValueError(
                f"{path} defines no function {needed}: a file whose rules are verified defines {name} and "
                f"example(key), which returns the tuple of the arguments of {name}."
            )
    step, args = getattr(module, name), arguments(path, module.example, options["key"])
    check_takes(step, args, f"{path}: {name}", "what example returns")
    return verifier.rules(step, *args, **options)
