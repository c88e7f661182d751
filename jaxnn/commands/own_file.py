"""A user's FILE.py: imported, its three functions found, its errors told in a sentence. No JAX before it is needed."""

import difflib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from jaxnn.commands.config import OF_A_NEW_NETWORK, Explain, Verify
from jaxnn.storage import text_file

if TYPE_CHECKING:
    from jaxnn.protocols import PyTree

NEEDED = "cost(params, *data), grad(params, *data) and example(key) -> (params, *data)"
ALIKE = {  # what people call the three functions elsewhere
    "cost": ("loss", "J", "objective", "forward", "f", "loss_fn", "cost_fn"),
    "grad": ("gradient", "gradients", "grads", "backward", "backprop", "dJ", "grad_fn"),
    "example": ("data", "sample", "inputs", "init", "draw", "args"),
}


def python_file(path: Path) -> Path:
    """mine.py for mine, if nothing is called mine itself."""
    return path if path.suffix or path.exists() else path.with_name(f"{path.name}.py")


def file_of(config: Verify | Explain) -> Path | None:
    """The user's file that the command is about; None if it is about what ships, data or a run.

    ValueError: no Python file is there, or the flags do not suit it.
    """
    if isinstance(config, Verify):
        file = config.step.file if config.step else config.file
        path = python_file(file) if file else None
    else:
        path = explained_file(config.what)
    if path is None:
        return None
    check_python(path)
    if isinstance(config, Explain):
        config.refuse(*OF_A_NEW_NETWORK, "examples", "notation")
    check_writable((config.html, config.json if isinstance(config, Verify) else config.latex), path)
    return path


def explained_file(what: str) -> Path | None:
    """mine.py, or mine if mine.py is there and no data set, file or folder is called mine."""
    from jaxnn import data  # verify, which has no use for it, does not wait for it

    path = python_file(Path(what))
    is_meant = what.endswith(".py") or (path.suffix == ".py" and path.is_file())
    return path if is_meant and what not in data.SETS else None


def check_python(path: Path) -> None:
    """ValueError: no Python file is there."""
    if path.is_dir() or path.suffix != ".py":
        raise ValueError(
            f"{path} is {'a folder' if path.is_dir() else 'no .py file'}: give a Python file that defines {NEEDED}."
        )
    if not path.exists():
        raise ValueError(f"There is no file {path}; jaxnn verify --new {path} writes an example.")


def check_writable(files: Iterable[Path | None], source: Path | None = None) -> None:
    """ValueError before the work is done, not after it: a file that cannot be written, or is the source."""
    for file in filter(None, files):
        if source and file.resolve() == source.resolve():
            raise ValueError(f"Cannot write {file}: it is the file to verify.")
        text_file.write(file, None)


@contextmanager
def imported(path: Path) -> Iterator[ModuleType]:
    """The module of this file, by its own name and with its folder first in sys.path, as `python FILE.py` has it.

    ValueError: there is no such file, or another module has its name. What it raises is raised.
    """
    name, folder = path.stem, str(path.resolve().parent)
    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
    if name in sys.modules:
        raise ValueError(f"{path} has the name of a module that is in use, {name}: rename the file.")
    module = ModuleType(name)
    module.__file__ = str(path.resolve())
    write_bytecode = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # nothing is left in the user's folder
    sys.path.insert(0, folder)
    sys.modules[name] = module
    try:
        exec(compile(path.read_bytes(), path.resolve(), "exec"), vars(module))  # as its neighbours have it
        yield module
    finally:
        sys.dont_write_bytecode = write_bytecode
        sys.modules.pop(name, None)
        with suppress(ValueError):
            sys.path.remove(folder)


@contextmanager
def in_users_words(path: Path) -> Iterator[None]:
    """ValueError for whatever the user's code raises, an end of Python too: its type, its first line, and the lines it
    went through in the folder of FILE.py; and for a TypeError of the verifier, whose message is a sentence."""
    folder = path.resolve().parent
    try:
        yield
    except BaseException as error:
        lines = lines_in(folder, traceback.extract_tb(error.__traceback__))
        if not lines and not isinstance(error, SyntaxError):
            if isinstance(error, TypeError):  # the verifier's own: a sentence
                raise ValueError(str(error)) from None
            raise
        message = str(error).strip().splitlines()[:1]
        if "SeedSequence" in str(error):  # of NumPy, which was given a JAX key
            lines.append("  In NumPy: rng = np.random.default_rng(int(jax.random.bits(key)))")
        what = ": ".join([type(error).__name__, *message])
        if isinstance(error, SystemExit):
            what = "It ends Python: only what is under if __name__ == '__main__' may do so."
        raise ValueError("\n".join([f"{path.name} does not run. {what}", *lines])) from None


def lines_in(folder: Path, frames: Sequence[traceback.FrameSummary]) -> list[str]:
    """The last three of these frames that are in a file of this folder, a line for each. frames: outermost first."""
    files = [Path(f.filename) for f in frames]
    own = [f for f, file in zip(frames, files, strict=True) if file.is_file() and file.resolve().parent == folder]
    return [f"  {Path(f.filename).name}, line {f.lineno}, in {f.name}: {f.line}" for f in own[-3:]]


def own_functions(path: Path, module: ModuleType, seed: int) -> "tuple[Callable, Callable, tuple[PyTree, ...]]":
    """(cost, grad, args): the module's, and what they take. ValueError: one is missing, or they do not fit together."""
    cost, grad, example = functions(path, module)
    args = arguments(path, example, seed)
    for name, f in (("cost", cost), ("grad", grad)):
        check_takes(f, args, f"{path}: {name}", "what example returns, params and data")
    return cost, grad, args


def functions(path: Path, module: ModuleType) -> tuple[Callable, Callable, Callable]:
    """cost, grad and example of the module. ValueError: one is missing, or is no function."""
    for name in ALIKE:
        if not hasattr(module, name):
            others = [n for n, v in vars(module).items() if callable(v) and n not in ALIKE]
            near = [n for n in ALIKE[name] if n in others] or difflib.get_close_matches(name, others, 1)
            hint = f", but {near[0]}: rename it?" if near else "."
            raise ValueError(f"{path} defines no {name}{hint} A file to verify defines {NEEDED}.")
        if not callable(getattr(module, name)):
            raise ValueError(f"{name} in {path} is no function: a file to verify defines {NEEDED}.")
    return module.cost, module.grad, module.example


def arguments(path: Path, example: Callable, seed: int) -> "tuple[PyTree, ...]":
    """What example(key) returns: a tuple (params, *data). ValueError: it takes no key, or returns no such tuple."""
    import jax

    key = jax.random.key(seed)
    check_takes(example, (key,), f"{path}: example", "one argument, a JAX key")
    args = example(key)
    if type(args) is not tuple or not args:
        what = "an empty tuple" if isinstance(args, tuple) and not args else type(args).__name__
        raise ValueError(f"example in {path} returns {what}: it must return a tuple (params, *data).")
    try:
        jax.tree.leaves(args)
    except (RecursionError, SystemError):  # the latter of a list that holds itself
        raise ValueError(f"example in {path} returns lists within lists without end: give arrays in a few.") from None
    return args


def check_takes(f: Callable, args: "tuple[PyTree, ...]", name: str, what: str) -> None:
    """ValueError: f does not take these arguments, which are `what`."""
    try:
        signature = inspect.signature(f)
    except ValueError:  # a builtin need not have one
        return
    try:
        signature.bind(*args)
    except TypeError as error:
        raise ValueError(f"{name}{signature} does not take {what}: {error}.") from None
