"""What a check costs whoever waits: failing assertions are cheap, long checks are heard of, seconds are all of them."""

import time

import numpy as np
import pytest

from jaxnn import verify
from jaxnn.verify import decide, waiting

W = np.float32([0.5, -1.0, 2.0])


def test_causes_of_a_failing_assertion_are_looked_for_when_it_is_read(monkeypatch):
    asked = []
    monkeypatch.setattr(decide, "causes", lambda *args: asked.append(args) or ())
    with pytest.raises(AssertionError) as caught:
        verify.assert_gradient(lambda w: (w**2).sum(), lambda w: 3 * w, W)
    assert not asked
    assert "FAIL" in str(caught.value)
    assert asked


def test_who_waits_for_long_is_told_if_a_command_asks_for_it(monkeypatch, capfd):
    monkeypatch.setattr(waiting, "SILENT", 0.01)

    def cost(w):
        time.sleep(0.05)
        return (w**2).sum()

    report = verify.gradient(cost, lambda w: 2 * w, W)
    assert capfd.readouterr().err == ""
    assert report.seconds > 0.05
    with waiting.aloud():
        verify.gradient(cost, lambda w: 2 * w, W)
    assert "verify.gradient(cost" in capfd.readouterr().err


def test_numpy_code_that_is_too_large_is_differenced_in_float64(monkeypatch):
    monkeypatch.setattr(decide, "SECONDS", 1e-3)
    x, y = np.random.default_rng(0).normal(size=(2, 30, 40))
    cost = lambda w: np.mean((np.tanh(x * w) - y) ** 2)  # noqa: E731

    def grad(w):
        a = np.tanh(x * w)
        return 2 * (a - y) * (1 - a**2) * x / y.size

    report = verify.gradient(cost, grad, y, points="given")
    assert (report.verdict, report.evidence) == (verify.PASS, "float64"), str(report)
    assert verify.gradient(cost, lambda w: 1.001 * grad(w), y, points="given").verdict == verify.FAIL
