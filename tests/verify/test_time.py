"""What a check costs whoever waits: failing assertions are cheap, long checks are heard of, seconds are all of them."""

import sys
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


def follow(frame, event, arg, files=set()):  # noqa: B006
    """A tracer, which notes the files that it passes through."""
    files.add(frame.f_code.co_filename)
    return follow


@pytest.mark.skipif(hasattr(sys, "monitoring"), reason="from Python 3.12 on, Hypothesis traces by sys.monitoring")
@pytest.mark.parametrize(("owner", "is_followed"), [("hypothesis.internal.scrutineer", False), ("coverage", True)])
def test_hypothesis_does_not_follow_an_assertion_line_by_line(monkeypatch, owner, is_followed):
    files = set()
    monkeypatch.setattr(follow, "__defaults__", (files,))
    monkeypatch.setattr(follow, "__module__", owner)
    before = sys.gettrace()
    sys.settrace(follow)
    try:
        with pytest.raises(AssertionError):
            verify.assert_gradient(lambda w: (w**2).sum(), lambda w: 3 * w, W)
        after = sys.gettrace()
    finally:
        sys.settrace(before)
    assert after is follow
    assert (decide.__file__ in files) == is_followed


@pytest.mark.skipif(not hasattr(sys, "monitoring"), reason="before Python 3.12, Hypothesis traces by sys.settrace")
@pytest.mark.parametrize(("owner", "is_followed"), [("scrutineer", False), ("another", True)])
def test_hypothesis_does_not_monitor_an_assertion(owner, is_followed):
    tool, files = 3, set()
    sys.monitoring.use_tool_id(tool, owner)
    try:
        sys.monitoring.set_events(tool, sys.monitoring.events.LINE)
        sys.monitoring.register_callback(
            tool, sys.monitoring.events.LINE, lambda code, line: files.add(code.co_filename)
        )
        with pytest.raises(AssertionError):
            verify.assert_gradient(lambda w: (w**2).sum(), lambda w: 3 * w, W)
        assert sys.monitoring.get_events(tool) == sys.monitoring.events.LINE
    finally:
        sys.monitoring.free_tool_id(tool)
    assert (decide.__file__ in files) == is_followed


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
