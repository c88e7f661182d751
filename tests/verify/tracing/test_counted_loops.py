"""A loop whose steps are counted while it is traced can be gone back through; one that numbers end is left as it is."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

from jaxnn.verify.tracing import counted_loops
from jaxnn.verify.tracing.counted_loops import has_loop, with_counted_loops
from jaxnn.verify.tracing.jaxprs import backwards

X = jnp.array([0.5, -0.3, 0.8])


def times(n, f):
    """f, n times over, in a loop whose end is an operand."""
    return lambda x: lax.while_loop(lambda s: s[0] < s[2], lambda s: (s[0] + 1, f(s[1]), s[2]), (0, x, n))[1]


def triangle(x):
    """sin as often as an outer loop counts."""
    return lax.fori_loop(0, 3, lambda i, x: lax.fori_loop(0, i, lambda _, x: jnp.sin(x), x + i), x)


def rows(x):
    return lax.scan(lambda c, v: (c + v, times(2, jnp.sin)(v * c)), jnp.ones(()), x, reverse=True)[1]


def plain_triangle(x):
    for i in range(3):
        x = x + i
        for _ in range(i):
            x = jnp.sin(x)
    return x


def plain_rows(x):
    c, out = jnp.ones(()), []
    for v in x[::-1]:
        out.append(jnp.sin(jnp.sin(v * c)))
        c = c + v
    return jnp.stack(out[::-1])


LOOPS = {
    "counted": (times(3, jnp.sin), lambda x: jnp.sin(jnp.sin(jnp.sin(x)))),
    "never": (times(0, jnp.sin), lambda x: x),
    "in jit": (jax.jit(times(2, jnp.sin)), lambda x: jnp.sin(jnp.sin(x))),
    "under a checkpoint": (jax.checkpoint(times(2, jnp.sin)), lambda x: jnp.sin(jnp.sin(x))),
    "in a loop that counts": (triangle, plain_triangle),
    "in a scan": (rows, plain_rows),
    "in a counted loop": (times(2, times(2, jnp.sin)), lambda x: jnp.sin(jnp.sin(jnp.sin(jnp.sin(x))))),
    "in a branch": (lambda x: lax.cond(x[0] > 0, times(2, jnp.sin), jnp.cos, x), lambda x: jnp.sin(jnp.sin(x))),
}


@pytest.mark.parametrize("where", LOOPS)
def test_reverse_mode_goes_through(x64, where):
    f, plain = LOOPS[where]
    x = X.astype(float)
    values, grads = backwards(lambda inputs: [f(inputs[0])], [x])
    true, pull = jax.vjp(plain, x)
    np.testing.assert_allclose(values[0], true, rtol=1e-14)
    np.testing.assert_allclose(grads[0], pull(jnp.ones_like(true))[0], rtol=1e-13)
    closed = jax.make_jaxpr(f)(x)
    assert has_loop(closed.jaxpr)
    assert not has_loop(jax.make_jaxpr(with_counted_loops(closed))(x).jaxpr)


def names(f):
    return [eqn.primitive.name for eqn in jax.make_jaxpr(with_counted_loops(jax.make_jaxpr(f)(X)))(X).jaxpr.eqns]


def test_a_loop_stays_one_unless_its_steps_differ():
    """What iterates can then run on to what it converges to; and long loops stay short."""
    assert names(times(9, jnp.sin)) == ["scan"]
    assert names(lambda x: lax.fori_loop(0, 9, lambda i, x: times(2, jnp.sin)(x), x)) == ["scan"]
    assert names(triangle).count("scan") > 1


def test_a_loop_that_floats_end_is_left():
    def halved(x):
        return lax.while_loop(lambda x: (x > 0.1).any(), lambda x: x / 2, x)

    assert names(halved)[-1] == "while"
    with pytest.raises(ValueError, match="Reverse-mode"):
        jax.make_jaxpr(lambda x: backwards(lambda inputs: [halved(inputs[0])], [x]))(X)


def test_what_would_be_too_long_is_not_opened(monkeypatch):
    monkeypatch.setattr(counted_loops, "EQUATIONS", 20)
    with pytest.raises(ValueError, match="Reverse-mode"):
        jax.make_jaxpr(lambda x: backwards(lambda inputs: [triangle(inputs[0])], [x]))(X)
