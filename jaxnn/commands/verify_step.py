"""What `jaxnn verify --rules FILE.py:STEP` asks: of a user's file, the function to trace and its arguments."""

from pathlib import Path

from rich.console import Console

from jaxnn import verify as verifier
from jaxnn.commands.own_file import arguments, check_takes, imported, in_users_words, python_file
from jaxnn.protocols import PyTree
from jaxnn.verify import RulesReport


def rules_in_step(where: str, options: dict[str, PyTree], console: Console) -> RulesReport:
    """The report on the custom rules that STEP of FILE.py calls; where: 'FILE.py:STEP'.

    ValueError says in a sentence what is missing: the function, or example(key), which returns its arguments.
    """
    file, _, name = where.rpartition(":")
    if not file or not name.isidentifier():
        raise ValueError(f"--rules {where}: give a file and the name of a function in it, such as train.py:step.")
    path = python_file(Path(file))
    with console.status(f"verifying {path.name}"), in_users_words(path), imported(path) as module:
        for needed in (name, "example"):
            if not callable(getattr(module, needed, None)):
                raise ValueError(
                    f"{path} defines no function {needed}: to verify the rules of {name}, it defines {name} and "
                    f"example(key), which returns the tuple of the arguments of {name}."
                )
        step, args = getattr(module, name), arguments(path, module.example, options["key"])
        check_takes(step, args, f"{path}: {name}", "what example returns")
        report = verifier.rules(step, *args, **options)
        str(report)  # looks for causes, which runs the user's code
    return report
