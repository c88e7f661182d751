"""What is known of both sides at one precision."""

import math

import numpy as np
import pytest
from flint import arb

from jaxnn.verify.evidence.outcome import Judged


@pytest.mark.parametrize(
    ("hand", "true", "width"), [(1, 2, 0.0), (1, arb(2, 0.25), 0.25), (arb(1, 0.5), 2, 0.5), ("nan", 2, math.inf)]
)
def test_the_width_is_the_largest_radius(hand, true, width):
    hand, true = ([np.array([arb(v)], object)] for v in (hand, true))
    found = Judged(ev=None, balls=[], hand=hand, true=true, ties=(), at_tie=False, judged=(), allowed=None)
    assert found.width == pytest.approx(width)
