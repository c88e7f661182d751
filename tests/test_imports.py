"""Who may import whom: the arrows of docs/design.md."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NUMPY_ONLY = {"jaxnn.data": {"numpy"}, "jaxnn.checks": {"numpy"}, "jaxnn.config": {"tyro"}}
ALLOWED = {  # module or package: the modules of ours that it may import
    "jaxnn.layers": {"jaxnn.layer", "jaxnn.layers", "jaxnn.initializers"},
    "jaxnn.losses": {"jaxnn.mean"},
    "jaxnn.mean": set(),
    "jaxnn.penalty": {"jaxnn.mean"},
    "jaxnn.backprop": set(),
    "jaxnn.config": set(),
    "jaxnn.checks": set(),
    "jaxnn.text_file": set(),
    "jaxnn.chain_rule": {
        *("jaxnn.verify", "jaxnn.layers", "jaxnn.backprop", "jaxnn.explain_page", "jaxnn.penalty"),
    },
    "jaxnn.explain_function": {"jaxnn.chain_rule", "jaxnn.variables", "jaxnn.verify"},
    "jaxnn.variables": set(),
    "jaxnn.networks": {"jaxnn.mean", "jaxnn.train"},
    "jaxnn.explain_page": set(),
    "jaxnn.data": {"jaxnn.checks"},
    "jaxnn.health": {"jaxnn.layers"},
    "jaxnn.metrics": {"jaxnn.mean"},
    "jaxnn.train": {
        *("jaxnn.backprop", "jaxnn.health", "jaxnn.checks", "jaxnn.parallel"),
        *("jaxnn.layer", "jaxnn.mean", "jaxnn.metrics"),
    },
    "jaxnn.examples": {"jaxnn.layers", "jaxnn.losses"},
    "jaxnn.verify": {"jaxnn.verify", "jaxnn.backprop", "jaxnn.examples", "jaxnn.layers", "jaxnn.losses"},
    "reference": {"reference"},
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


def within(name, packages):
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def files(name):
    path = ROOT / name.replace(".", "/")
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


@pytest.mark.parametrize("name", ALLOWED)
def test_arrows_run_one_way(name):
    for path in files(name):
        ours = {module for module in imports(path) if within(module, {"jaxnn", "reference"})}
        assert {module for module in ours if not within(module, ALLOWED[name])} == set(), path


@pytest.mark.parametrize(("name", "libraries"), [*NUMPY_ONLY.items(), ("reference", {"numpy"})])
def test_no_other_library(name, libraries):
    for path in files(name):
        outside = {module.split(".")[0] for module in imports(path)} - sys.stdlib_module_names
        assert outside - {"jaxnn", "reference"} <= libraries, path
