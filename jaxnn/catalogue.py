"""What ships, by the names of its files: `activations`, `layers`, `losses`. No JAX: `jaxnn --help` never waits for it.

A file is named as the command line calls what it holds, and a class as its file in CamelCase: layer_norm.py holds
LayerNorm.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType


def names(room: str) -> tuple[str, ...]:
    """The names of the files in a room of jaxnn, in the order of the alphabet."""
    return tuple(sorted(path.stem for path in Path(__file__).with_name(room).glob("[a-z]*.py")))


def module(room: str, name: str) -> ModuleType:
    """The module in this file."""
    return import_module(f"jaxnn.{room}.{name}")


def class_name(name: str) -> str:
    """The name of the class in a file of this name."""
    return "".join(word.capitalize() for word in name.split("_"))


def member(room: str, name: str) -> type:
    """The class in this file of a room."""
    return getattr(module(room, name), class_name(name))
