"""Bad input to an op is one clear sentence: what was given, what was expected."""

import numpy as np
import pytest

from jaxnn import Focal, Pinball, SoftmaxCrossEntropy, ops

ROWS, OTHER = np.ones((4, 3), np.float32), np.ones((4, 1), np.float32)
LABELS = np.zeros(4, np.int32)
HALF = np.ones((4, 3), np.float16)
ENTRYWISE = (ops.huber, ops.log_cosh, ops.pinball, ops.poisson, ops.hinge, ops.focal)
PAIRS = (*ENTRYWISE, ops.kl_divergence, ops.jensen_shannon)
ONE = np.float32(1)


@pytest.mark.parametrize("op", PAIRS, ids=lambda op: op.__name__)
def test_shapes_and_dtypes_that_differ(op):
    with pytest.raises(
        ValueError, match=rf"^{op.__name__} was given .* of shape \(4, 3\) and .* of shape \(4, 1\): they must"
    ):
        op(ROWS, OTHER)
    with pytest.raises(
        TypeError, match=rf"^{op.__name__} was given .* of float32, .* of float16: they must have one float"
    ):
        op(ROWS, HALF)
    with pytest.raises(TypeError, match="of int32: they must have one float dtype"):
        op(ROWS, ROWS.astype(np.int32))


REFUSED = {
    "labels of another shape": (lambda: ops.softmax_cross_entropy(ROWS, LABELS[:3]), "give integer labels of shape"),
    "a distribution of another shape": (
        lambda: ops.softmax_cross_entropy(ROWS, OTHER),
        "or a distribution of z's shape",
    ),
    "weights of other classes": (
        lambda: ops.softmax_cross_entropy(ROWS, LABELS, np.ones(2, np.float32)),
        r"class_weights of shape \(2,\) for z of shape \(4, 3\): give \(3,\)",
    ),
    "three shapes": (lambda: ops.gaussian_nll(ROWS, ROWS, OTHER), "gaussian_nll was given mu of shape"),
    "three dtypes": (
        lambda: ops.gaussian_nll(ROWS, HALF, ROWS),
        "gaussian_nll was given mu of float32, log_var of float16",
    ),
    "pairs of another number": (lambda: ops.info_nce(ROWS, ROWS[:2], ONE), "give a and b of one shape"),
    "a τ for each pair": (lambda: ops.info_nce(ROWS, ROWS, np.ones(4, np.float32)), r"tau of shape \(\)"),
    "vectors for matrices": (lambda: ops.info_nce(ROWS[0], ROWS[0], ONE), r"\(…, m, d\)"),
    "more positions than P has": (
        lambda: ops.learned_positions(ROWS, ROWS[:3]),
        r"x of shape \(4, 3\) and P of \(3, 3\): give \(…, T, n\) and \(L, n\), with T at most L",
    ),
    "positions of another width": (
        lambda: ops.learned_positions(ROWS, OTHER),
        "learned_positions was given x of shape",
    ),
    "no axis of positions": (lambda: ops.sinusoidal_positions(ROWS[0]), r"x of shape \(3,\) and base=10000.0: give"),
    "a base of 0": (lambda: ops.sinusoidal_positions(ROWS, base=0), "and a positive number"),
    "δ": (lambda: ops.huber(ROWS, ROWS, delta=0.0), "huber was given delta = 0.0: give a positive number"),
    "a quantile of 90": (lambda: ops.pinball(ROWS, ROWS, quantile=90), "quantile = 90: give a number between 0 and 1"),
    "γ": (lambda: ops.focal(ROWS, ROWS, gamma=-1.0), "gamma = -1.0: give 0 or more"),
    "no temperature": (lambda: ops.kl_divergence(ROWS, ROWS, temperature=0.0), "temperature = 0.0: give a positive"),
    "β": (lambda: ops.jensen_shannon(ROWS, ROWS, beta=1.5), "beta = 1.5: give a number from 0 to 1"),
    "a loss's soft cap": (lambda: SoftmaxCrossEntropy(soft_cap=0.0), "soft_cap None or positive"),
    "a loss's smoothing": (lambda: SoftmaxCrossEntropy(smoothing=2.0), "smoothing is from 0 to 1"),
    "a loss's z-loss": (lambda: SoftmaxCrossEntropy(z_loss=-1.0), "z_loss 0 or more"),
    "a loss's class weights": (lambda: SoftmaxCrossEntropy(class_weights=(1.0, -1.0)), "class_weights are 0 or more"),
    "a loss's weights of other classes": (
        lambda: SoftmaxCrossEntropy(class_weights=(1.0, 2.0)).forward(ROWS, LABELS),
        r"class_weights of shape \(2,\) for z of shape \(4, 3\): give \(3,\)",
    ),
    "a loss's α": (lambda: Focal(alpha=2.0), "alpha is from 0 to 1"),
    "a loss's quantile": (lambda: Pinball(quantile=1.0), "quantile must be between 0 and 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name):
    call, words = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=words) as refused:
        call()
    assert str(refused.value).count("\n") == 0
