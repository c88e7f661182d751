"""`jaxnn.verify` as its users meet it: what it says of right and wrong rules, of bad input, of what it cannot see."""

import html
import json
import math
from decimal import Decimal
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl

from jaxnn import L2, Activation, Chain, Dense, HalfSquaredError, SoftmaxCrossEntropy, verify
from jaxnn.verify import precision
from jaxnn.verify.arithmetic.evaluation import TooLarge
from jaxnn.verify.evidence import floating

M, N_IN, N_HIDDEN, N_OUT = 6, 3, 5, 2


def cost(params, x, y):
    a1 = jax.nn.sigmoid(x @ params["W1"].T + params["b1"][None])
    return 0.5 * ((a1 @ params["W2"].T + params["b2"][None] - y) ** 2).sum() / len(x)


def grad(params, x, y):
    a1 = jax.nn.sigmoid(x @ params["W1"].T + params["b1"][None])
    dz2 = (a1 @ params["W2"].T + params["b2"][None] - y) / len(x)
    dz1 = dz2 @ params["W2"] * a1 * (1 - a1)
    return {"W1": dz1.T @ x, "b1": dz1.sum(0), "W2": dz2.T @ a1, "b2": dz2.sum(0)}


def case(dtype=np.float32):
    """Biases are 0, as people begin: what a rule makes of them must be seen all the same."""
    rng = np.random.default_rng(0)
    normal = lambda *shape: np.asarray(rng.normal(size=shape), dtype)  # noqa: E731
    params = {"W1": normal(N_HIDDEN, N_IN), "b1": np.zeros(N_HIDDEN, dtype)}
    params |= {"W2": normal(N_OUT, N_HIDDEN), "b2": np.zeros(N_OUT, dtype)}
    return params, normal(M, N_IN), normal(M, N_OUT)


def with_leaf(name, f):
    """`grad` with one leaf changed by f(leaf, params)."""
    return lambda params, x, y: grad(params, x, y) | {name: f(grad(params, x, y)[name], params)}


W, X = np.float32([0.5, -1.25, 2.0]), np.float32([[1, 2, -1], [0.5, -3, 1], [2, 1, 1], [-1, 0.25, 2]])


def tanh_cost(w, x):
    return jnp.tanh(x @ w).sum()


def tanh_grad(w, x):
    return x.T @ (1 - jnp.tanh(x @ w) ** 2)


# Right and wrong


def test_a_right_gradient_passes_at_every_point():
    report = verify.gradient(cost, grad, *case())
    assert (report.verdict, report.ok, report.evidence) == (verify.PASS, True, "exact")
    assert report.digits >= 15
    assert [leaf.path for leaf in report.leaves] == ["['W1']", "['W2']", "['b1']", "['b2']"]
    assert {p.kind for p in report.points} == {"given", "generic", "tiny", "saturated", "zeros", "mixed"}
    assert report.unseen == ()
    assert [w.agrees_with_truth for w in report.witnesses] == [True]


def test_a_wrong_leaf_is_named_with_its_worst_entry_and_both_values():
    params, x, y = case()
    report = verify.gradient(cost, with_leaf("W2", lambda dW, _: dW.at[1, 3].multiply(1.01)), params, x, y)
    (leaf,) = [leaf for leaf in report.leaves if leaf.verdict == verify.FAIL]
    assert (leaf.path, leaf.index, leaf.point) == ("['W2']", (1, 3), "given")
    with jax.enable_x64(True):
        true = jax.grad(cost)(*jax.tree.map(lambda v: jnp.asarray(v, float), (params, x, y)))["W2"][1, 3]
    assert leaf.true == pytest.approx(float(true), rel=1e-12)
    assert leaf.hand == pytest.approx(1.01 * float(true), rel=1e-6)
    assert report.reason.startswith("['W2'] differs from the ")
    assert report.witnesses[0].agrees_with_truth
    assert not report.witnesses[0].agrees_with_hand


def test_what_zero_biases_hide_is_seen_because_parameters_are_redrawn():
    wrong = with_leaf("b1", lambda db, params: db * (1 + params["b2"].sum()))
    assert verify.gradient(cost, wrong, *case(), points="given").ok
    assert verify.gradient(cost, wrong, *case()).verdict == verify.FAIL


@settings(max_examples=15)
@given(st.integers(2, 33), st.sampled_from(["W1", "b1", "W2", "b2"]))
def test_a_factor_near_1_is_found(k, name):
    wrong = with_leaf(name, lambda dv, _: dv * (1 + 2.0**-k))
    report = verify.gradient(cost, wrong, *case(np.float64), points="given")
    assert report.verdict == verify.FAIL
    assert report.digits == pytest.approx(k * np.log10(2), abs=0.1)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
def test_any_float_dtype(dtype):
    with jax.enable_x64(dtype == jnp.float64):
        assert verify.gradient(cost, grad, *case(dtype)).ok
        assert verify.gradient(cost, with_leaf("b1", lambda db, _: db / 2), *case(dtype)).verdict == verify.FAIL


def scanned(w, x):
    carry, ys = jax.lax.scan(lambda c, row: (jnp.tanh(c + row @ w), c), jnp.zeros((), w.dtype), x)
    return carry + (ys**2).sum()


def while_loop(w, x):
    return jax.lax.fori_loop(0, 3, lambda i, v: jnp.sin(v) + (x @ w).sum(), 1.0 * w[0])


TRANSFORMED = {
    "jit": jax.jit(tanh_cost),
    "vmap": lambda w, x: jax.vmap(lambda row: jnp.tanh(row @ w))(x).sum(),
    "remat": lambda w, x: jax.checkpoint(tanh_cost)(w, x),
    "scan": scanned,
    "fori_loop": while_loop,
    "cond": lambda w, x: jax.lax.cond(w[0] > 0, lambda: tanh_cost(w, x), lambda: (w**3).sum()),
    "while with a data-dependent end": lambda w, x: (
        jax.lax.while_loop(lambda v: v[0] < 10, lambda v: v * 2, x[0] + 3)[1] * w.sum()
    ),
    "dropout": lambda w, x: (jax.random.bernoulli(jax.random.key(3), 0.9, x.shape) * x / 0.9 @ w).sum(),
}


@pytest.mark.parametrize("f", TRANSFORMED.values(), ids=TRANSFORMED)
def test_transformed_functions(f, standard_promotion):
    assert verify.gradient(f, jax.grad(f), W, X).evidence == "exact"
    assert verify.gradient(f, jax.grad(f), W, X).ok
    assert verify.gradient(f, lambda w, x: jax.grad(f)(w, x) * 1.0001, W, X).verdict == verify.FAIL


def test_argnums_has_aux_and_the_value():
    with_aux = lambda w, x: (tanh_cost(w, x), x)  # noqa: E731
    assert verify.gradient(with_aux, jax.grad(with_aux, has_aux=True), W, X, has_aux=True).ok
    both = verify.gradient(with_aux, jax.value_and_grad(with_aux, (0, 1), True), W, X, argnums=(0, 1), has_aux=True)
    assert [leaf.path for leaf in both.leaves] == ["w", "x", "value"]
    assert both.ok
    wrong = verify.gradient(tanh_cost, lambda w, x: (tanh_cost(w, x) / 4, tanh_grad(w, x)), W, X)
    assert [leaf.path for leaf in wrong.leaves if leaf.verdict == verify.FAIL] == ["value"]


def test_float32_numbers_in_the_code_are_numbers_of_float32():
    third = jnp.float32(1) / 3
    assert verify.gradient(lambda w: (w**2).sum() / 6, lambda w: w * third, W).ok
    assert verify.gradient(lambda w: (w**2).sum() / 6, lambda w: w * (third + 1e-4), W).verdict == verify.FAIL
    tenth, ten = np.float32(0.1), np.float32(10)
    for plain in (np, jnp):
        f = lambda w, plain=plain: tenth * plain.sum(plain.tanh(w))  # noqa: E731
        assert verify.gradient(f, lambda w, plain=plain: (1 - plain.tanh(w) ** 2) / ten, W).ok
        wrong = lambda w, plain=plain: (1 - plain.tanh(w) ** 2) / ten * 1.00001  # noqa: E731
        assert verify.gradient(f, wrong, W).verdict == verify.FAIL


def test_an_assertion_carries_the_report_and_how_to_repeat_it():
    verify.assert_gradient(cost, grad, *case())
    with pytest.raises(
        AssertionError, match=r"(?s)FAIL  gradient of tanh_cost: w differs.*replay +verify.gradient\(.*key=7"
    ):
        verify.assert_gradient(tanh_cost, lambda w, x: 2 * tanh_grad(w, x), W, X, key=7)


def test_the_same_key_gives_the_same_points():
    digits = lambda key: [p.digits for p in verify.gradient(cost, grad, *case(np.float64), key=key).points]  # noqa: E731
    assert digits(3) == digits(3)
    assert digits(3) != digits(4)
    assert digits(jax.random.key(3)) == digits(jax.random.key(3))


def test_other_data_are_drawn_when_a_way_to_draw_them_is_given():
    f = lambda w, x: (jax.nn.relu(x) * w).sum()  # noqa: E731
    wrong = lambda w, x: x  # noqa: E731
    x = np.float32([1, 2, 3])
    assert verify.gradient(f, wrong, W, x).ok
    draw = lambda key: (W, jax.random.normal(key, (3,)))  # noqa: E731
    assert verify.gradient(f, wrong, W, x, draw=draw).verdict == verify.FAIL
    assert verify.gradient(f, lambda w, x: jax.nn.relu(x), W, x, draw=draw).ok


# The other questions


def test_vjp():
    forward = lambda W, x, i: (jnp.tanh(W @ x[i]), (W, x, i, jnp.tanh(W @ x[i])))  # noqa: E731

    def backward(residuals, dout, by=1.0):
        W, x, i, a = residuals
        dz = dout * (1 - a**2) * by
        return jnp.outer(dz, x[i]), jnp.zeros_like(x).at[i].add(W.T @ dz), None

    args = np.float32([[1, 2, 3], [-1, 0.5, 2]]), X, 2
    report = verify.vjp(forward, backward, *args)
    assert report.ok
    assert [leaf.path for leaf in report.leaves] == ["W", "x"]
    assert verify.vjp(forward, lambda r, d: backward(r, d, 0.999), *args).verdict == verify.FAIL
    ignores = lambda r, d: backward(r, jnp.ones_like(d))  # noqa: E731
    assert verify.vjp(forward, ignores, *args).verdict == verify.FAIL
    assert verify.vjp(lambda x: (jnp.exp(x), jnp.exp(x)), lambda a, d: d * a, W).ok


def custom(rule):
    @jax.custom_vjp
    def f(x):
        return jnp.log1p(jnp.exp(x))

    f.defvjp(lambda x: (f(x), x), lambda x, d: (rule(x) * d,))
    return f


def test_custom_vjp_and_custom_jvp():
    assert verify.custom_vjp(custom(jax.nn.sigmoid), W).ok
    assert verify.custom_vjp(custom(jnp.tanh), W).verdict == verify.FAIL
    assert verify.custom_vjp(lambda x: jax.jit(custom(jnp.tanh))(x).sum(), W).verdict == verify.FAIL

    def jvp(rule):
        f = jax.custom_jvp(lambda x: jnp.log1p(jnp.exp(x)))
        f.defjvp(lambda primals, tangents: (f(primals[0]), rule(primals[0]) * tangents[0]))
        return f

    assert verify.custom_jvp(jvp(jax.nn.sigmoid), W).ok
    assert verify.custom_jvp(jvp(jnp.tanh), W).verdict == verify.FAIL


def test_a_rule_whose_forward_computes_something_else():
    f = jax.custom_vjp(jnp.sin)
    f.defvjp(lambda x: (jnp.sin(x) + 1e-3, x), lambda x, d: (jnp.cos(x) * d,))
    report = verify.custom_vjp(f, W)
    assert [leaf.path for leaf in report.leaves if leaf.verdict == verify.FAIL] == ["out"]


def test_same():
    naive = lambda z: jnp.exp(z) / jnp.exp(z).sum()  # noqa: E731
    assert verify.same(jax.nn.softmax, naive, W).ok
    report = verify.same(jax.nn.gelu, lambda z: jax.nn.gelu(z, approximate=False), W)
    assert report.verdict == verify.FAIL
    assert verify.same(np.tanh, jnp.tanh, W).ok
    largest = lambda z: jax.lax.top_k(z, 1)[1][0]  # noqa: E731
    assert verify.same(jnp.argmax, largest, W).ok
    assert verify.same(jnp.argmax, lambda z: largest(z) + 1, W).verdict == verify.FAIL


def test_layer_loss_and_model():
    model = Chain((Dense(3, 4), Activation("tanh"), Dense(4, 2)))
    assert verify.layer(model, X).ok
    assert "one example" in {p.kind for p in verify.layer(model, X).points}
    assert verify.loss(SoftmaxCrossEntropy(), X, np.array([0, 2, 1, 1])).ok
    assert verify.model(model, HalfSquaredError(), X, X[:, :2], penalty=L2(0.1)).ok

    class Wrong(Dense):
        def backward(self, residuals, dout):
            dparams, dx = super().backward(residuals, dout)
            return dparams._replace(b=dparams.b / 4), dx

    report = verify.model(Chain((Wrong(3, 4), Activation("tanh"), Dense(4, 2))), HalfSquaredError(), X, X[:, :2])
    assert [leaf.path for leaf in report.leaves if leaf.verdict == verify.FAIL] == ["[0].b"]
    assert verify.layer(Wrong(3, 4), X).verdict == verify.FAIL


def test_exact_values():
    assert verify.exact(jnp.exp, 1.0, digits=30) == Decimal("2.71828182845904523536028747135")
    assert verify.exact(np.sqrt, np.float64([2.0]), digits=40)[0] == Decimal(
        "1.414213562373095048801688724209698078570"
    )
    slope = verify.exact(jax.grad(jax.nn.sigmoid), 40.0)  # float64 makes 0.0 of it
    assert slope == pytest.approx(Decimal("4.24835425529158899e-18"), rel=Decimal("1e-16"))
    with pytest.raises(ArithmeticError, match="no value to 30 digits"):
        verify.exact(jnp.log, 0.0)
    with pytest.raises(ArithmeticError, match=r"^<lambda> cannot be evaluated exactly \(complex numbers\)\.$"):
        verify.exact(lambda x: jnp.fft.fft(x).real, np.ones(4))


# Evidence and blame


def surrogate_cost(w, x):
    return (custom(jnp.tanh)(x @ w)).sum()


def test_a_wrong_rule_inside_the_cost_is_not_compared_with_itself():
    report = verify.gradient(surrogate_cost, jax.grad(surrogate_cost), W, X)
    assert report.verdict == verify.FAIL
    assert "custom rule of f" in report.reason
    assert "the hand rule agrees with it" in report.reason
    right = verify.gradient(surrogate_cost, lambda w, x: x.T @ jax.nn.sigmoid(x @ w), W, X)
    assert right.ok
    assert any("custom rule of f" in note for note in right.notes)


def test_stop_gradient_is_a_surrogate_that_is_said():
    stopped = lambda w, x: (jnp.tanh(x @ w) * jax.lax.stop_gradient(x @ w)).sum()  # noqa: E731
    as_jax = verify.gradient(stopped, jax.grad(stopped), W, X)
    assert as_jax.ok
    assert any("stop_gradient" in note for note in as_jax.notes)
    full = verify.gradient(stopped, jax.grad(lambda w, x: (jnp.tanh(x @ w) * (x @ w)).sum()), W, X)
    assert full.verdict == verify.FAIL
    assert "is the derivative of what is computed, autodiff is not: the forward pass has a stop_gradient" in full.reason


def test_a_reference_is_one_more_witness():
    right, wrong = (lambda w, x, by=by: by * x.T @ (1 - np.tanh(x @ w) ** 2) for by in (1, 2))
    report = verify.gradient(tanh_cost, tanh_grad, W, X, reference=right)
    assert report.ok
    assert [(w.name, w.agrees_with_truth) for w in report.witnesses][1] == ("reference", True)
    both = verify.gradient(tanh_cost, lambda w, x: 2 * tanh_grad(w, x), W, X, reference=wrong)
    assert "The reference agrees with the hand rule" in both.reason
    alone = verify.gradient(tanh_cost, tanh_grad, W, X, reference=wrong)
    assert alone.ok
    assert any("The reference is wrong" in note for note in alone.notes)


def kernel(by):
    def body(w, x, out):
        out[...] = by * 2 * w[...] * x[...]

    return lambda w, x: pl.pallas_call(body, jax.ShapeDtypeStruct(w.shape, w.dtype), interpret=True)(w, x)


def callback(by):
    f = lambda w, x: np.asarray(by * 2 * np.asarray(w) * np.asarray(x), w.dtype)  # noqa: E731
    return lambda w, x: jax.pure_callback(f, jax.ShapeDtypeStruct(w.shape, w.dtype), w, x)


def test_a_callback_is_a_black_box_against_the_exact_truth():
    f = lambda w, x: (w * w * x).sum()  # noqa: E731
    report = verify.gradient(f, callback(1), W, W + 1)
    assert (report.verdict, report.evidence) == (verify.PASS, "dtype")
    assert 5 < report.digits < 8
    assert any("pure_callback" in note for note in report.notes)
    assert verify.gradient(f, callback(1.0001), W, W + 1).verdict == verify.FAIL
    assert verify.gradient(f, callback(1), W, W + 1, require="exact").verdict == verify.INCONCLUSIVE


def test_a_black_box_whose_truth_comes_too_late_is_undecided(monkeypatch):
    def late(*_):
        raise TooLarge("differences in float64 take too long")

    for truth in ("true_floats", "truth_in_floats"):
        monkeypatch.setattr(floating, truth, late)
    report = verify.gradient(lambda w, x: (w * w * x).sum(), callback(1), W, W + 1)
    assert (report.verdict, "take too long" in report.reason) == (verify.INCONCLUSIVE, True)


def test_a_kernel_is_evaluated_exactly():
    f = lambda w, x: (w * w * x).sum()  # noqa: E731
    report = verify.gradient(f, kernel(1), W, W + 1, require="exact")
    assert (report.verdict, report.evidence) == (verify.PASS, "exact")
    assert verify.gradient(f, kernel(1.000001), W, W + 1).verdict == verify.FAIL


def test_a_callback_beside_a_truth_that_needs_many_bits():
    """The truth chooses between e and e + 1e-76, which 200 bits do not decide."""
    tiny = jnp.float32(1e-38)

    def f(w, x):
        e = jnp.exp(tiny)
        return (w * w * x).sum() * jnp.argmax(jnp.stack([e, e + tiny * tiny])).astype(w.dtype)

    report = verify.gradient(f, callback(1), W, W + 1)
    assert (report.verdict, report.evidence) == (verify.PASS, "dtype"), str(report)


@pytest.mark.parametrize("grad", [jax.grad, jax.value_and_grad])
def test_two_numbers_and_a_number_as_aux(grad):
    """((value, aux), gradient) and (gradient, aux) are of like shapes."""
    f = lambda p, x: ((p[0] * x + p[1]).sum(), 3 * p[0])  # noqa: E731
    assert verify.gradient(f, grad(f, has_aux=True), (W[0], W[1]), X[0], has_aux=True).ok


def test_a_fault_at_other_shapes_alone_is_explained():
    """Right for the five examples that are given, wrong for the seven that are drawn."""

    def cost(w, x):
        return (checkpoint_name(x @ w, "z") ** 2).mean()

    def grad(w, x):
        return x.T @ checkpoint_name(2 / 5 * (x @ w), "dz")

    def draw(key):
        return W, jax.random.normal(key, (7, *W.shape))

    report = verify.gradient(cost, grad, W, jnp.ones((5, *W.shape)), draw=draw)
    assert (report.verdict, report.points[-1].kind) == (verify.FAIL, "drawn 1")
    assert (report.links[0].name, report.links[0].verdict) == ("dz", verify.FAIL)
    assert "7/5 times" in report.causes[0].sentence
    assert report.precision


@pytest.mark.parametrize("argnums", [2, -3, (0, 5)])
def test_an_argument_that_is_not_there(argnums):
    with pytest.raises(TypeError, match="there are 2"):
        verify.gradient(jnp.vdot, lambda w, x: x, W, W, argnums=argnums)


def test_a_named_value_may_be_empty():
    def named(by):
        def cost(w, x):
            nothing = checkpoint_name(w[:0] * 2, "nothing")
            return (w * w * x).sum() + nothing.sum()

        def grad(w, x):
            return by * w * x + checkpoint_name(w[:0] * 0 + 1, "dnothing").sum()

        return verify.gradient(cost, grad, W, W + 1)

    assert named(2).ok
    assert named(3).verdict == verify.FAIL
    assert "w differs" in str(named(3))


def test_what_balls_do_not_know_is_decided_in_float64():
    f = lambda w, x: jnp.abs(jnp.fft.fft(w * x)).sum()  # noqa: E731
    report = verify.gradient(f, jax.grad(f), W, W + 1)
    assert (report.verdict, report.evidence) == (verify.PASS, "float64")
    assert any("measured tolerance" in note for note in report.notes)
    assert verify.gradient(f, lambda w, x: jax.grad(f)(w, x) * (1 + 1e-6), W, W + 1).verdict == verify.FAIL
    assert verify.gradient(f, jax.grad(f), W, W + 1, require="exact").verdict == verify.INCONCLUSIVE


def numpy_only(w, x):
    """NumPy code that no object array runs: wᵀ (x xᵀ + 1)⁻¹ w by LAPACK's eigenvalues."""
    eigenvalues, V = np.linalg.eigh(np.outer(x, x) + np.eye(3))
    return float(np.sum((w @ V) ** 2 / eigenvalues))


def test_numpy_code_that_balls_cannot_run_is_differenced_in_float64():
    right = lambda w, x, by=2.0: by * np.linalg.inv(np.outer(x, x) + np.eye(3)) @ w  # noqa: E731
    w, x = np.float64([0.5, -1, 2]), np.float64([1, 2, -1])
    report = verify.gradient(numpy_only, right, w, x)
    assert (report.verdict, report.evidence) == (verify.PASS, "float64")
    assert verify.gradient(numpy_only, lambda w, x: right(w, x, 2.00001), w, x).verdict == verify.FAIL


def test_numpy_code_whose_parameters_meet_operators_alone():
    """With the data as constants JAX would trace it, and NumPy had rounded what it made of them."""

    def x_hat(x):
        return (x - x.mean(0)) / np.sqrt(x.var(0))

    def cost(p, x, up):
        return np.sum(up * (p["g"] * x_hat(x) + p["b"]))

    def grad(p, x, up, by=1.0):
        return {"g": by * (up * x_hat(x)).sum(0), "b": up.sum(0)}

    draw = np.random.default_rng(0).normal
    args = {"g": draw(size=3), "b": draw(size=3)}, draw(size=(5, 3)), draw(size=(5, 3))
    report = verify.gradient(cost, grad, *args)
    assert (report.verdict, report.evidence) == (verify.PASS, "exact")
    wrong = verify.gradient(cost, lambda *args: grad(*args, by=1.0000001), *args)
    assert wrong.verdict == verify.FAIL
    assert "['g'] is 1.0000001 times" in wrong.causes[0].sentence


def test_a_large_numpy_cost_is_differenced_along_directions():
    f = lambda W, x: np.sum(np.tanh(x @ W.T)) / len(x)  # noqa: E731
    right = lambda W, x: (1 - np.tanh(x @ W.T) ** 2).T @ x / len(x)  # noqa: E731
    rng = np.random.default_rng(0)
    args = rng.normal(size=(20, 15)), rng.normal(size=(4, 15))
    assert verify.gradient(f, right, *args).evidence == "exact"
    assert verify.gradient(f, right, *args).ok

    def one_entry(W, x):
        dW = right(W, x)
        dW[7, 3] = dW[7, 3] * 1.001
        return dW

    assert verify.gradient(f, one_entry, *args).verdict == verify.FAIL


def test_numpy_code_that_compares_data_is_not_at_a_kink():
    x, y = np.float64([[1, 2, -1], [0, -3, 1], [2, 1, 1], [-1, 0.25, 2]]), np.float64([1, 0, 1, 0])
    f = lambda w, x, y: np.sum(np.where(y == 1, np.maximum(x @ w, 0), (x @ w) ** 2) * (x[:, 0] >= 0))  # noqa: E731

    def right(w, x, y):
        z = x @ w
        return x.T @ (np.where(y == 1, (z > 0) * 1.0, 2 * z) * (x[:, 0] >= 0))

    report = verify.gradient(f, right, W.astype(float), x, y)
    assert (report.verdict, report.evidence) == (verify.PASS, "exact")
    assert any(Path(__file__).name in b.place and b.seen == ("true", "false") for b in report.branches)
    wrong = verify.gradient(f, lambda w, x, y: 1.01 * right(w, x, y), W.astype(float), x, y)
    assert wrong.verdict == verify.FAIL


LECTURE = {
    "a number as the parameter": (lambda w, x: np.tanh(w * x), lambda w, x: x * (1 - np.tanh(w * x) ** 2), 0.5, 2.0),
    "math.exp": (lambda w, x: math.exp(w * x), lambda w, x: x * math.exp(w * x), 0.0, 2.0),
    "clip": (
        lambda w, x: np.sum(np.exp(np.clip(x @ w, -1, 1))),
        lambda w, x: x.T @ (np.exp(x @ w) * (np.abs(x @ w) < 1)),
        W.astype(float),
        X.astype(float),
    ),
    "a loop": (
        lambda w, x: sum(np.dot(w, row) ** 2 for row in x),
        lambda w, x: sum(2 * np.dot(w, row) * row for row in x),
        np.zeros(3),
        X.astype(float),
    ),
    "a tuple for a list": (
        lambda p, x: np.sum((x @ p[0] + p[1]) ** 2),
        lambda p, x: (2 * x.T @ (x @ p[0] + p[1]), 2 * np.sum(x @ p[0] + p[1])),
        [W.astype(float), 0.5],
        X.astype(float),
    ),
}


@pytest.mark.parametrize("name", LECTURE)
def test_lecture_code_as_it_comes(name):
    f, right, *args = LECTURE[name]
    report = verify.gradient(f, right, *args)
    assert report.verdict == verify.PASS, str(report)
    assert report.evidence == "exact"
    wrong = lambda *args: jax.tree.map(lambda v: 1.001 * v, right(*args))  # noqa: E731
    assert verify.gradient(f, wrong, *args).verdict == verify.FAIL


# What was seen


def test_a_side_that_no_point_reaches_is_named():
    far = lambda w, x: jnp.where(w.sum() > 1e9, w.sum() ** 2, tanh_cost(w, x))  # noqa: E731
    wrong_there = lambda w, x: jnp.where(w.sum() > 1e9, jnp.zeros_like(w), tanh_grad(w, x))  # noqa: E731
    report = verify.gradient(far, wrong_there, W, X)
    assert report.ok
    assert any(Path(__file__).name in side and side.endswith("true") for side in report.unseen)
    strict = verify.gradient(far, wrong_there, W, X, strict=True)
    assert strict.verdict == verify.INCONCLUSIVE
    assert "strict" in strict.reason


def test_a_side_that_another_select_throws_away_is_not_seen():
    nested = lambda w: jnp.where(w > 0, jnp.where(w > -1, w, 5 * w), w**2).sum()  # noqa: E731
    report = verify.gradient(nested, jax.grad(nested), W)
    assert [side for side in report.unseen if side.endswith("false")]


def test_sides_that_cannot_be_are_not_called_unseen():
    f = lambda w, x: jnp.sqrt(jnp.abs(jnp.exp(x @ w).sum()) + jnp.abs(w**2).sum())  # noqa: E731
    assert verify.gradient(f, jax.grad(f), W, X).unseen == ()


def test_equal_sizes_are_said():
    square = verify.gradient(tanh_cost, tanh_grad, W, X[:3])
    assert any("two sizes are equal (3)" in note for note in square.notes)
    assert not any("sizes are equal" in note for note in verify.gradient(tanh_cost, tanh_grad, W, X).notes)


def test_a_branch_that_only_zero_or_only_far_away_reaches_is_visited_or_named():
    near = lambda w: jnp.where(jnp.abs(w) < 1e-4, 3 * w, 2 * w)  # noqa: E731
    assert verify.gradient(lambda w: (w**2).sum(), near, W).verdict == verify.FAIL
    f = lambda w: jax.lax.cond(w.sum() > 1e9, lambda: (w**3).sum(), lambda: (w**2).sum())  # noqa: E731
    wrong = lambda w: jax.lax.cond(w.sum() > 1e9, lambda: 7 * w, lambda: 2 * w)  # noqa: E731
    report = verify.gradient(f, wrong, W)
    assert report.ok
    assert report.unseen
    assert verify.gradient(f, wrong, W, strict=True).verdict == verify.INCONCLUSIVE
    assert verify.vjp(lambda x: (x**2, x), lambda x, d: 2 * jnp.clip(d, -10, 10) * x, W).verdict == verify.FAIL


def test_arguments_of_ones_are_redrawn_and_what_is_kept_is_said():
    square = jax.custom_vjp(lambda x: x**2)
    square.defvjp(lambda x: (x**2, x), lambda x, d: (2 * d,))
    assert verify.custom_vjp(square, jnp.ones(3)).verdict == verify.FAIL
    assert verify.same(jax.nn.relu, lambda x: x, jnp.ones((3, 2))).verdict == verify.FAIL
    one_hot = np.float32([[0, 1, 0], [1, 0, 0]])
    report = verify.vjp(lambda z, y: (z * y, (z, y)), lambda r, d: (d * r[1], d * r[0]), one_hot + 1, one_hot)
    assert any("y kept as given" in note for note in report.notes)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_rounded_data_excuse_no_wrong_factor(dtype):
    x, y = np.asarray(X, dtype), np.asarray(X[:, 0] / 3, dtype)
    f = lambda w, x, y: ((x @ w - y) ** 2).mean()  # noqa: E731
    wrong = lambda w, x, y: jax.grad(f)(w, x, y) * (1 + 1e-7)  # noqa: E731
    assert verify.gradient(f, jax.grad(f), np.asarray(W, dtype), x, y).ok
    assert verify.gradient(f, wrong, np.asarray(W, dtype), x, y).verdict == verify.FAIL


def test_a_formula_for_some_arguments_alone_is_told_how_to_say_so():
    guarded = lambda w: jnp.log(jnp.maximum(w, 1e-3)).sum()  # noqa: E731
    p = np.float32([0.1, 0.2])
    assert any("points='given'" in note for note in verify.gradient(guarded, lambda w: 1 / w, p).notes)
    assert not any("points='given'" in note for note in verify.gradient(guarded, lambda w: 2 / w, p).notes)


def test_what_data_of_zeros_cannot_show_is_said():
    blind = verify.gradient(tanh_cost, lambda w, x: x.sum(0), W, 0 * X)
    assert any("w is 0 at every point" in note for note in blind.notes)
    assert not any("is 0 at every point" in note for note in verify.gradient(tanh_cost, tanh_grad, W, X).notes)


def test_fewer_digits_forgive_a_guard():
    guarded = lambda w: -jnp.log(jax.nn.sigmoid(w) + 1e-8).sum()  # noqa: E731
    without = lambda w: jax.nn.sigmoid(w) - 1  # noqa: E731
    w = np.float32([0.5, -1, 2])
    assert verify.gradient(guarded, without, w, points="given").verdict == verify.FAIL
    assert verify.gradient(guarded, without, w, points="given", digits=6).ok


def test_rules_that_are_not_jaxs_own():
    @jax.custom_gradient
    def cubed(x):
        return x**2, lambda d: (3 * d * x,)

    assert not verify.custom_vjp(cubed, W).ok
    assert not verify.gradient(lambda w: cubed(w).sum(), lambda w: 3 * w, W).ok
    with pytest.raises(ValueError, match="sin has no custom derivative rule"):
        verify.custom_vjp(jnp.sin, W)


# Precision


@pytest.mark.parametrize("longest", [0, precision.LONG], ids=["by equations", "compiled"])
def test_the_grade_tells_an_inaccurate_formula_from_an_accurate_one(monkeypatch, longest):
    monkeypatch.setattr(precision, "LONG", longest)
    f = lambda w: jax.nn.softplus(w).sum()  # noqa: E731
    accurate = verify.gradient(f, jax.nn.sigmoid, W)
    one = lambda w: jnp.sin(w) ** 2 + jnp.cos(w) ** 2  # noqa: E731
    cancels = verify.gradient(f, lambda w: 1000 * one(w) + jax.nn.sigmoid(w) - 1000 * one(2 * w), W)
    digits = [{g.dtype: g.hand_digits for g in report.precision} for report in (accurate, cancels)]
    assert digits[0].keys() == {"float32", "bfloat16", "float64"}
    assert digits[0]["float32"] > 6
    assert digits[1]["float32"] < 5
    assert accurate.ok
    assert cancels.ok


def test_a_grade_is_held_against_a_truth_whose_terms_cancel():
    """1 − tanh² is JAX's slope of tanh, of which 200 bits know no digit at 350."""
    x = np.float64([350])
    report = verify.gradient(lambda x: jnp.tanh(x).sum(), lambda x: 4 * jnp.exp(-2 * x), x, points="given")
    digits = {grade.dtype: (grade.hand_digits, grade.autodiff_digits) for grade in report.precision}
    assert report.ok
    assert digits["float64"][0] > 15
    assert digits["float64"][1] < 1


def test_a_grade_is_not_held_against_autodiff_where_that_is_wrong():
    """JAX's x log y has the slope log y at x = 0, where autodiff of the forward pass has 0."""
    x, y = np.float32([0, 1, 2]), np.float32([2, 0.5, 3])
    report = verify.custom_jvp(jax.scipy.special.xlogy, x, y)
    assert report.ok
    assert {grade.dtype for grade in report.precision} >= {"float32", "float64"}
    assert all(grade.hand_digits > 2 for grade in report.precision)


def test_a_report_is_json_and_a_page():
    report = verify.gradient(cost, with_leaf("W2", lambda dW, _: -dW), *case())
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert told["verdict"] == "FAIL"
    assert [leaf["path"] for leaf in told["leaves"] if leaf["verdict"] == "FAIL"] == ["['W2']"]
    assert "<html" in report.to_html()
    assert report.reason in html.unescape(report.to_html())


# Bad input: one sentence that says what was given and what to do


def draws(w, x):
    return w * np.float32(np.random.default_rng().normal())


BAD = {
    "no scalar": (
        lambda: verify.gradient(lambda w, x: x @ w, tanh_grad, W, X),
        ValueError,
        r"shape \(4,\): a cost is one",
    ),
    "shape": (
        lambda: verify.gradient(tanh_cost, lambda w, x: w[:2], W, X),
        ValueError,
        r"shape \(2,\).*shape is \(3,\)",
    ),
    "tree": (
        lambda: verify.gradient(lambda p: (p["W"] ** 2).sum(), lambda p: {"V": 2 * p["W"]}, {"W": W}),
        ValueError,
        r"nothing for \['W'\]; \['V'\], which is not asked for",
    ),
    "dtype": (
        lambda: verify.gradient(tanh_cost, lambda w, x: w.astype(jnp.bfloat16), W, X),
        ValueError,
        "bfloat16.*float32",
    ),
    "complex": (lambda: verify.gradient(tanh_cost, tanh_grad, W + 1j, X), TypeError, "w is complex"),
    "not finite": (
        lambda: verify.gradient(tanh_cost, tanh_grad, W * np.inf, X),
        ValueError,
        r"w is not finite at \[0\]",
    ),
    "draws": (lambda: verify.gradient(tanh_cost, draws, W, X), ValueError, "hand rule computes something else"),
    "booleans": (lambda: verify.gradient(tanh_cost, tanh_grad, np.arange(3) > 1, X), TypeError, "no float array"),
    "list": (lambda: verify.loss(HalfSquaredError(), [[1.0]], np.ones((1, 1))), TypeError, r"z is a list.*np\.array"),
    "too few cotangents": (
        lambda: verify.vjp(lambda w, x: (w * x, x), lambda x, d: (d * x,), W, W),
        ValueError,
        "1 cotangents for the 2 arguments",
    ),
    "no pair": (lambda: verify.vjp(lambda w: w * 2, lambda r, d: d, W), ValueError, r"a pair \(out, residuals\)"),
    "points": (lambda: verify.gradient(tanh_cost, tanh_grad, W, X, points="many"), ValueError, "points is 'many'"),
    "option": (lambda: verify.gradient(tanh_cost, tanh_grad, W, X, tol=1), TypeError, "tol= is no option.*digits"),
    "no layer": (lambda: verify.layer(jnp.sin, X), TypeError, "sin is no layer"),
    "require": (lambda: verify.gradient(tanh_cost, tanh_grad, W, X, require="all"), ValueError, "require is 'all'"),
}


@pytest.mark.parametrize(("ask", "error", "words"), BAD.values(), ids=BAD)
def test_bad_input_is_one_clear_sentence(ask, error, words):
    with pytest.raises(error, match=words) as raised:
        ask()
    assert "\n" not in str(raised.value)


def test_a_users_own_error_is_the_users_own():
    with pytest.raises(ZeroDivisionError):
        verify.gradient(tanh_cost, lambda w, x: w / (1 // 0), W, X)


def test_where_a_cost_stops_being_finite():
    f = lambda w, x: jnp.log(x @ w).sum()  # noqa: E731
    report = verify.gradient(f, jax.grad(f), W, X, points="given")
    assert report.verdict == verify.INCONCLUSIVE
    assert "not finite, first in log at" in report.reason
