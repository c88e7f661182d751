"""Is this hand-derived gradient right, how do we know, how accurate is it, and where is it wrong?

    from jaxnn import verify
    report = verify.gradient(cost, grad, params, *data)
    print(report)

A verdict is PASS, FAIL or INCONCLUSIVE, decided in ball arithmetic wherever it can be (`report.evidence` says): both
the hand rule and autodiff of the cost are evaluated with numbers that carry a proven error bound, at points that meet
signs, saturation, smallness and ties. There is no tolerance to tune.
"""

from jaxnn.verify.domains import Interval
from jaxnn.verify.exact_value import exact
from jaxnn.verify.many_cases import assert_sweep, sweep
from jaxnn.verify.questions import (
    assert_custom_jvp,
    assert_custom_vjp,
    assert_gradient,
    assert_layer,
    assert_loss,
    assert_model,
    assert_same,
    assert_vjp,
    custom_jvp,
    custom_vjp,
    gradient,
    layer,
    loss,
    model,
    same,
    vjp,
)
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS
from jaxnn.verify.reports.report import Report
from jaxnn.verify.reports.rules_report import RulesReport
from jaxnn.verify.whole_step import assert_rules, rules

__all__ = [
    "FAIL",
    "INCONCLUSIVE",
    "PASS",
    "Interval",
    "Report",
    "RulesReport",
    "assert_custom_jvp",
    "assert_custom_vjp",
    "assert_gradient",
    "assert_layer",
    "assert_loss",
    "assert_model",
    "assert_rules",
    "assert_same",
    "assert_sweep",
    "assert_vjp",
    "custom_jvp",
    "custom_vjp",
    "exact",
    "gradient",
    "layer",
    "loss",
    "model",
    "rules",
    "same",
    "sweep",
    "vjp",
]
