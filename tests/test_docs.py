"""The documents say what is so: their code runs, and the lines of code that they quote are in the files they name."""

import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from jaxnn import catalogue

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(text):
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def libraries(text):
    """Those that the blocks cannot do without: an import that is indented is made under a condition."""
    for block in blocks(text):
        for line in ast.parse(block).body:
            if isinstance(line, ast.Import):
                yield from (name.name.partition(".")[0] for name in line.names)
            elif isinstance(line, ast.ImportFrom):
                yield line.module.partition(".")[0]


def run(text, name):
    """The names that the blocks, one after the other, leave behind; skips where a library is absent."""
    for library in libraries(text):
        pytest.importorskip(library)
    names = {}
    with jax.numpy_rank_promotion("allow"):  # JAX as its users have it
        for block in blocks(text):
            exec(compile(block, name, "exec"), names)
    return names


@pytest.mark.sample(lambda path: DOCUMENTS.index(path) // 5)
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_python_blocks_run(path, tmp_path, monkeypatch, standard_promotion):
    monkeypatch.chdir(tmp_path)
    run(path.read_text(), path.name)


def test_a_document_is_skipped_without_a_library_that_it_needs():
    page = "```python\n{}\n```\n".format
    with pytest.raises(pytest.skip.Exception, match="no_such_library"):
        run(page("assert False") + page("from no_such_library.part import thing"), "page")
    assert list(libraries(page("if False:\n    import no_such_library"))) == []
    with pytest.raises(ModuleNotFoundError):  # a mistake in the document, not an absence
        run(page("import jaxnn.no_such_module"), "page")


def test_the_readme_says_what_the_report_of_its_example_says(tmp_path, capsys):
    """The words of it: places in a line, and digits, are not those of every Python and every machine."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = (block for block in blocks(text) if "def grad" in block)
    sentences = re.findall("^    (?:FAIL|cause) .*", text, re.MULTILINE)
    assert len(sentences) == 2

    def words(text):
        return re.sub(r"\d+", "", re.sub(r":\d+:\d+", "", text)).split()

    (tmp_path / "mine.py").write_text(example, encoding="utf-8")
    with jax.numpy_rank_promotion("allow"):
        runpy.run_path(str(tmp_path / "mine.py"))
    printed = [words(line) for line in capsys.readouterr().out.splitlines()]
    assert all(words(sentence) in printed for sentence in sentences)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize(("name", "least"), {"README.md": 8, "docs/llama_by_hand.md": 12}.items())
def test_the_lines_that_are_quoted_are_in_the_files_that_are_named(name, least):
    path = ROOT / name
    quotes = re.findall(r"\| `(.+?)` \| \[\S+\.py\]\((\S+\.py)\) \|", path.read_text(encoding="utf-8"))
    assert len(quotes) >= least
    for line, file in quotes:
        assert line in (path.parent / file).read_text(encoding="utf-8"), f"{file} no longer has: {line}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / link).exists(), link


def test_the_tables_of_rules_are_what_the_files_say():
    """A new rule need not touch the document: that is printed anew, by scripts/rules."""
    printed = subprocess.run(
        [sys.executable, ROOT / "scripts" / "rules"], capture_output=True, encoding="utf-8", check=True
    )
    lines = printed.stdout.splitlines()
    assert {*(ROOT / "docs" / "rules.md").read_text(encoding="utf-8").splitlines()} <= {*lines}
    for room in ("activations", "layers", "losses", "initializers"):
        for name in catalogue.names(room):
            assert any(line.startswith(f"| [{name}](../jaxnn/{room}/{name}.py) | ") for line in lines)
