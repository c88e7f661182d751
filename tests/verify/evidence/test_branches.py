"""Which side of a decision each number takes."""

from types import SimpleNamespace

import numpy as np
import pytest
from flint import arb

from jaxnn.verify.evidence.branches import OPEN, POSSIBLE, side_of


@pytest.mark.parametrize("name", ["abs", "sign"])
def test_the_sides_of_a_sign(name):
    x = np.array([arb(2), arb(-3), arb(0)], object)
    sides = side_of(SimpleNamespace(name=name, inputs=[x]))
    assert sides.tolist() == [POSSIBLE[name].index("positive"), POSSIBLE[name].index("negative"), OPEN]
