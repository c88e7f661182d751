"""Every idea of the four articles has its place in docs/how_a_network_learns.md, and a claim there that is run.

That the claims hold is `test_docs.py`'s affair, which executes the page. Here they are run on data that no clone
contains, and what the page shows and tells people to type is looked at.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import jax
import numpy as np
import pytest
from test_docs import blocks, run

FILE = Path(__file__).parents[1] / "docs" / "how_a_network_learns.md"
PAGE = FILE.read_text()
IDEAS = [f"{article}.{i}" for article, n in {1: 9, 2: 5, 3: 8, 4: 7}.items() for i in range(1, n + 1)]
SLIPS = ["1.1", "1.2", "2.1", "3.1", "3.2", "4.1", "4.2"]
DATA = Path(__file__).parents[2] / "shared" / "data"


def sections():
    """number -> the text below its heading, in the page's order."""
    parts = re.split(r"^(##+ .*)$", PAGE, flags=re.MULTILINE)[1:]
    numbered = [(re.match(r"### \((\d\.\d)\) \w", head), text) for head, text in zip(*[iter(parts)] * 2, strict=True)]
    return [(head[1], text) for head, text in numbered if head]


def test_the_ideas_stand_in_their_order_each_once():
    assert [number for number, _ in sections()] == IDEAS


@pytest.mark.parametrize("number", IDEAS)
def test_each_idea_makes_a_claim_that_is_run(number):
    code = "".join(blocks(dict(sections())[number]))
    assert re.search(r"^ *(assert |close\()", code, re.MULTILINE)


@pytest.mark.parametrize("number", IDEAS)
def test_the_table_of_contents_names_each_idea(number):
    assert f"({number}) " in PAGE.partition("## Article 1")[0] or f"({number})," in PAGE.partition("## Article 1")[0]


@pytest.mark.parametrize("number", SLIPS)
def test_each_slip_is_listed_and_run(number):
    slips = PAGE.partition("## The slips")[2]
    assert f"| (slip {number}) |" in slips
    assert f'"{number}": (said(' in slips or f'"slip {number}:"' in slips


def article(number):
    """The page's first block, and one article with its blocks, which need no other."""
    parts = re.split(r"^(?=## )", PAGE, flags=re.MULTILINE)
    return parts[0] + next(part for part in parts if part.startswith(f"## Article {number}"))


@pytest.mark.parametrize(("number", "name"), [(3, "cat/catvnoncat.npz"), (4, "tabular/energy_efficiency.csv")])
def test_an_article_on_data_that_no_clone_contains(number, name, tmp_path, monkeypatch, standard_promotion):
    given = DATA / name
    if not given.exists():
        pytest.skip(f"{name} is in ../shared/data, which is not here")
    monkeypatch.chdir(tmp_path)
    Path(given.name).symlink_to(given)
    names = run(article(number), FILE.name)
    if number == 3:
        assert names["is_cat"].sum() == 72
    else:
        assert names["source"] == "energy"


def lines_of(picture):
    """name -> the points of each line that has a name, in an SVG file."""
    path = "{http://www.w3.org/2000/svg}path"
    groups = [group for group in ElementTree.parse(picture).iter() if len(group) and group[0].tag == path]
    named = {group.get("id"): group[0].get("d") for group in groups if not re.search(r"\d$", group.get("id", "0"))}
    return {name: np.array(re.findall(r"[ML] (\S+) (\S+)", d), float) for name, d in named.items()}


def test_the_three_descents_are_drawn_on_one_plot_and_shown(tmp_path, monkeypatch, standard_promotion):
    """Each line is that descent's cost; and the page has the picture that its code draws."""
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    names = run(article(4), FILE.name)
    drawn, shown = lines_of("three_descents.svg"), lines_of(FILE.parent / "three_descents.svg")
    assert drawn.keys() == shown.keys() == {"batch", "mini-batch", "stochastic"}
    costs, heights, of_page = [], [], []
    for name, points in drawn.items():
        x, y = points.T
        across = np.linspace(x[0], x[-1], 100)  # an epoch each
        costs.append(np.log(names["costs"][name]))
        heights.append(np.interp(across, x, y))
        of_page.append(np.interp(across, *shown[name].T))
    np.testing.assert_allclose(heights, np.poly1d(np.polyfit(np.ravel(costs), np.ravel(heights), 1))(costs), atol=0.5)
    np.testing.assert_allclose(heights, of_page, atol=1)
    assert "](three_descents.svg)" in dict(sections())["4.6"]


def test_the_picture_has_a_panel_for_every_curve():
    titles = set(re.findall(r'curve\("(.+?)"', PAGE))
    assert len(titles) >= 15
    text = (FILE.parent / "how_a_network_learns.svg").read_text()
    assert {title for title in titles if title not in text} == set()


@pytest.mark.sample
@pytest.mark.parametrize("command", re.findall(r"scripts/jaxnn ([^`\n]+)", PAGE))
def test_the_commands_of_the_page(command, tmp_path):
    env = os.environ | {"PYTHONIOENCODING": "utf-8", "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}
    words = [sys.executable, "-m", "jaxnn", *command.split()]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    if "explain" in command:
        assert "verdict  PASS" in done.stdout
        assert (tmp_path / command.split()[-1]).read_text().startswith("<!")
