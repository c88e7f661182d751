"""At a kink any choice between the two sides is right, and what is no mixture of them is wrong."""

import numpy as np
import pytest
from flint import arb

from jaxnn.verify.evidence.kinks import Explained, least_squares


def leaf(*entries):
    return [np.array([arb(v) for v in entries], object)]


@pytest.mark.parametrize(
    ("hand", "explained"),
    [
        ((1, 1), Explained.RIGHT),
        ((-1, 1), Explained.RIGHT),
        ((0.5, -0.25), Explained.RIGHT),
        ((0.5, -1.25), Explained.WRONG),  # beyond the other side
        ((2, 1), Explained.WRONG),
    ],
)
def test_a_mixture_of_the_sides_of_two_ties(hand, explained):
    """|u| + |v| at 0: 1 and −1 are the derivatives of the sides of each."""
    choice, shares = least_squares(leaf(*hand), leaf(1, 1), [leaf(-1, 1), leaf(1, -1)], [(0, 0), (0, 1)], 12)
    assert choice.explained == explained
    if explained == Explained.RIGHT:
        np.testing.assert_allclose(1 - 2 * (1 - shares), hand, atol=1e-9)
