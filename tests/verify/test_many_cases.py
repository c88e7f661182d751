"""`verify.sweep`: thousands of random cases at once, with a tolerance that is measured."""

import re

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxnn import verify
from jaxnn.verify import assert_sweep, sweep
from jaxnn.verify.many_cases import Case, tolerances

N = 300


def draw(key):
    """(params, x): one layer of 2 units, 3 inputs and 4 examples, from one stream of numbers."""
    v = jax.random.normal(key, (20,))
    return {"W": v[:6].reshape(2, 3), "b": v[6:8]}, v[8:].reshape(4, 3)


def layer(f, df):
    """(cost, family of its gradients): ½ Σ a² / m, a = f(z). A fault is a function of the right answer."""

    def cost(params, x):
        return 0.5 * (f(x @ params["W"].T + params["b"][None]) ** 2).sum() / len(x)

    def family(fault=lambda answer, params: answer, df=df):
        def grad(params, x):
            z = x @ params["W"].T + params["b"][None]
            dz = f(z) * df(z) / len(x)
            return fault({"W": dz.T @ x, "b": dz.sum(0)}, params)

        return grad

    return cost, family


def step(z):
    return (z > 0).astype(z.dtype)


tanh = layer(jnp.tanh, lambda z: 1 - jnp.tanh(z) ** 2)
relu = layer(lambda z: jax.nn.relu(z) + z, lambda z: step(z) + 1)


def test_a_right_rule():
    cost, family = relu
    report = sweep(cost, family(), draw, n=N)
    assert report.verdict == verify.PASS, str(report)
    assert report.evidence == "float64"
    assert report.digits > 13
    assert [leaf.path for leaf in report.leaves] == ["['W']", "['b']"]
    assert "differences of every coordinate agree" in report.notes[0]
    assert report.replay == f"verify.sweep(cost, grad, draw, n={N}, key=0)"


FAULTS = {
    "a factor": lambda family: family(lambda g, p: g | {"W": g["W"] * (1 + 1e-6)}),
    "a factor in the tenth digit": lambda family: family(lambda g, p: g | {"b": g["b"] * (1 + 1e-10)}),
    "where one unit is negative": lambda family: family(
        df=lambda z: step(z) + 1 - jnp.where((z < 0) & (jnp.arange(2) == 1)[None], 1e-3, 0).astype(z.dtype)
    ),
    "not finite": lambda family: family(lambda g, p: g | {"b": g["b"] * jnp.inf}),
}


@pytest.mark.sample(lambda name: [*FAULTS].index(name) // 2)
@pytest.mark.parametrize("name", FAULTS)
def test_wrong_rules(name):
    cost, family = relu
    report = sweep(cost, FAULTS[name](family), draw, n=N)
    assert report.verdict == verify.FAIL, str(report)


def test_a_rule_that_is_wrong_in_one_case_of_a_hundred():
    cost, family = tanh
    grad = family(lambda g, p: g | {"W": jnp.where(p["W"][0, 0] > 2, 1.25, 1).astype(g["W"].dtype) * g["W"]})
    report = sweep(cost, grad, draw, n=N, key=5)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(5), np.arange(N, dtype=np.uint32))
    wrong = int((jax.vmap(draw)(keys)[0]["W"][:, 0, 0] > 2).sum())
    assert 1 <= wrong <= 15
    assert report.verdict == verify.FAIL
    assert f"wrong in {wrong} of {N} random cases: ['W'] differs from the 1st digit on" in report.reason
    replay = report.replay.removesuffix(")") + ", points='given')"
    assert eval(replay, {**globals(), "cost": cost, "grad": grad}).verdict == verify.FAIL


def at_zero(often):
    """The bias is zero in some cases, and so is an example: z = 0."""

    def draw_ties(key):
        params, x = draw(key)
        return params | {"b": jnp.where(params["b"] < often, 0, params["b"])}, x.at[0].set(0)

    return draw_ties


@pytest.mark.sample
@pytest.mark.parametrize("at_0", [0.0, 1.0])
def test_any_convention_at_a_kink(at_0):
    cost, family = layer(lambda z: jax.nn.relu(z) + 1, lambda z: jnp.where(z == 0, at_0, step(z)).astype(z.dtype))
    report = sweep(cost, family(), at_zero(-1.0), n=N)
    assert report.verdict == verify.PASS, str(report)
    assert any("see a kink" in note for note in report.notes) == (at_0 != 0)
    wrong = family(lambda g, p: g | {"W": 1.001 * g["W"]})
    assert sweep(cost, wrong, at_zero(-1.0), n=N).verdict == verify.FAIL


def test_a_blind_sweep_does_not_pass():
    cost, family = layer(lambda z: jax.nn.relu(z) + 1, lambda z: (z >= 0).astype(z.dtype))
    kinks = sweep(cost, family(), at_zero(np.inf), n=N)
    saturated = sweep(lambda w: jnp.tanh(99 * w).sum(), lambda w: 99 / jnp.cosh(99 * w) ** 2, one, n=N)
    for report in kinks, saturated:
        assert report.verdict == verify.INCONCLUSIVE, str(report)
        assert "cases say nothing" in report.reason


def one(key):
    return (vector(key)[0][:1],)


def vector(key):
    return (jax.random.normal(key, (20,)),)


@pytest.mark.sample
@pytest.mark.parametrize(("factor", "more"), [(2.0**40, 0.0), (2.0**-40, 1000.0)])
def test_the_size_of_the_loss(factor, more):
    cost = lambda w: factor * jnp.sin(w).sum() + more  # noqa: E731
    assert sweep(cost, lambda w: factor * jnp.cos(w), vector, n=N).verdict == verify.PASS
    assert sweep(cost, lambda w: factor * (1 + 1e-6) * jnp.cos(w), vector, n=N).verdict == verify.FAIL


RIGHT = {
    "1 − a² of saturated units": (
        lambda w: jnp.tanh(8 * w).sum(),
        lambda w: 8 / jnp.cosh(8 * w) ** 2,
        one,
    ),
    "a shift of the logits: 0": (
        lambda p: jax.nn.log_softmax(p["w"] + p["b"])[0],
        lambda p: {"w": -jax.nn.softmax(p["w"]).at[0].add(-1), "b": jnp.zeros_like(p["b"])},
        lambda key: ({"w": (v := vector(key)[0])[:19], "b": v[19]},),
    ),
    "cancellation": (
        lambda w: ((w + 1e5) ** 2).mean() - (w + 1e5).mean() ** 2,
        lambda w: 2 * (w - w.mean()) / len(w),
        vector,
    ),
    "a dead leaf": (
        lambda p: (p["w"] ** 2).sum(),
        lambda p: {"w": 2 * p["w"], "dead": 0 * p["dead"]},
        lambda key: ({"w": (v := vector(key)[0])[:10], "dead": v[10:]},),
    ),
    "labels of the case": (
        lambda w, y: jax.nn.log_softmax(w)[y],
        lambda w, y: jax.nn.one_hot(y, 20, dtype=w.dtype) - jax.nn.softmax(w),
        lambda key: (*vector(key), (jax.random.key_data(key)[0] % 20).astype(jnp.int32)),
    ),
    "a key of the case": (
        lambda w, key: (w * jax.random.bits(key, w.shape, jnp.uint8).astype(w.dtype)).sum(),
        lambda w, key: jax.random.bits(key, w.shape, jnp.uint8).astype(w.dtype),
        lambda key: (*vector(key), key),
    ),
    "more entries than are differenced": (
        lambda w: jnp.sin(w).sum(),
        jnp.cos,
        lambda key: (jnp.outer(*2 * vector(key)),),
    ),
    "value and gradient": (lambda w: (w**3).sum(), lambda w: ((w**3).sum(), 3 * w**2), vector),
}


@pytest.mark.sample(lambda name: [*RIGHT].index(name) // 2)
@pytest.mark.parametrize("name", RIGHT)
def test_never_flagged(name):
    report = sweep(*RIGHT[name], n=N)
    assert report.verdict == verify.PASS, str(report)
    assert report.digits > (9 if name == "cancellation" else 11)
    assert not any("contradict" in note for note in report.notes)


def test_float32_that_is_right_by_luck_is_no_measure_of_rounding():
    noise, true = np.full((9, 2), 1e-3), np.ones((9, 2))
    noise[4, 1] = 0
    allowed, scale = tolerances(Case(None, None, true, noise, np.full(9, True), None, None), 2)
    assert (allowed == allowed[0, 0]).all()
    assert (scale == 1).all()


def test_a_wrong_rule_with_many_entries():
    cost, _, many = RIGHT["more entries than are differenced"]
    report = sweep(cost, lambda w: jnp.cos(w).at[3, 5].multiply(1.01), many, n=N)
    assert report.verdict == verify.FAIL
    assert report.leaves[0].index == (3, 5)
    assert "along 3 random directions" in report.notes[0]


def test_a_rule_that_is_right_for_one_label():
    cost, _, labelled = RIGHT["labels of the case"]
    report = sweep(cost, lambda w, y: -jax.nn.softmax(w).at[0].add(-1), labelled, n=N)
    assert report.verdict == verify.FAIL
    assert f"wrong in {N}" not in report.reason


def test_auxiliary_output_and_another_argument():
    report = sweep(
        lambda x, w: ((x * w**2).sum(), x),
        lambda x, w: (2 * x * w, x),
        lambda key: 2 * vector(key),
        n=N,
        argnums=1,
        has_aux=True,
    )
    assert report.ok, str(report)
    assert report.replay.endswith("argnums=1, has_aux=True)")


@jax.custom_vjp
def twice(w):
    return 2 * w


twice.defvjp(lambda w: (2 * w, None), lambda _, d: (3 * d,))


def test_a_wrong_rule_inside_the_cost():
    assert sweep(lambda w: twice(w).sum(), lambda w: 0 * w + 3, vector, n=N).verdict == verify.FAIL
    assert sweep(lambda w: twice(w).sum(), lambda w: 0 * w + 2, vector, n=N).verdict == verify.PASS


def test_to_how_many_digits_differences_agree_is_said():
    notes = sweep(lambda w: (w**3).sum(), lambda w: 3 * w**2, vector, n=N).notes
    (digits,) = (
        match[1] for note in notes if (match := re.search(rf"in {N} cases, half of them to (\S+) digits", note))
    )
    assert 6 <= float(digits) <= 16


def test_a_gradient_held_back_is_said():
    report = sweep(lambda w: (jax.lax.stop_gradient(w) * w).sum(), lambda w: w, vector, n=N)
    assert any(f"contradict autodiff in {N} cases" in note for note in report.notes)


def test_cases_that_are_not_finite():
    report = sweep(lambda w: jnp.log(w[:1]).sum(), lambda w: jnp.zeros_like(w).at[0].set(1 / w[0]), vector, n=N)
    assert report.verdict == verify.PASS, str(report)
    assert any("not finite in 1" in note for note in report.notes)
    none = sweep(lambda w: jnp.log(-jnp.abs(w)).sum(), lambda w: 1 / w, vector, n=N)
    assert (none.verdict, none.leaves) == (verify.INCONCLUSIVE, ())


@pytest.mark.parametrize("x64", [False, True])
def test_float32_draws_run_in_float64(x64):
    seen = set()

    def cost(w, n):
        seen.add((w.dtype.name, n.dtype.name))
        return (w**3).sum()

    def single(key):
        return jax.random.normal(key, (20,), jnp.float32), jnp.int64(3) if x64 else jnp.int32(3)

    with jax.enable_x64(x64):
        report = sweep(cost, lambda w, n: 3 * w**2, single, n=N)
        assert report.verdict == verify.PASS, str(report)
        assert verify.gradient(cost, lambda w, n: 3 * w**2, *single(jax.random.key(0))).ok
    assert seen >= {("float32", "int32"), ("float64", "int32")}


def test_the_key_alone_decides():
    cost, family = tanh
    grad = family()
    reports = [sweep(cost, grad, draw, n=N, key=k) for k in (3, 3, jax.random.key(3), 4)]
    assert reports[0] == reports[1]
    assert reports[0].leaves == reports[2].leaves
    assert reports[0].leaves != reports[3].leaves


def test_the_number_of_cases_is_as_asked():
    """It need not be a multiple of how many run at once."""
    for n in (1, 129):
        report = sweep(lambda w: (w**2).sum(), lambda w: 3 * w, vector, n=n)
        assert f"wrong in {n} of {n} random cases" in report.reason


def test_bad_input():
    cost, family = tanh
    grad = family()
    with pytest.raises(ValueError, match="n is 0"):
        sweep(cost, grad, draw, n=0)
    with pytest.raises(ValueError, match="draw_one returned dict"):
        sweep(cost, grad, draw_one, n=N)
    with pytest.raises(ValueError, match=r"returned shape \(20,\): a cost is one number"):
        sweep(jnp.sin, jnp.cos, vector, n=N)
    with pytest.raises(ValueError, match=r"nothing for \['b'\]"):
        sweep(cost, lambda params, x: {"W": params["W"]}, draw, n=N)
    with pytest.raises(ValueError, match=r"returned shape \(3, 2\) for \['W'\]"):
        sweep(cost, family(lambda g, p: g | {"W": g["W"].T}), draw, n=N)
    with pytest.raises(TypeError, match="must be JAX functions"):
        sweep(lambda w: np.sin(w).sum(), lambda w: np.cos(w), vector, n=N)
    with pytest.raises(TypeError, match="nothing to differentiate"):
        sweep(lambda n: n, lambda n: n, lambda key: (jnp.int32(1),), n=N)


def draw_one(key):
    return draw(key)[0]


def test_as_an_assertion():
    cost, family = tanh
    assert assert_sweep(cost, family(), draw, n=N).ok
    with pytest.raises(AssertionError, match=r"wrong in 300 of 300 random cases.*\n(.*\n)*replay     verify\.gradient"):
        assert_sweep(cost, family(lambda g, p: g | {"b": -g["b"]}), draw, n=N)
