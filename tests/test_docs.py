"""The documents say what is so: their code runs, and the lines of code that they quote are in the files they name."""

import re
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_python_blocks_run(path, tmp_path, monkeypatch, standard_promotion):
    monkeypatch.chdir(tmp_path)
    names = {}
    with jax.numpy_rank_promotion("allow"):  # JAX as its users have it
        for block in re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL):
            exec(compile(block, path.name, "exec"), names)


def test_the_readme_quotes_lines_of_the_files_it_names():
    quotes = re.findall(r"\| `(.+?)` \| \[(\S+\.py)\]\(\2\) \|", (ROOT / "README.md").read_text())
    assert len(quotes) >= 8
    for line, file in quotes:
        assert line in (ROOT / file).read_text(), f"{file} no longer has: {line}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / link).exists(), link
