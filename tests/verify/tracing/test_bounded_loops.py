"""Every loop has an end, wherever it is; one that ends by itself gives what it gives."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

from jaxnn import verify
from jaxnn.verify.tracing import bounded_loops
from jaxnn.verify.tracing.bounded_loops import bounded
from jaxnn.verify.tracing.counted_loops import has_loop


def root(a):
    """√a by Newton's iteration, without an end where a < 0."""
    return lax.while_loop(lambda s: (abs(s * s - a) > 1e-6 * a).any(), lambda s: (s + a / s) / 2, jnp.ones_like(a))


@jax.custom_vjp
def with_rule(a):
    return root(a)


with_rule.defvjp(lambda a: (root(a), root(a)), lambda s, g: (g / (2 * s),))

PLACES = {
    "here": root,
    "jit": jax.jit(root),
    "vmap": jax.vmap(root),
    "scan": lambda a: lax.scan(lambda c, v: (c, root(v)), 0, a)[1],
    "cond": lambda a: lax.cond((a > -10).all(), root, lambda a: a, a),
    "custom": with_rule,
    "remat": jax.checkpoint(root),
    "tangent": lambda a: jax.jvp(root, (a,), (jnp.ones_like(a),))[1],
    "rule": jax.grad(lambda a: with_rule(a).sum()),
    "loop in a loop": lambda a: lax.while_loop(lambda c: c[0] < 1, lambda c: (c[0] + 1, root(c[1])), (0, a))[1],
}


@pytest.mark.parametrize("place", PLACES)
def test_a_loop_without_an_end_gives_nan(monkeypatch, place):
    monkeypatch.setattr(bounded_loops, "STEPS", 1000)
    f = PLACES[place]
    good = jnp.array([2.0, 3.0, 5.0])
    closed = jax.make_jaxpr(f)(good)
    (out,) = jax.jit(bounded(closed))(jnp.array([2.0, -3.0, 5.0]))
    alone = place in ("vmap", "scan")
    assert np.array_equal(np.isnan(out), [not alone, True, not alone])
    assert has_loop(closed.jaxpr)
    np.testing.assert_allclose(jax.jit(bounded(closed))(good)[0], f(good), rtol=1e-6)


def test_what_has_no_loop_is_left_alone():
    closed = jax.make_jaxpr(jnp.sin)(1.0)
    assert not has_loop(closed.jaxpr)
    assert not has_loop(jax.make_jaxpr(lambda x: lax.fori_loop(0, 9, lambda i, x: x * x, x))(1.0).jaxpr)


def test_a_rule_of_an_iteration_that_ends_neither_below_0_nor_in_bfloat16():
    """Each would hang: under vmap at −a, and in the dtypes whose precision is printed."""
    report = verify.custom_vjp(with_rule, jnp.array([2.0, 3.0, 5.0]), points="given")
    assert report.verdict == verify.PASS, str(report)
    digits = {grade.dtype: grade.hand_digits for grade in report.precision if grade.path == "a"}
    assert digits["bfloat16"] == -np.inf
    assert digits["float32"] > 4
