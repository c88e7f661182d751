"""A block of a Llama, explained link by link: from the loss to the weights of queries, keys and values."""

import jax
import numpy as np
import pytest

from jaxnn import SoftmaxCrossEntropy, explain
from jaxnn.models.gpt import gpt
from jaxnn.models.llama import llama
from jaxnn.verify import PASS

X, Y = np.random.default_rng(0).integers(5, size=(2, 1, 3))


def test_a_block_of_a_llama():
    model = llama(5, layers=1, heads=1, width=2, units=2)
    found = explain(model, SoftmaxCrossEntropy(), model.init(jax.random.key(0)), X, Y)
    assert found.report.ok
    assert {line.verdict for line in found.backward} <= {PASS, ""}
    formulas = {line.symbol: line.formula for line in found.forward}
    assert formulas["z3"] == "x3 W3ᵀ"
    assert formulas["h4"] == "h1 + out4"
    assert formulas["z9"] == "h8 W9ᵀ"
    backward = [line.symbol for line in found.backward]
    way = [f"∂J/∂{name}" for name in ("z9", "h8", "h7", "W7", "z6", "h4", "W4", "out3", "q3", "z3", "W3", "h1", "W1")]
    assert [name for name in backward if name in way] == way
    assert {line.symbol for line in found.backward if line.verdict == PASS} >= {"∂J/∂W1", "∂J/∂W3", "∂J/∂W6", "∂J/∂W9"}


def test_one_array_in_two_places_is_not_explained():
    model = gpt(5, 3, layers=1, heads=1, width=2)
    with pytest.raises(TypeError, match="without Tied"):
        explain(model, SoftmaxCrossEntropy(), model.init(jax.random.key(0)), X, Y)
