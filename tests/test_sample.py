"""What a run leaves out of the big tables."""

import collections
from types import SimpleNamespace

import pytest
from conftest import pytest_collection_modifyitems

MARKS = {  # of three tests
    "t.py::by_word": [pytest.mark.sample(lambda n, word: word).mark],
    "t.py::one_case": [pytest.mark.sample.mark],
    "t.py::not_sampled": [],
}


class Item:
    def __init__(self, test, n, word):
        self.nodeid = f"{test}[{n}-{word}]"
        self.callspec = SimpleNamespace(params={"n": n, "word": word})
        self.iter_markers = lambda name: MARKS[test]


def run_of(argument="tests", seed=0, every=False):
    """{test: the numbers and words of its cases that run}, and how many are reported to be left out."""
    items = [Item(test, n, word) for test in MARKS for n, word in zip(range(30), "abc" * 10, strict=True)]
    left_out: list = []
    hook = SimpleNamespace(pytest_deselected=lambda items: left_out.extend(items))
    option = SimpleNamespace(sample=seed, all=every)
    pytest_collection_modifyitems(SimpleNamespace(args=[argument], option=option, hook=hook), items)
    cases = collections.defaultdict(list)
    for item in items:
        cases[item.nodeid.split("[")[0]].append(tuple(item.callspec.params.values()))
    return cases, len(left_out)


def test_one_case_of_each_stratum_runs():
    cases, left_out = run_of()
    assert [word for _, word in sorted(cases["t.py::by_word"], key=lambda case: case[1])] == ["a", "b", "c"]
    assert [len(cases[test]) for test in MARKS] == [3, 1, 30]
    assert left_out == 27 + 29


def test_the_seed_draws_the_sample_and_repeats_it():
    assert run_of(seed=5) == run_of(seed=5)
    assert len({str(run_of(seed=seed)) for seed in range(9)}) > 1
    ever = {case for seed in range(200) for case in run_of(seed=seed)[0]["t.py::by_word"]}
    assert len(ever) == 30


@pytest.mark.parametrize("settings", [{"every": True}, {"argument": "tests/t.py::by_word[3-a]"}])
def test_all_cases_run_where_all_are_wanted_or_a_test_is_named(settings):
    cases, left_out = run_of(**settings)
    assert ([len(cases[test]) for test in MARKS], left_out) == ([30, 30, 30], 0)
