"""Arguments that are cut down: what they were they stay."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import numpy as jnp

from jaxnn.verify.custom_rules.smaller import one_by_one, smaller, smaller_array, smaller_sizes

draw = np.random.default_rng(0).normal


def shapes_of_outputs(f):
    """The shapes of f(*args), which is traced; whole numbers are settings."""

    def shapes(args):
        arrays = [v for v in args if not isinstance(v, int)]
        settings = [v for v in args if isinstance(v, int)]
        return tuple(v.shape for v in jax.tree.leaves(jax.eval_shape(lambda arrays: f(*arrays, *settings), arrays)))

    return shapes


def zeros(*shapes):
    return tuple(np.zeros(shape, np.float32) for shape in shapes)


def halves(x, b):
    first, second = jnp.split(x, 2, axis=1)
    return first * jax.nn.sigmoid(second) * b[None]


CUT = {  # a function, its arguments, to what the axes are cut, one way after the other
    "equal sizes stay equal": (jnp.matmul, zeros((512, 1024), (1024, 512)), [{512: 3, 1024: 4}, {512: 16, 1024: 32}]),
    "short axes stay": (lambda x: x[:, 0], zeros((512, 3)), [{512: 4}, {}]),
    "few entries stay": (jnp.sin, zeros((20, 10)), [{}]),
    "even axes": (lambda x: x.reshape(len(x), -1, 2).sum(2), zeros((67, 64)), [{64: 4, 67: 6}]),
    "a multiple": (halves, zeros((64, 512), (256,)), [{64: 2, 256: 8, 512: 16}, {64: 16, 256: 64, 512: 128}]),
    "a setting": (lambda x, n: x + jnp.ones((1, n)), (*zeros((512, 1000)), 1000), [{512: 3, 1000: 4}]),
    "a size is written in it": (lambda x: x + jnp.zeros((512, 1)), zeros((512, 64)), [{64: 3}]),
    "a shape is written in it": (lambda x: x + jnp.zeros((512, 64)), zeros((512, 64)), []),
    "an output stays": (lambda x: jnp.zeros((512, 64)) + x.sum(), zeros((512, 64)), []),
}


@pytest.mark.parametrize("name", CUT)
def test_to_what_axes_are_cut(name):
    f, args, ways = CUT[name]
    assert list(smaller_sizes(args, shapes_of_outputs(f))) == ways


def test_an_axis_by_itself_is_divided_by_a_power_of_2():
    assert one_by_one({88}, lambda sizes: sizes[88] == 11) == {88: 11}
    assert one_by_one({88}, lambda sizes: sizes[88] == 2) == {}


def test_numbers_along_an_axis_stay_within_it():
    labels, logits = np.int32([-1, *range(118, 19, -1)]), np.float32(draw(size=(100, 120)))
    args = labels, labels[::-1] // 30, logits, 120, (7, 120)
    small_labels, segments, small_logits, n, pair = smaller(args, {100: 6, 120: 5})
    assert small_logits.shape == (6, 5)
    assert (n, pair) == (5, (7, 5))
    assert small_labels.tolist() == [-1, 3, 2, 1, 0, 4]
    assert segments.tolist() == [0] * 6
    assert smaller_array(np.arange(100), {100: 3, 50: 2}).tolist() == [0, 1, 2]


def test_a_mask_keeps_a_zero_and_a_one():
    mask = np.triu(np.ones((64, 64), np.float32))
    assert {*np.unique(smaller_array(mask[::-1], {64: 3}))} == {0, 1}


@given(st.integers(2, 9), st.integers(10, 40), st.booleans())
def test_distributions_stay_distributions(k, n, one_hot):
    p = np.random.default_rng(n).dirichlet(np.ones(n), size=5).astype(np.float32)
    p = np.eye(n, dtype=np.float32)[p.argmax(1)] if one_hot else p
    small = smaller_array(p, {n: k, 5: 3})
    assert small.shape == (3, k)
    np.testing.assert_allclose(small.sum(1), 1, rtol=1e-6)
    assert np.isin(small, (0, 1)).all() == one_hot
