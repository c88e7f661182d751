"""What decides a verdict is a typed fact: each of them turned round makes a test here red. A report is plain data."""

import pickle
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

from jaxnn import verify
from jaxnn.verify.arithmetic.decisions import Undecided
from jaxnn.verify.decide import decision
from jaxnn.verify.evidence.branches import Side
from jaxnn.verify.evidence.kinks import Explained, choice
from jaxnn.verify.evidence.outcome import Outcome
from jaxnn.verify.evidence.points import GENERIC
from jaxnn.verify.reports.findings import FAIL, INCONCLUSIVE, PASS, Evidence

W = np.float32([0.5, -1.25, 2.0])


def solved(b):
    """‖b/2‖², whose autodiff is wrong and says nothing of it: the transposed system is solved wrongly."""
    out = lax.custom_linear_solve(lambda v: 2 * v, b, lambda _, b: b / 2, lambda _, b: b / 3)
    return (out**2).sum()


def stopped(w):
    return (w * lax.stop_gradient(w)).sum()


def test_a_rule_that_agrees_with_a_wrong_autodiff_is_no_pass():
    report = verify.gradient(solved, jax.grad(solved), W)
    assert report.verdict == INCONCLUSIVE
    assert [w.agrees_with_truth for w in report.witnesses] == [False]
    assert verify.gradient(stopped, jax.grad(stopped), W).ok  # which says that it stops


def test_a_rule_that_is_right_where_autodiff_is_wrong_says_who_is():
    report = verify.gradient(solved, lambda b: b / 2, W)
    assert report.verdict == FAIL
    assert [w.agrees_with_hand for w in report.witnesses] == [True]


def test_where_a_formula_is_not_defined_points_come_nearer():
    """log of what is redrawn is not finite; near the given numbers it is."""
    report = verify.gradient(lambda w: jnp.log(w).sum(), lambda w: 1 / w, abs(W))
    assert report.ok
    assert {point.kind for point in report.points} == {"given", "near"}
    never = verify.gradient(lambda w: jnp.log(-(w**2)).sum(), lambda w: 2 / w, W)
    assert (never.verdict, len(never.points)) == (INCONCLUSIVE, 6)


def test_what_floats_cannot_define_comes_nearer_too():
    """Of a function that balls do not know."""

    def root(v):
        return jax.pure_callback(lambda v: np.sqrt(abs(v)), jax.ShapeDtypeStruct(v.shape, v.dtype), v)

    report = verify.vjp(lambda v: (jnp.sqrt(v), v), lambda v, dout: (dout / (2 * root(v)),), abs(W))
    assert report.evidence == Evidence.DTYPE
    assert {point.kind for point in report.points} - {"mixed"} == {"given", "near"}


def test_zeros_are_no_generic_point_of_a_side():
    """w > 0 is false at zeros alone for w², which is never negative."""
    report = verify.gradient(lambda w: jnp.where(w**2 > 0, w, 0 * w).sum(), jnp.ones_like, W)
    assert [branch.seen for branch in report.branches if branch.kind == "gt"] == [("true",)]


def at_zero(w, slope):
    """The derivative of |w|, with a choice at 0."""
    return jnp.where(w == 0, slope, jnp.sign(w)).astype(w.dtype)


@pytest.mark.parametrize(
    ("hand", "verdict"),
    [(jnp.sign, PASS), (lambda w: at_zero(w, 0.5), PASS), (lambda w: at_zero(w, 2.0), FAIL)],
    ids=["as JAX", "another choice", "no choice"],
)
def test_choices_at_a_kink(hand, verdict):
    assert verify.gradient(lambda w: jnp.abs(w).sum(), hand, 0 * W).verdict == verdict


def test_any_choice_at_many_ties():
    """|w| at 40 zeros, half of the choices one way and half the other."""
    slopes = np.resize(np.float32([1, -1]), 40)
    report = verify.gradient(lambda w: jnp.abs(w).sum(), lambda w: at_zero(w, slopes), np.zeros(40, np.float32))
    assert report.points[0].verdict == PASS


def test_the_three_answers_at_a_kink():
    from flint import arb

    leaf = lambda v: [np.array([arb(v)], object)]  # noqa: E731

    def evaluate(ties):
        share = ties.default if ties.default is not None else 0.0
        return leaf(ties.choices.get((0, 0), share))

    def undecided(ties):
        raise Undecided

    assert choice(leaf(0.5), leaf(0), evaluate, [(0, 0)], 12).explained == Explained.RIGHT
    assert choice(leaf(3), leaf(0), evaluate, [(0, 0)], 12).explained == Explained.WRONG
    assert choice(leaf(3), leaf(0), undecided, [(0, 0)], 12).explained == Explained.TOO_MANY


def test_a_side_that_is_impossible_is_not_unseen():
    """A square is never negative, so nothing is missing; of w itself the other side is."""
    for positive in (lambda w: jnp.where(w**2 >= 0, w, -w).sum(), lambda w: (jnp.sign(jnp.exp(w)) * w).sum()):
        report = verify.gradient(positive, jnp.ones_like, W, points="given")
        assert report.unseen == ()
        assert all(len(branch.seen) == 1 for branch in report.branches)
    one_sided = verify.gradient(lambda w: jnp.where(w >= 0, w, -w).sum(), jnp.sign, abs(W), points="given")
    assert len(one_sided.unseen) == 2  # of the cost and of the rule
    assert (
        verify.gradient(lambda w: jnp.abs(w).sum(), jnp.sign, abs(W), points="given", strict=True).verdict
        == "INCONCLUSIVE"
    )


def outcomes(*verdicts, sides=()):
    return [
        Outcome(GENERIC, verdict, "a reason", sides={("here", "gt"): {Side(side)}} if side else {})
        for verdict, side in zip(verdicts, [*sides, *[None] * len(verdicts)], strict=False)
    ]


@pytest.mark.parametrize(
    ("given", "autodiff_is_wrong", "verdict"),
    [
        (outcomes(PASS, PASS), False, PASS),
        (outcomes(PASS, PASS), True, INCONCLUSIVE),
        (outcomes(INCONCLUSIVE, INCONCLUSIVE), False, INCONCLUSIVE),
        (outcomes(PASS, INCONCLUSIVE, sides=["true", "true"]), False, PASS),
        (outcomes(PASS, INCONCLUSIVE, sides=["true", "false"]), False, INCONCLUSIVE),
    ],
)
def test_the_verdict_over_all_points(given, autodiff_is_wrong, verdict):
    said = decision(given, (), (), False, autodiff_is_wrong)
    assert said.verdict == verdict
    assert said.reason.endswith(".") == (verdict != PASS)


def test_more_than_a_gradient_is_not_asked_of_numpy_code():
    """Its value is: two calls of linalg.eigvalsh, which balls do not run."""
    cost = lambda w: np.linalg.eigvalsh(np.outer(w, w) + np.diag(w)).sum()  # noqa: E731
    grad = lambda w: 2 * w + 1  # noqa: E731
    assert verify.gradient(cost, grad, np.float64(W)).evidence == Evidence.FLOAT64
    with_value = verify.gradient(cost, lambda w: (cost(w), grad(w)), np.float64(W))
    assert (with_value.verdict, with_value.evidence) == (PASS, Evidence.FLOAT64)
    assert with_value.leaves[-1].path == "value"


def test_a_formula_for_some_arguments_alone_is_hinted_at_where_they_were_redrawn():
    guarded = lambda w: jnp.where(w > 0, 2 * w, 3 * w)  # noqa: E731
    redrawn = verify.gradient(lambda w: (w**2).sum(), guarded, abs(W))
    given = verify.gradient(lambda w: (w**2).sum(), guarded, W)
    assert [any("points='given'" in note for note in report.notes) for report in (redrawn, given)] == [True, False]
    drawn = verify.gradient(
        lambda w: (w**2).sum(), guarded, abs(W), points="auto", draw=lambda key: (jax.random.normal(key, (3,)),)
    )
    assert drawn.verdict == FAIL


def test_the_precision_is_that_of_the_arguments_that_were_given():
    report = verify.layer(verify_layer(), np.float32(np.ones((2, 3))))
    assert {grade.dtype for grade in report.precision} == {"float32", "bfloat16", "float64"}


def verify_layer():
    from jaxnn import Dense

    return Dense(3, 2)


def gradient(w, x):
    return x.T @ (2 * (x @ w)) / len(x)


@pytest.fixture(scope="module")
def reports():
    x = np.float32(np.random.default_rng(0).normal(size=(5, 3)))
    cost = lambda w, x: ((x @ w) ** 2).mean()  # noqa: E731
    wrong = lambda w, x: gradient(w, x) * 5  # noqa: E731
    inconclusive = lambda w: jnp.log(-(w**2)).sum()  # noqa: E731
    return [
        verify.gradient(cost, gradient, W, x),
        verify.gradient(cost, wrong, W, x),
        verify.gradient(inconclusive, jax.grad(inconclusive), W),
    ]


def test_reports_of_the_same_findings_are_equal(reports):
    x = np.float32(np.random.default_rng(0).normal(size=(5, 3)))
    again = verify.gradient(lambda w, x: ((x @ w) ** 2).mean(), gradient, W, x)
    assert again == reports[0] or again.replay != reports[0].replay
    assert reports[0] != reports[1]
    assert reports[0] != "PASS"


def test_a_report_is_pickled_with_its_answers(reports):
    for report in reports:
        report_again = pickle.loads(pickle.dumps(report))
        assert report_again == report
        assert hash(report_again) == hash(report)
        assert str(report_again) == str(report)
        assert report_again.to_dict() == report.to_dict()
    assert not pickle.loads(pickle.dumps(reports[0])).has_power
    assert reports[0].power().killed > 0
    assert pickle.loads(pickle.dumps(reports[0])).power() == reports[0].power()


def test_no_verdict_hangs_on_the_wording_of_a_sentence():
    """One sentence here; scripts/reword takes as many as one likes."""
    script = Path(__file__).parents[2] / "scripts" / "reword"
    ended = subprocess.run([sys.executable, script, "--sample", "1"], capture_output=True, text=True, encoding="utf-8")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "0 change a verdict" in ended.stdout
