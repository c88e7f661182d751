"""`surrogate=`: rules that are meant not to be the derivative; and arguments that are meant to be constants."""

import jax
import pytest
from jax import numpy as jnp

from jaxnn import verify

V = jnp.float32([-1.0, 0.2, 0.7])


def ruled(f, backward):
    """f with a rule: backward(args, dout) -> cotangents."""
    g = jax.custom_vjp(f)
    g.defvjp(lambda *args: (f(*args), args), backward)
    return g


def step(v):
    return (v > 0).astype(v.dtype)


def rounded(v):
    return jnp.round(v)


def identity(v):
    return v


FAST_SIGMOID = (lambda args, g: (g / (1 + 10 * jnp.abs(args[0])) ** 2,), lambda v: v / (1 + 10 * jnp.abs(v)))
MEANT = {  # name: (f, its rule, the surrogate)
    "spike": (step, *FAST_SIGMOID),
    "straight through": (rounded, lambda args, g: (g,), identity),
    "straight through, clipped": (
        step,
        lambda args, g: (g * step(1 - jnp.abs(args[0])),),
        lambda v: jnp.clip(v, -1, 1),
    ),
    "reversal": (identity, lambda args, g: (-3 * g,), lambda v: -3 * v),
    "scaling": (identity, lambda args, g: (g / 2,), lambda v: v / 2),
}


@pytest.mark.parametrize("name", MEANT)
def test_a_rule_is_held_against_the_surrogate(name):
    f, rule, surrogate = MEANT[name]
    without = verify.custom_vjp(ruled(f, rule), V)
    assert without.verdict == verify.FAIL
    assert any("surrogate=" in note for note in without.notes) == (f is not identity)
    report = verify.custom_vjp(ruled(f, rule), V, surrogate=surrogate)
    assert report.ok
    assert "surrogate" in report.title
    assert not any("second derivatives" in note for note in report.notes)
    wrong = ruled(f, lambda args, g: (rule(args, g)[0] * (1 + 1e-6),))
    assert verify.custom_vjp(wrong, V, surrogate=surrogate).verdict == verify.FAIL


def test_the_values_are_those_of_the_function_itself():
    f = jax.custom_vjp(step)
    f.defvjp(lambda v: (step(v) + 1, (v,)), FAST_SIGMOID[0])
    report = verify.custom_vjp(f, V, surrogate=FAST_SIGMOID[1])
    assert [leaf.verdict for leaf in report.leaves] == [verify.PASS, verify.FAIL]


def test_a_pair_of_passes_and_a_jvp_rule():
    def forward(v):
        return rounded(v), None

    assert verify.vjp(forward, lambda _, g: (g,), V, surrogate=identity).ok
    assert verify.vjp(forward, lambda _, g: (2 * g,), V, surrogate=identity).verdict == verify.FAIL
    f = jax.custom_jvp(rounded)
    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0]))
    assert verify.custom_jvp(f, V).verdict == verify.FAIL
    assert verify.custom_jvp(f, V, surrogate=identity).ok
    assert verify.custom_jvp(f, V, surrogate=lambda v: 1.001 * v).verdict == verify.FAIL


def test_a_stop_gradient_needs_no_rule():
    def through(v):
        return v + jax.lax.stop_gradient(jnp.round(v) - v)

    assert verify.custom_vjp(through, V, surrogate=identity).ok
    assert verify.custom_vjp(through, V, surrogate=jnp.sin).verdict == verify.FAIL


@pytest.mark.parametrize("surrogate", [jnp.sum, lambda v: (v,), lambda v: v > 0], ids=["shape", "tree", "dtype"])
def test_a_surrogate_that_does_not_fit(surrogate):
    with pytest.raises(ValueError, match=r"surrogate= returned .*float32") as error:
        verify.custom_vjp(ruled(step, FAST_SIGMOID[0]), V, surrogate=surrogate)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("nothing", [jnp.zeros_like, lambda scale: None], ids=["zeros", "None"])
def test_a_constant_argument_is_left_out_by_argnums(nothing):
    scaled = ruled(lambda v, scale: v * scale, lambda args, g: (g * args[1], nothing(args[1])))
    report = verify.custom_vjp(scaled, V, jnp.float32(0.5))
    assert report.verdict == verify.FAIL
    assert any("scale" in note and "argnums=(0,)" in note for note in report.notes)
    assert verify.custom_vjp(scaled, V, jnp.float32(0.5), argnums=(0,)).ok


def test_a_backward_pass_that_returns_none():
    with pytest.raises(ValueError, match=r"None for argument 1.*argnums=\(0,\)"):
        verify.vjp(lambda v, s: (v * s, s), lambda s, g: (g * s, None), V, jnp.float32(0.5))
    assert verify.vjp(lambda v, n: (v[n], n), lambda n, g: (jnp.zeros(3).at[n].set(g), None), V, jnp.array(1)).ok


def test_a_zero_among_the_parameters_has_no_argnums():
    report = verify.gradient(
        lambda p: (p["a"] * p["b"]).sum(), lambda p: {"a": p["b"], "b": 0 * p["a"]}, {"a": V, "b": V + 1}
    )
    assert report.verdict == verify.FAIL
    assert not any("argnums" in note for note in report.notes)
