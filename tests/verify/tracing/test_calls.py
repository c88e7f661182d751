"""Which calls of custom rules are heard while a function is traced, and with which values."""

import sys
import threading
from functools import partial

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

from jaxnn.verify.tracing.calls import calls_of, is_own_of_jax, listening, place_of


@jax.custom_vjp
def cube(x):
    return x**3


cube.defvjp(lambda x: (cube(x), x), lambda x, dout: (3 * x**2 * dout,))


@jax.custom_jvp
def double(x):
    return 2 * x


double.defjvps(lambda dx, out, x: 2 * dx)
X = np.float32([0.5, -1.25, 2.0])
jitted = jax.jit(cube)
jitted(X)  # JAX holds it traced before anyone listens


def heard(f, *args):
    """(the names and shapes of the calls in f, the values of the first)."""
    calls, why = calls_of(f, args, lambda rule: not is_own_of_jax(rule))
    assert why == ""
    names = {(call.rule.__name__, *(v.shape for v in jax.tree.leaves(call.args))) for call in calls}
    return names, calls[0].values


WAYS = {  # a function of three numbers that calls `cube`, and the first x that it meets
    "as it is": (cube, X),
    "held by jit": (jitted, X),
    "grad": (jax.grad(lambda x: cube(x).sum()), X),
    "grad of jit": (jax.grad(lambda x: jitted(x).sum()), X),
    "jit of grad": (jax.jit(jax.grad(lambda x: cube(jnp.sin(x)).sum())), np.sin(X)),
    "remat": (jax.grad(lambda x: jax.checkpoint(lambda x: cube(x))(x).sum()), X),
    "scan": (jax.grad(lambda x: lax.scan(lambda c, _: (jnp.cos(cube(c)), None), x, length=4)[0].sum()), X),
    "while": (lambda x: lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, cube(c[1])), (0, x)), X),
    "cond": (jax.grad(lambda x: lax.cond(x.sum() > 0, lambda x: cube(x), lambda x: x, x).sum()), X),
    "hessian": (lambda x: jax.jacfwd(jax.grad(lambda x: double(x).sum() * (x**2).sum()))(x), X),
    "a backward pass": (jax.grad(lambda x: outer(x).sum()), np.float32([1, 1, 1])),
}


@jax.custom_vjp
def outer(x):
    return jnp.sin(x)


outer.defvjp(lambda x: (jnp.sin(x), x), lambda x, dout: (cube(dout) * jnp.cos(x),))


@pytest.mark.parametrize("way", WAYS)
def test_a_call_is_heard_wherever_it_is(way):
    f, x = WAYS[way]
    names, values = heard(f, X)
    assert names & {("cube", (3,)), ("double", (3,))}
    if way != "a backward pass":
        np.testing.assert_allclose(values, [x], rtol=1e-6)


def test_under_vmap_the_rule_meets_one_example():
    names, values = heard(jax.vmap(jax.grad(lambda x: cube(x).sum())), np.stack([X, 2 * X]))
    assert names == {("cube", (3,))}
    np.testing.assert_array_equal(values, [X])


def test_keywords_settings_and_keys_are_arguments():
    @partial(jax.custom_vjp, nondiff_argnums=(1,))
    def power(x, n=2, key=None):
        return x**n

    power.defvjp(lambda x, n, key: (x**n, x), lambda n, x, dout: (n * x ** (n - 1) * dout, None))
    calls, _ = calls_of(lambda x, key: power(x, key=key), (X, jax.random.key(0)), lambda rule: True)
    assert [v if type(v) is int else v.shape for v in calls[0].args] == [(3,), 2, ()]
    np.testing.assert_array_equal(calls[0].values, [X])


def test_a_rule_that_was_written_around_a_value_is_given_it():
    def f(x, w):
        @jax.custom_vjp
        def times_w(x):
            return x * w

        times_w.defvjp(lambda x: (x * w, None), lambda _, dout: (dout * w,))
        return times_w(x).sum()

    (call,), _ = calls_of(jax.grad(f), (X, 3 * X), lambda rule: True)
    np.testing.assert_allclose(jax.vjp(call.rule, X)[1](np.ones(3, np.float32)), [3 * X])


def test_a_step_that_cannot_run_has_calls_without_values():
    def no_lowering(x):
        return jax.pure_callback(lambda v: 1 / 0, jax.ShapeDtypeStruct((3,), np.float32), x)

    calls, why = calls_of(lambda x: cube(no_lowering(x)), (X,), lambda rule: True)
    assert [call.values for call in calls] == [None]
    assert why


def test_a_step_that_asks_for_values_is_run():
    names, values = heard(lambda x: float(jax.grad(lambda x: cube(2 * x).sum())(x)[0]), X)
    assert names == {("cube", (3,))}
    np.testing.assert_array_equal(values, [2 * X])


def test_what_a_step_donates_is_there_afterwards():
    x = jnp.asarray(X)
    heard(lambda x: float(jax.jit(lambda x: cube(x), donate_argnums=0)(x)[0]), x)
    np.testing.assert_array_equal(x, X)


def test_an_error_is_the_functions_own():
    with pytest.raises(KeyError, match="mine"):
        calls_of(lambda x: cube(x)["mine"] if x.ndim == 2 else {}["mine"], (X,), lambda rule: True)


def test_only_this_thread_is_heard_and_the_hook_is_given_back():
    def before(*args):
        pass

    def another_thread():
        thread = threading.Thread(target=cube, args=(X,))
        thread.start()
        thread.join()

    rules = []
    sys.setprofile(before)
    try:
        with listening(lambda rule, args, place: rules.append(rule)):
            another_thread()
            assert rules == []
            cube(X)
            with pytest.raises(ZeroDivisionError), listening(lambda *call: 1 / 0):
                cube(X)
        assert sys.getprofile() is before
    finally:
        sys.setprofile(None)
    assert rules == [cube]


def test_whose_rule_it_is():
    @jax.custom_gradient
    def square(x):
        return x**2, lambda dout: 2 * x * dout

    calls, _ = calls_of(lambda x: square(jax.nn.relu(double(x))), (X,), lambda rule: True)
    assert [is_own_of_jax(call.rule) for call in calls] == [False, True, False]
    here = [place_of(call.rule).split(":")[0] for call in calls]
    assert here[0] == here[2] == "tests/verify/tracing/test_calls.py"
    assert here[1].startswith("jax/")
