"""Drawn points for which a rule was not written: it is not finite there, or a pole parts them from the given ones."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxnn import verify

A = np.array([[2.0, 0.3, -0.4], [0.1, 1.5, 0.7], [-0.6, 0.2, 1.8]])
FEW = np.array([1.4, 0.6, 2.2])
# name: (function, right rule, wrong one, arguments)
CASES = {
    "det by the inverse": (
        jnp.linalg.det,
        lambda a: jnp.linalg.det(a) * jnp.linalg.inv(a).T,
        lambda a: jnp.linalg.det(a) * jnp.linalg.inv(a),
        (A,),
    ),
    "a product by its quotients": (jnp.prod, lambda x: jnp.prod(x) / x, lambda x: jnp.prod(x) / x**2, (FEW,)),
    "a frequency": (
        lambda k, m: jnp.sqrt(k / m).sum(),
        lambda k, m: (0.5 / jnp.sqrt(k * m), -0.5 * jnp.sqrt(k / m) / m),
        lambda k, m: (0.5 / jnp.sqrt(k * m), -0.5 * jnp.sqrt(k / m)),
        (np.array(1.3), np.array(0.7)),
    ),
    "a frequency in NumPy": (
        lambda k, m: np.sqrt(k / m),
        lambda k, m: (0.5 / np.sqrt(k * m), -0.5 * np.sqrt(k / m) / m),
        lambda k, m: (0.5 / np.sqrt(k * m), 0.5 * np.sqrt(k / m) / m),
        (np.array(1.3), np.array(0.7)),
    ),
    "the root of squares": (
        lambda s: jnp.sum(1 / jnp.sqrt(s**2)),
        lambda s: -1 / s**2,
        lambda s: 1 / s**2,
        (FEW,),
    ),
}


SOUND = np.array([[1.0, -0.5, 0.25, 2.0], [0.5, 0.75, -1.0, 0.3]])


def phases(x):
    spectrum = jnp.fft.fft(x)
    return spectrum / abs(spectrum).astype(spectrum.dtype)


def asked(f, rule, args):
    return verify.gradient(f, rule, *args, argnums=tuple(range(len(args))) if len(args) > 1 else 0)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_is_right_where_it_was_written_for(name):
    f, right, wrong, args = CASES[name]
    with jax.enable_x64(True):
        report = asked(f, right, args)
        assert report.ok, report.reason
        assert any("drawn again" in note for note in report.notes)
        assert asked(f, wrong, args).verdict == verify.FAIL


HANDLED = {
    "|x|": (lambda x: abs(x).sum(), lambda x: x / x),
    "log |x|": (lambda x: jnp.log(abs(x)).sum(), lambda x: 1 / jnp.sqrt(x**2)),
    "log |x| in NumPy": (lambda x: np.log(np.abs(x)).sum(), lambda x: 1 / np.sqrt(x**2)),
    "a masked logarithm": (lambda x: jnp.where(x > 0, jnp.log(abs(x)), 0.0).sum(), lambda x: 1 / x),
    "sin x / x": (
        lambda x: jnp.where(x != 0, jnp.sin(x) / jnp.where(x != 0, x, 1), 1.0).sum(),
        lambda x: jnp.cos(x) / x - jnp.sin(x) / x**2,
    ),
    "x³, by its absolute value": (lambda x: (x**3).sum(), lambda x: 3 * x * jnp.sqrt(x**2)),
    "a norm": (lambda x: jnp.sqrt(x @ x), lambda x: jnp.sqrt(x**2) / jnp.sqrt(x @ x)),
}


@pytest.mark.parametrize("name", HANDLED)
def test_where_the_forward_pass_goes_on_its_rule_must_too(name):
    """A branch of its own takes care of the point, or no pole lies between."""
    f, rule = HANDLED[name]
    with jax.enable_x64(True):
        assert verify.gradient(f, rule, FEW).verdict == verify.FAIL


def test_the_users_own_point_is_never_drawn_again():
    with jax.enable_x64(True):
        report = verify.gradient(jnp.prod, lambda x: jnp.prod(x) / x, np.array([0.0, 2.0, 3.0]))
    assert report.verdict == verify.FAIL


def test_in_floats_too():
    """Balls know no complex numbers. At rows of zeros JAX's own derivative of |z| is 0."""
    with jax.enable_x64(True):
        spectrum = lambda x: abs(1j * jnp.fft.fft(x)).sum()  # noqa: E731
        right = lambda x: 4 * jnp.fft.ifft(phases(x)).real  # noqa: E731
        assert verify.gradient(spectrum, right, SOUND).ok
        assert verify.gradient(spectrum, lambda x: right(x) / 4, SOUND).verdict == verify.FAIL
        guarded = lambda x: jnp.maximum(abs(jnp.fft.fft(x)), 1e-3).sum()  # noqa: E731
        assert verify.gradient(guarded, right, SOUND).verdict == verify.FAIL
