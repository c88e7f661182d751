"""What a user's cost and gradient return, understood with a note where it means one thing; else a sentence."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxnn import verify
from jaxnn.layers.dense import Params

DRAW = np.random.default_rng(3).normal
X, Y = DRAW(size=(6, 3)), DRAW(size=(6, 4))
P = {"W": DRAW(size=(3, 4)), "b": DRAW(size=(1, 4))}
WHOLE = {"W": np.arange(12).reshape(3, 4), "b": np.ones((1, 4), int)}


def J(p, x, y):
    return 0.5 * ((x @ p["W"] + p["b"] - y) ** 2).sum() / len(x)


def right(p, x, y):
    dz = (x @ p["W"] + p["b"] - y) / len(x)
    return {"W": x.T @ dz, "b": dz.sum(0, keepdims=True)}


def wrong(p, x, y):
    return {**right(p, x, y), "W": right(p, x, y)["W"] * len(x)}


def mistaken(p, x, y):
    return {**right(p, x, y), "b": -right(p, x, y)["b"]}


def cost_as(change):
    return lambda *args: change(J(*args), args[1])


COSTS = {
    "(J, cache)": (lambda J, x: (J, {"A": x}), "returned 2 things: J is the first, the only number"),
    "[J, cache, cache]": (lambda J, x: [J, x, (x, x)], "returned 3 things: J is the first"),
    "(1,)": (lambda J, x: J.reshape(1), "returned shape (1,): its one entry is J"),
    "(1, 1)": (lambda J, x: J.reshape(1, 1), "returned shape (1, 1): its one entry is J"),
    "((1, 1), cache)": (lambda J, x: (J.reshape(1, 1), x), "returned shape (1, 1): its one entry is J"),
    "Python's sum over a column": (lambda J, x: sum(x[:, :1]) * 0 + J, "returned shape (1,): its one entry is J"),
}
GRADIENTS = {
    "dW, db": (
        lambda g: {f"d{name}": v for name, v in g.items()},
        "returned dW, db, taken for the derivatives by W, b",
    ),
    "W_grad": (lambda g: {f"{name}_grad": v for name, v in g.items()}, "returned W_grad, b_grad, taken for"),
    "dW, db, dZ": (lambda g: {"dW": g["W"], "db": g["b"], "dZ": g["b"]}, "by W, b; dZ is not asked for"),
    "a NamedTuple": (lambda g: Params(g["W"], g["b"]), None),
    "a tuple": (lambda g: (g["W"], g["b"]), "returned a tuple, taken for W, b"),
    "db of shape (4,)": (lambda g: {**g, "b": g["b"][0]}, "shape (4,) for ['b'], whose shape is (1, 4): its entries"),
    "db of shape (1, 1, 4)": (
        lambda g: {**g, "b": g["b"][None]},
        "in their order; an update with it has another shape",
    ),
    "dW, db of shape (4,)": (lambda g: {"dW": g["W"], "db": g["b"][0]}, "shape (4,) for ['b'], whose shape is (1, 4)"),
}


def of_numpy_and_jax(cost, rule, *args):
    """The reports on NumPy code and on the same as JAX code."""
    as_jax = lambda p, x, y: rule(p, jnp.asarray(x), y)  # noqa: E731
    return [verify.gradient(cost, f, *args, points="given") for f in (rule, as_jax)]


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("valued", [False, True])
def test_a_cost_that_is_one_number_in_some_way(name, valued):
    change, note = COSTS[name]
    cost = cost_as(change)
    for rule, verdict in ((right, verify.PASS), (mistaken, verify.FAIL)):
        rule_too = (lambda *args, rule=rule: (J(*args), rule(*args))) if valued else rule
        for report in of_numpy_and_jax(cost, rule_too, P, X, Y):
            assert report.verdict == verdict, str(report)
            assert any(note in line for line in report.notes)
            assert valued == ("value" in {leaf.path for leaf in report.leaves})


def test_jaxs_own_gradient_of_a_cost_with_a_cache():
    cost = cost_as(lambda J, x: (J, {"A": x}))
    for rule in (jax.grad(cost, has_aux=True), jax.value_and_grad(cost, has_aux=True)):
        assert verify.gradient(cost, rule, P, X, Y, points="given").ok


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_gradient_that_is_like_the_parameters_in_one_way(name):
    change, note = GRADIENTS[name]
    for rule, verdict in ((right, verify.PASS), (mistaken, verify.FAIL)):
        for report in of_numpy_and_jax(J, lambda *args, rule=rule: change(rule(*args)), P, X, Y):
            assert report.verdict == verdict, str(report)
            assert note is None or any(note in line for line in report.notes)
            assert {leaf.path for leaf in report.leaves if leaf.verdict == verify.FAIL} <= {"['b']"}


def test_names_deep_in_a_tree_and_a_column():
    params = [{"W": P["W"], "b": P["b"].T}]

    def cost(p, x, y):
        return J({"W": p[0]["W"], "b": p[0]["b"].T}, x, y)

    def rule(p, x, y):
        g = right({"W": p[0]["W"], "b": p[0]["b"].T}, x, y)
        return [{"dW": g["W"], "db": g["b"][0]}]

    report = verify.gradient(cost, rule, params, X, Y, points="given")
    assert report.ok
    assert "returned 0.dW, 0.db, taken for the derivatives by 0.W, 0.b" in report.notes[0]
    assert "shape (4,) for [0]['b'], whose shape is (4, 1)" in report.notes[1]


def test_a_tuple_for_a_dict_has_the_order_of_the_dict_where_shapes_say_so():
    other_order = {"b": P["b"], "W": P["W"]}
    assert verify.gradient(J, lambda *args: tuple(right(*args)[k] for k in "bW"), other_order, X, Y, points="given").ok


def test_a_mistake_keeps_its_cause_beside_what_is_understood():
    """A bias of shape (1, 4) whose gradient has shape (4,), and a penalty that the gradient lacks."""

    def cost(p, x, y):
        return J(p, x, y) + 0.05 * np.sum(p["W"] ** 2)

    report = verify.gradient(cost, lambda *args: {**right(*args), "b": right(*args)["b"][0]}, P, X, Y)
    assert report.verdict == verify.FAIL
    assert report.causes[0].kind == "missing_penalty"
    assert any("shape (4,) for ['b'], whose shape is (1, 4)" in note for note in report.notes)


@pytest.mark.parametrize("p", [WHOLE, {**WHOLE, "b": P["b"]}, jax.tree.map(jnp.asarray, WHOLE)])
def test_whole_numbers_are_parameters(p):
    for rule, verdict in ((right, verify.PASS), (wrong, verify.FAIL)):
        report = verify.gradient(J, rule, p, X, Y, points="given")
        assert report.verdict == verdict, str(report)
        assert report.notes[0].startswith("whole numbers are taken as floats: p.W")
        assert {leaf.path for leaf in report.leaves} == {"['W']", "['b']"}


def test_one_whole_number_and_a_setting():
    assert verify.gradient(lambda w: w**2, lambda w: 2 * w, 3).ok
    assert verify.gradient(lambda w: w**2, lambda w: 3 * w, 3).verdict == verify.FAIL

    def cost(p, x):
        return sum((p["w"] * x).sum() for _ in range(p["n"]))

    report = verify.gradient(cost, lambda p, x: {"w": p["n"] * x.sum(0)}, {"w": P["W"][:, 0], "n": 3}, X)
    assert report.ok
    assert [leaf.path for leaf in report.leaves] == ["['w']"]


SQUARE = {"W1": np.eye(3) + 0.5, "U": np.eye(3)}


@pytest.mark.parametrize(
    ("cost", "rule", "params", "words"),
    [
        (lambda *_: None, right, P, "returned None: let it end with a return"),
        (J, lambda *_: None, P, "returned None: let it end with a return"),
        (cost_as(lambda J, x: (J, x.mean())), right, P, "returned 2 things: return J, one number, alone or before"),
        (cost_as(lambda J, x: (x, J)), right, P, "returned 2 things: return J, one number"),
        (cost_as(lambda J, x: {"J": J}), right, P, "returned dict: a cost is one number"),
        (cost_as(lambda J, x: x[:, 0]), right, P, r"returned shape \(6,\): a cost is one number"),
        (J, lambda *args: {k: v.T for k, v in right(*args).items()}, P, r"shape \(4, 3\) for \['W'\]"),
        (J, lambda *args: {**right(*args), "b": right(*args)["b"].T}, P, r"shape \(4, 1\) for \['b'\]"),
        (J, lambda *args: {f"{d}{k}": v for d in "dm" for k, v in right(*args).items()}, P, r"nothing for \['W'\]"),
        (J, lambda *args: {"dW": right(*args)["W"]}, P, r"nothing for \['W'\]; nothing for \['b'\]"),
        (lambda p: (p["U"] @ p["W1"]).sum(), lambda p: (p["W1"], p["U"]), SQUARE, "a dict with the keys W1, U"),
    ],
)
def test_what_has_two_meanings_is_one_sentence(cost, rule, params, words):
    with pytest.raises(ValueError, match=words) as raised:
        verify.gradient(cost, rule, params, *(() if params is SQUARE else (X, Y)))
    assert "\n" not in str(raised.value)


def test_a_square_matrix_transposed_is_a_wrong_gradient():
    report = verify.gradient(
        lambda W, x: (jnp.tanh(x @ W) ** 2).sum(),
        lambda W, x: jax.grad(lambda W: (jnp.tanh(x @ W) ** 2).sum())(W).T,
        np.float32(DRAW(size=(3, 3))),
        np.float32(X),
    )
    assert report.verdict == verify.FAIL
