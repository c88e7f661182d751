"""The verifier's controls: every seeded fault is refused, and no right gradient is ever flagged."""

from itertools import product

import jax
import pytest
from faults.never_flagged import CASES, KINKS, PLAIN_NUMPY
from faults.seeded import ACTIVATIONS, SCALES, architectures, one_sided, three_layer

from jaxnn import verify

ARCHITECTURES = architectures()
ONE_SIDED = one_sided()


def check(case):
    return verify.gradient(case.cost, case.grad, case.params, *case.data)


def others(cases, verdict):
    """The cases whose verdict is another one, with that verdict."""
    return {name: got for name, case in cases.items() if (got := check(case).verdict) != verdict}


def multiplied(case, c):
    return case._replace(
        cost=lambda *args: c * case.cost(*args), grad=lambda *args: jax.tree.map(lambda g: c * g, case.grad(*args))
    )


THREE_LAYERS = {
    (activation, scale): three_layer(activation, scale) for activation, scale in product(ACTIVATIONS, SCALES)
}
WRONG, RIGHT = ([(*pair, name) for pair, cases in THREE_LAYERS.items() for name in cases[i]] for i in range(2))
NAMES = list(dict.fromkeys(name for *_, name in WRONG + RIGHT))  # neighbours are of one kind


@pytest.mark.sample(lambda activation, scale, name: NAMES.index(name) // 2)
@pytest.mark.parametrize(("activation", "scale", "name"), WRONG)
def test_three_layers_wrong(activation, scale, name):
    assert check(THREE_LAYERS[activation, scale][0][name]).verdict == verify.FAIL


@pytest.mark.sample(lambda activation, scale, name: NAMES.index(name) // 2)
@pytest.mark.parametrize(("activation", "scale", "name"), RIGHT)
def test_three_layers_right(activation, scale, name):
    report = check(THREE_LAYERS[activation, scale][1][name])
    assert report.verdict == verify.PASS, str(report)


def test_there_are_eighty_faults():
    assert all(len(wrong) >= 80 for wrong, _ in THREE_LAYERS.values())


@pytest.mark.sample(lambda name: [*ARCHITECTURES].index(name) // 2)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures(name):
    right, wrong = ARCHITECTURES[name]
    assert (others(wrong, verify.FAIL), others({"right": right}, verify.PASS)) == ({}, {})


@pytest.mark.parametrize("name", ONE_SIDED)
def test_a_fault_on_one_side_of_a_branch(name):
    """The given parameters do not reach it: the verifier must go there by itself."""
    assert check(ONE_SIDED[name]).verdict == verify.FAIL


@pytest.mark.sample(lambda name: [*CASES].index(name) // 2)
@pytest.mark.parametrize("name", CASES)
def test_never_flagged(name):
    report = check(CASES[name])
    assert report.verdict == verify.PASS, str(report)
    assert name not in KINKS or any("at a kink" in note for note in report.notes)


@pytest.mark.sample
@pytest.mark.parametrize("exponent", [40, -40])
def test_the_size_of_the_loss_changes_no_verdict(exponent):
    wrong, right = three_layer("tanh", "unit")
    some = dict(list(wrong.items())[::10]), dict(list(right.items())[::5])
    for cases, verdict in zip(some, (verify.FAIL, verify.PASS), strict=True):
        assert others({name: multiplied(case, 2.0**exponent) for name, case in cases.items()}, verdict) == {}


@pytest.mark.parametrize("name", PLAIN_NUMPY)
def test_lecture_code_in_numpy(name):
    case, right = PLAIN_NUMPY[name]
    report = check(case)
    assert report.verdict == (verify.PASS if right else verify.FAIL), str(report)
