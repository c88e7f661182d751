"""Functions of one number on balls, at the numbers where they turn."""

import pytest
from flint import arb

from jaxnn.verify.arithmetic.entrywise import half_away_from_zero, half_to_even


@pytest.mark.parametrize(
    ("v", "even", "away"),
    [
        *((2.25, 2, 2), (2.75, 3, 3), (-2.25, -2, -2), (-2.75, -3, -3), (0, 0, 0)),
        *((0.5, 0, 1), (1.5, 2, 2), (2.5, 2, 3), (-0.5, 0, -1), (-1.5, -2, -2)),
    ],
)
def test_the_integer_next_to_a_number(v, even, away):
    assert (half_to_even(arb(v)), half_away_from_zero(arb(v))) == (even, away)
    wide = half_to_even(arb(v, 0.125))
    assert even in wide
    assert wide.rad() < 0.51
