"""Who may import whom: the walls between the rooms, as docs/design.md draws them, and no circle anywhere."""

import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {  # a room of jaxnn, a folder or a file: the rooms beside itself that it may import
    "catalogue": set(),
    "protocols": set(),
    "mean": {"dtypes"},
    "signals": set(),
    "initializers": {"catalogue"},
    "text": set(),
    "factored": {"shapes"},
    "backprop": {"protocols"},
    "penalty": {"dtypes", "protocols"},
    "metrics": {"dtypes"},
    "activations": {"protocols"},
    "dtypes": set(),
    "cotangent": {"dtypes", "protocols"},
    "blocks": {"cotangent"},
    "shapes": {"dtypes"},
    "numbers": {"protocols"},
    "ops": {"activations", "blocks", "catalogue", "cotangent", "dtypes", "numbers", "protocols", "shapes"},
    "layers": {"catalogue", "cotangent", "dtypes", "factored", "initializers", "ops", "protocols", "shapes", "text"},
    "losses": {"factored", "mean", "ops", "protocols", "text"},
    "models": {"factored", "layers", "ops", "protocols"},
    "examples": {"catalogue", "protocols"},
    "memory": set(),
    "data": {"memory"},
    "trained": {"data", "protocols"},
    "storage": {"catalogue", "factored", "layers", "trained", "data", "protocols"},
    "training": {"dtypes", "protocols", "metrics", "backprop", "factored", "layers", "data.checks", "signals"}
    | {"storage.checkpoints", "storage.hold"},
    "experiment": {"catalogue", "data", "layers", "memory", "models", "penalty", "protocols", "training.given"}
    | {"training.optimizer"},
    "verify": {"catalogue", "protocols", "backprop", "layers", "models", "examples"},
    "explanation": {"protocols", "backprop", "layers", "penalty", "verify"},
    "commands": {
        "catalogue",
        "ops",
        "protocols",
        "backprop",
        "layers",
        "penalty",
        "metrics",
        "models",
        "examples",
        "data",
        "losses",
        "memory",
    }
    | {"trained", "storage", "training", "experiment", "verify", "explanation", "signals"},
    "cli": {"commands", "signals"},
    "__main__": {"cli", "signals"},
    "__init__": {"catalogue"},
}
GATHERED = {"reports", "arguments", "arithmetic", "tracing", "evidence"}
INSIDE_VERIFY = {  # the same of the rooms of jaxnn.verify
    "options": set(),
    "domains": set(),
    "reports": set(),
    "arguments": {"domains"},
    "arithmetic": set(),
    "tracing": {"arguments", "arithmetic"},
    "answers": {"arguments"},
    "problems": {"answers", "arguments", "tracing"},
    "custom_problems": {"arguments", "problems", "tracing"},
    "restriction": {"options", "arguments", "domains", "arithmetic", "tracing", "evidence"},
    "evidence": {"options", "domains", "reports", "arguments", "arithmetic", "tracing"},
    "custom_rules": {"arguments", "evidence", "reports", "tracing"},
    "diagnosis": GATHERED,
    "links": GATHERED,
    "power": GATHERED,
    "precision": GATHERED,
    "notes": {*GATHERED, "options", "restriction"},
    "decide": {*GATHERED, "options", "notes", "diagnosis", "links", "power", "precision"},
    "named_model": set(),
    "questions": {"options", "arguments", "problems", "decide", "custom_rules", "named_model", "reports"}
    | {"custom_problems", "restriction", "waiting", "untraced"},
    "exact_value": GATHERED,
    "many_cases": {*GATHERED, "decide", "notes", "problems", "questions"},
    "whole_step": {*GATHERED, "options", "custom_problems", "custom_rules", "questions", "restriction"},
    "strategies": set(),
    "waiting": set(),
    "untraced": set(),
    "__init__": {"domains", "questions", "exact_value", "many_cases", "whole_step", "reports"},
}
LIBRARIES = {"jaxnn.data": {"numpy", "pyarrow"}, "jaxnn.commands.config": {"tyro"}, "jaxnn.cli": {"tyro"}}
LIBRARIES |= {"jaxnn.memory": set(), "reference": {"numpy"}}


def imports(path):
    """The full names of what a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


def within(name, package):
    return name == package or name.startswith(f"{package}.")


def files(name):
    path = ROOT / name.replace(".", "/")
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def rooms(package):
    """The folders and files in a package."""
    return {path.stem for path in (ROOT / package).iterdir() if path.suffix == ".py" or any(path.rglob("*.py"))}


def test_every_room_has_walls():
    assert rooms("jaxnn") == ROOMS.keys()
    assert rooms("jaxnn/verify") == INSIDE_VERIFY.keys()


def test_the_map_of_design_md_has_every_room_and_fits_on_a_screen():
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    (drawn,) = re.findall(r"^    jaxnn/\n(?:    .*\n)+", text, re.MULTILINE)
    assert drawn.count("\n") <= 40
    words = {*re.findall(r"\w+", drawn)}
    hidden = {"__init__", "__main__"}
    assert (rooms("jaxnn") | rooms("jaxnn/verify")) - hidden <= words
    for path in re.findall(r"^ +(\w+/)(?=.*\n)", drawn, re.MULTILINE):  # the folders that are drawn exist
        assert [*ROOT.glob(path), *ROOT.glob(f"jaxnn/{path}"), *ROOT.glob(f"jaxnn/verify/{path}")], path


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_its_walls_let_in(room):
    allowed = {f"jaxnn.{name}" for name in {room, *ROOMS[room]} - {"jaxnn"}}
    for path in files(f"jaxnn.{room}"):
        ours = {name for name in imports(path) if within(name, "jaxnn") or within(name, "reference")}
        ours -= {"jaxnn"} if "jaxnn" in ROOMS[room] else set()
        assert {name for name in ours if not any(within(name, a) for a in allowed)} == set(), path


@pytest.mark.parametrize("room", INSIDE_VERIFY)
def test_a_room_of_verify_imports_what_its_walls_let_in(room):
    allowed = {f"jaxnn.verify.{name}" for name in {room, *INSIDE_VERIFY[room]}}
    for path in files(f"jaxnn.verify.{room}"):
        ours = {name for name in imports(path) if within(name, "jaxnn.verify")}
        assert {name for name in ours if not any(within(name, a) for a in allowed)} == set(), path


def test_no_file_imports_itself_by_way_of_others():
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files("jaxnn")}

    def home(name):
        """The file that `name` is, or is in."""
        package = name.rpartition(".")[0]
        return next(n for n in (name, f"{name}.__init__", package, f"{package}.__init__") if n in paths)

    arrows = {module: {home(name) for name in imports(path) if within(name, "jaxnn")} for module, path in paths.items()}
    TopologicalSorter(arrows).prepare()  # CycleError names the circle


@pytest.mark.parametrize("name", LIBRARIES)
def test_no_other_library(name):
    for path in files(name):
        outside = {module.split(".")[0] for module in imports(path)} - sys.stdlib_module_names
        assert outside - {"jaxnn", "reference"} <= LIBRARIES[name], path


def test_the_twin_imports_itself_alone():
    for path in files("reference"):
        assert not [name for name in imports(path) if within(name, "jaxnn")], path
