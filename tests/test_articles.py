"""Every idea of the four articles has its place in docs/how_a_network_learns.md, and a claim there that is run.

That the claims hold is `test_docs.py`'s affair, which executes the page.
"""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "how_a_network_learns.md").read_text()
IDEAS = [f"{article}.{i}" for article, n in {1: 9, 2: 5, 3: 8, 4: 7}.items() for i in range(1, n + 1)]
SLIPS = ["1.1", "1.2", "2.1", "3.1", "3.2", "4.1", "4.2"]


def sections():
    """number -> the text below its heading, in the page's order."""
    parts = re.split(r"^(##+ .*)$", PAGE, flags=re.MULTILINE)[1:]
    numbered = [(re.match(r"### \((\d\.\d)\) \w", head), text) for head, text in zip(*[iter(parts)] * 2, strict=True)]
    return [(head[1], text) for head, text in numbered if head]


def test_the_ideas_stand_in_their_order_each_once():
    assert [number for number, _ in sections()] == IDEAS


@pytest.mark.parametrize("number", IDEAS)
def test_each_idea_makes_a_claim_that_is_run(number):
    blocks = re.findall(r"^```python\n(.*?)^```", dict(sections())[number], re.MULTILINE | re.DOTALL)
    assert re.search(r"^ *(assert |close\()", "".join(blocks), re.MULTILINE)


@pytest.mark.parametrize("number", IDEAS)
def test_the_table_of_contents_names_each_idea(number):
    assert f"({number}) " in PAGE.partition("## Article 1")[0] or f"({number})," in PAGE.partition("## Article 1")[0]


@pytest.mark.parametrize("number", SLIPS)
def test_each_slip_is_listed_and_run(number):
    slips = PAGE.partition("## The slips")[2]
    assert f"| (slip {number}) |" in slips
    assert f'"{number}": (said(' in slips or f'"slip {number}:"' in slips
