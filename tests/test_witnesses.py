"""What the comparison of gradients lets by."""

import numpy as np
import pytest
import witnesses


@pytest.mark.parametrize(("hand", "true"), [(np.nan, 1.0), (1.0, np.nan), (np.inf, 1.0)])
def test_no_bound_admits_a_number_that_is_none(hand, true):
    ones = np.ones(2)
    assert not witnesses.difference((ones, np.array([1.0, hand])), (ones, np.array([1.0, true]))) < 1e9
