"""`jaxnn explain` of functions that a user wrote: their own variables, with the formulas that their code has."""

import cProfile
import itertools
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from jaxnn import explain_gradient
from jaxnn.commands import verify_template
from jaxnn.commands.own_file import imported
from jaxnn.explanation.formulas import LONGEST, Formulas
from jaxnn.explanation.function import descend_gradient
from jaxnn.explanation.latex import latex
from jaxnn.explanation.passes import general_place
from jaxnn.verify.tracing.tape import Record

RIGHT = Path(verify_template.__file__).read_text()
rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def as_users_have_it(standard_promotion):
    with jax.numpy_rank_promotion("allow"):
        yield


def by_symbol(found):
    return {link.symbol: link for link in (*found.forward, *found.backward)}


def template(changes=()):
    """cost, grad and arguments of the file that `jaxnn verify --new` writes, with some lines changed."""
    text, names = RIGHT, {"__name__": "mine"}
    for old, new in dict(changes).items():
        assert old in text
        text = text.replace(old, new)
    exec(compile(text, __file__, "exec"), names)  # as if it was in this folder
    return names["cost"], names["grad"], names["example"](jax.random.key(0))


def test_a_right_gradient_in_the_words_of_its_author():
    cost, grad, args = template()
    found = explain_gradient(cost, grad, *args)
    assert [(link.symbol, link.formula) for link in found.forward[6:]] == [
        ("z1", "x W1ᵀ + b1"),
        ("a1", "tanh(z1)"),
        ("z2", "a1 W2ᵀ + b2"),
        ("log_P", "z2 − log(Σₖ exp(z2))"),
        ("J", "(−Σ y ⊙ log_P) / 6"),
    ]
    assert [(link.symbol, link.verdict, link.formula, link.local) for link in found.backward] == [
        ("P", "", "exp(z2) / (Σₖ exp(z2))", ""),
        ("∂J/∂z2", "PASS", "(P − y) / 6", ""),
        ("∂J/∂W2", "PASS", "(∂J/∂z2)ᵀ a1", "a1"),
        ("∂J/∂b2", "PASS", "Σᵢ ∂J/∂z2", ""),
        ("∂J/∂a1", "PASS", "∂J/∂z2 W2", "W2"),
        ("∂J/∂z1", "PASS", "∂J/∂a1 ⊙ (1 − a1²)", "1 − a1²"),
        ("∂J/∂W1", "PASS", "(∂J/∂z1)ᵀ x", "x"),
        ("∂J/∂b1", "PASS", "Σᵢ ∂J/∂z1", ""),
    ]
    links = by_symbol(found)
    params, x, y = args
    _, z2 = verify_template.forward(params, x)

    def J(z1):
        log_P = jax.nn.log_softmax(jnp.tanh(z1) @ params["W2"].T + params["b2"])
        return -(y * log_P).sum() / len(x)

    with jax.enable_x64(True):
        true = jax.grad(J)(jnp.asarray(links["z1"].value))
    np.testing.assert_allclose(links["∂J/∂z1"].value, true, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(links["∂J/∂z1"].local_value, 1 - links["a1"].value ** 2, rtol=1e-12)
    np.testing.assert_allclose(links["z2"].value, z2, rtol=1e-5, atol=1e-6)


def test_a_wrong_line_is_named_with_its_formula():
    cost, grad, args = template({"(1 - a1**2)": "(1 - a1)"})
    found = explain_gradient(cost, grad, *args)
    links = by_symbol(found)
    assert (links["dz1"].verdict, links["dz1"].formula) == ("FAIL", "∂J/∂a1 ⊙ (1 − a1)")
    assert [name for name, link in links.items() if link.verdict == "FAIL"] == ["dz1", "∂J/∂W1", "∂J/∂b1"]
    assert str(found).endswith("verdict  FAIL; first wrong: dz1")


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [
        ("1.1", "FAIL"),
        ("(1 + (z > 0))", "FAIL"),
        ("(z > 0)", ""),
    ],
)
def test_a_factor_is_a_mask_only_if_it_is_0_or_1(factor, verdict):
    names = {"__name__": "mine"}
    text = f"""
def cost(w, x, y):
    z = x @ w
    return ((z - y) ** 2).sum() / len(y)

def grad(w, x, y):
    z = x @ w
    dz = 2 * (z - y) / len(y) * {factor}
    return x.T @ dz
"""
    exec(compile(text, __file__, "exec"), names)
    args = (np.float32(rng.normal(size=s)) for s in (3, (5, 3), 5))
    lines = explain_gradient(names["cost"], names["grad"], *args).backward
    assert [line.verdict for line in lines if line.symbol in ("dz", "∂J/∂z")][-1] == verdict


def test_m_dz_is_a_convention_and_no_fault():
    changed = {"dz2 = (P - y) / m": "dz2 = P - y", "dz2.sum(axis=0)": "dz2.mean(0)", "dz1.sum(axis=0)": "dz1.mean(0)"}
    cost, grad, args = template(changed | {"dz2.T @ a1": "dz2.T @ a1 / m", "dz1.T @ x": "dz1.T @ x / m"})
    found = explain_gradient(cost, grad, *args)
    links = by_symbol(found)
    assert found.report.ok
    assert "FAIL" not in [link.verdict for link in links.values()]
    assert (links["6·dz2"].formula, links["6·dz1"].formula) == ("P − y", "(6 da1) ⊙ (1 − a1²)")
    assert links["∂J/∂W1"].formula == "(6 dz1)ᵀ x / 6"


@pytest.mark.parametrize(
    ("line", "changed", "first"),
    [
        ("da1 * (1 - a1**2)", "da1", ("dz1", "∂J/∂a1")),  # forgotten
        ("dz2 @ params", "-dz2 @ params", ("da1", "(−∂J/∂z2) W2")),
        ("(P - y) / m", "P - y", ("dz2", "P − y")),
    ],
)
def test_the_first_wrong_line_of_common_mistakes(line, changed, first):
    cost, grad, args = template({line: changed})
    found = explain_gradient(cost, grad, *args)
    assert next((link.symbol, link.formula) for link in found.backward if link.verdict == "FAIL") == first
    assert str(found).endswith(f"verdict  FAIL; first wrong: {first[0]}")


def layers():
    sizes = [4, 5, 3, 1]
    params = {f"W{k}": rng.normal(size=sizes[k - 1 : k + 1][::-1]) for k in (1, 2, 3)}
    return params | {f"b{k}": np.zeros((sizes[k], 1)) for k in (1, 2, 3)}


def through_layers(params, X):
    cache, A = {"A0": X}, X
    for k in (1, 2, 3):
        Z = params[f"W{k}"] @ A + params[f"b{k}"]
        A = np.maximum(0, Z) if k < 3 else 1 / (1 + np.exp(-Z))
        cache |= {f"Z{k}": Z, f"A{k}": A}
    return cache


def cross_entropy(params, X, Y):
    A = through_layers(params, X)["A3"]
    return -np.mean(Y * np.log(A) + (1 - Y) * np.log(1 - A))


def back_through_layers(params, X, Y):
    m, grads, cache = X.shape[1], {}, through_layers(params, X)
    dZ = cache["A3"] - Y
    for k in (3, 2, 1):
        grads |= {f"W{k}": 1 / m * dZ @ cache[f"A{k - 1}"].T, f"b{k}": dZ.sum(axis=1, keepdims=True) / m}
        if k > 1:
            dA = params[f"W{k}"].T @ dZ
            dZ = dA * (cache[f"Z{k - 1}"] > 0)
    return grads


def test_a_loop_over_layers_whose_biases_are_zero():
    data = rng.normal(size=(4, 7)), (rng.uniform(size=(1, 7)) > 0.5) * 1.0
    first, *later = itertools.islice(descend_gradient(cross_entropy, back_through_layers, layers(), *data), 3)
    assert str(first).endswith("\n\nverdict  PASS")
    forward = {link.symbol: link.formula for link in first.forward}
    assert (forward["Z1"], forward["A1"], forward["Z3"]) == ("W1 X + b1", "max(0, Z1)", "W3 A2 + b3")
    assert [(link.symbol, link.formula) for link in first.backward if "d" in link.symbol] == [
        ("7·dZ", "A − Y"),
        ("7·dA", "W3ᵀ (7 dZ)"),
        ("7·dZ′", "(7 dA) ⊙ (Z2 > 0)"),
        ("7·dA′", "W2ᵀ (7 dZ′)"),
        ("7·dZ′′", "(7 dA′) ⊙ (Z1 > 0)"),
    ]
    assert [[*by_symbol(found)] for found in later] == 2 * [[*by_symbol(first)]]


def test_a_variable_that_grows_to_be_right_is_no_fault():
    """dh is masked in place, dz is a sum: neither is wrong before it is done, if another line is."""

    def cost(params, x):
        h = np.maximum(x @ params["W"], 0)
        z = h @ params["V"]
        return np.sum(z**2) + np.sum(z)

    def grad(params, x):
        h = np.maximum(x @ params["W"], 0)
        z = h @ params["V"]
        dz = 2 * z
        dz = dz + 1
        dh = dz @ params["V"].T
        dh[h <= 0] = 0
        return {"W": x.T @ dh, "V": h.T @ z}

    params = {"W": rng.normal(size=(3, 4)), "V": rng.normal(size=(4, 2))}
    found = explain_gradient(cost, grad, params, rng.normal(size=(5, 3)))
    assert [link.symbol for link in found.backward if link.verdict == "FAIL"] == ["∂J/∂V"]


def test_names_of_the_user_go_before_those_of_helpers():
    def relu(Z):
        return np.maximum(Z, 0)

    def cost(W, x):
        z1 = x @ W
        a1 = relu(z1)
        return np.sum((a1 - 1) ** 2)

    def grad(W, x):
        z1 = x @ W
        da1 = 2 * (relu(z1) - 1)
        dz1 = da1 * (z1 > 0)
        return x.T @ dz1

    found = explain_gradient(cost, grad, rng.normal(size=(3, 2)), rng.normal(size=(4, 3)))
    assert [link.symbol for link in found.forward] == ["W", "x", "z1", "a1", "J"]
    assert [link.symbol for link in found.backward] == ["∂J/∂a1", "∂J/∂z1", "∂J/∂W"]


class Net:
    """Its links are attributes, entries of lists, and variables that are overwritten."""

    def cost(self, params, x):
        hs = [x]
        for W, b in params:
            z = hs[-1] @ W + b
            hs.append(np.tanh(z))
        self.h = hs[-1]
        return np.sum(self.h**2)


def test_links_in_loops_lists_and_attributes():
    params = [(rng.normal(size=sizes), rng.normal(size=sizes[1])) for sizes in ((3, 4), (4, 2))]
    found = explain_gradient(Net().cost, lambda params, x: params, params, rng.normal(size=(5, 3)))
    assert [(link.symbol, link.formula) for link in found.forward] == [
        *((name, "given") for name in ("W1", "b1", "W2", "b2", "x")),
        ("z", "x W1 + b1"),
        ("hs[1]", "tanh(z)"),
        ("z′", "hs[1] W2 + b2"),
        ("h", "tanh(z′)"),
        ("J", "Σ h²"),
    ]


def test_an_input_without_a_name():
    found = explain_gradient(lambda params: (params[0][1] ** 2).sum(), None, ((np.zeros(0), rng.normal(size=3)),))
    assert [link.symbol for link in found.forward] == ["params[0][0]", "params[0][1]", "J"]


def test_numpy_code_and_no_gradient_at_all():
    def cost(params, x, y):
        h = np.maximum(x @ params["W"], 0.1)
        e = h @ params["v"] - y
        return 0.5 * np.sum(e**2)

    def grad(params, x, y):
        h = np.maximum(x @ params["W"], 0.1)
        e = h @ params["v"] - y
        dh = np.outer(e, params["v"])
        return {"W": x.T @ (dh * (h > 0.1)), "v": h.T @ e}

    args = {"W": rng.normal(size=(3, 4)), "v": rng.normal(size=4)}, rng.normal(size=(5, 3)), rng.normal(size=5)
    found = explain_gradient(cost, grad, *args)
    links = by_symbol(found)
    assert (links["h"].formula, links["e"].formula, links["J"].formula) == ("max(x W, 0.1)", "h v − y", "0.5 (Σ e²)")
    assert links["∂J/∂W"].formula == "xᵀ (∂J/∂h ⊙ (h > 0.1))"
    assert links["∂J/∂v"].formula == "hᵀ e"
    assert found.report.ok
    jax_cost = lambda params, x, y: 0.5 * ((jnp.maximum(x @ params["W"], 0.1) @ params["v"] - y) ** 2).sum()  # noqa: E731
    alone = explain_gradient(jax_cost, None, *args)
    for name in ("W", "v"):
        np.testing.assert_allclose(by_symbol(alone)[f"∂J/∂{name}"].value, links[f"∂J/∂{name}"].value, rtol=1e-12)


def test_a_derivative_that_is_1_everywhere():
    def cost(W, x):
        z = x @ W
        return z.sum()

    def grad(W, x):
        dz = jnp.ones((4, 2))
        return x.T @ dz

    found = explain_gradient(cost, grad, rng.normal(size=(3, 2)), rng.normal(size=(4, 3)))
    assert [(link.symbol, link.verdict) for link in found.backward] == [("∂J/∂z", "PASS"), ("∂J/∂W", "PASS")]
    assert [link.formula for link in found.backward] == ["1", "xᵀ ∂J/∂z"]


def test_names_under_jit_in_a_loop_and_given_twice():
    """Variables of jitted code; what has a name by `checkpoint_name` alone; one name for two values."""

    @jax.jit
    def dense(W, x):
        z = x @ W.T
        return checkpoint_name(jnp.tanh(z), "a")

    def cost(params, x):
        return (dense(params[1], dense(params[0], x)) ** 2).sum()

    found = explain_gradient(cost, None, (rng.normal(size=(4, 3)), rng.normal(size=(2, 4))), rng.normal(size=(5, 3)))
    formulas = {link.symbol: link.formula for link in found.forward if link.formula != "given"}
    assert formulas == {
        "z": "x W1ᵀ",
        "a": "tanh(z)",
        "z′": "a W2ᵀ",
        "a′": "tanh(z′)",
        "J": "Σ a′²",
    }


CASES = {
    "a − (b − c)": lambda a, b, c: a - (b - c),
    "a − b − c": lambda a, b, c: a - b - c,
    "a ⊙ (b + c)": lambda a, b, c: a * (b + c),
    "(a + b)ᵀ c": lambda a, b, c: (a + b).T @ c,
    "(a ⊙ b)ᵀ cᵀ": lambda a, b, c: (a * b).T @ c.T,
    "a (b ⊙ c)": lambda a, b, c: a @ (b * c),
    "a b c": lambda a, b, c: a @ b @ c,
    "cᵀ bᵀ aᵀ": lambda a, b, c: (a @ (b @ c)).T,
    "−a ⊙ b": lambda a, b, c: -(a * b),
    "(−a) ⊙ b": lambda a, b, c: -a * b,
    "(−a)²": lambda a, b, c: (-a) ** 2,
    "(a b)³": lambda a, b, c: (a @ b) ** 3,
    "a / (b ⊙ c)": lambda a, b, c: a / (b * c),
    "(Σ a) / 9": lambda a, b, c: a.mean(),
    "Σ a / b": lambda a, b, c: (a / b).sum(),
    "(Σᵢ a) b": lambda a, b, c: a.sum(0) @ b,
    "a + (Σₖ b)": lambda a, b, c: a + b.sum(1, keepdims=True),
    "2 (a + b)": lambda a, b, c: 2 * (a + b),
    "max(a, 0)": lambda a, b, c: jax.nn.relu(a),
    "σ(a b)": lambda a, b, c: jax.nn.sigmoid(a @ b),
    "a if b > c else 0": lambda a, b, c: jnp.where(b > c, a, 0.0),
    "a⁻²": lambda a, b, c: a**-2,
    "(a − b) cᵀ": lambda a, b, c: (c @ (a - b).T).T,
    "(a if b > c else 0.1 a) + b": lambda a, b, c: jnp.where(b > c, a, 0.1 * a) + b,
    "(a > b) ⊙ c": lambda a, b, c: (a > b) * c,
    "1 / (a b)": lambda a, b, c: 1 / (a @ b),
    "(a / b) ⊙ c": lambda a, b, c: a / b * c,
    "1/7 a": lambda a, b, c: 1 / 7 * a,
    "1/3 (a − b)": lambda a, b, c: (1 / 6) * 2 * (a - b),
    "0.3 (Σ a²) / 12": lambda a, b, c: (a**2).sum() * 0.3 / 12,
    "a − b − 0.7 c": lambda a, b, c: a + -b + -0.7 * c,
    "a + b": lambda a, b, c: 1.0 * a - -b,
    "b + c": lambda a, b, c: a @ jnp.zeros((3, 3)) + b + c,
    "a + 10⁻⁵": lambda a, b, c: a + 1e-5,
    "Σ a ⊙ b": lambda a, b, c: jnp.tensordot(a, b, 2),
    "Σₖ a ⊙ b": lambda a, b, c: jax.vmap(jnp.dot)(a, b),
    "a[0]ᵀ b[1]": lambda a, b, c: a[0] @ b[1],
    "Σ a[0] b ⊙ c[1]": lambda a, b, c: a[0] @ b @ c[1],
    "a[0] b[1]ᵀ": lambda a, b, c: jnp.outer(a[0], b[1]),
    "b[1] a[0]ᵀ": lambda a, b, c: a[0] * b[1][:, None],
    "a[1:3, 0]": lambda a, b, c: a[1:, 0],
    "log(a[…])": lambda a, b, c: jnp.log(a[np.arange(3), np.array([0, 2, 1])]),
    "[2 a[0], 2 a[1], …]": lambda a, b, c: jax.lax.scan(lambda s, x: (s, 2 * x), 0.0, a)[1],
    "Σ₀ (a + [2 × 3 × 3])": lambda a, b, c: (a + np.arange(18.0).reshape(2, 3, 3)).sum(0),
    "exp(a − maxₖ(a)) / (Σₖ exp(a − maxₖ(a)))": lambda a, b, c: jax.nn.softmax(a),
    "cumsumᵢ(a)": lambda a, b, c: a.cumsum(0),
    "√((Σ (a − (Σ a) / 9)²) / 9)": lambda a, b, c: a.std(),
}


OF_MORE_AXES = {
    "a W": lambda a, b, W: a @ W,
    "a Wᵀ": lambda a, b, W: a @ W.T,
    "a bᵀ": lambda a, b, W: jnp.einsum("mij,mkj->mik", a, b),
    "aᵀ b": lambda a, b, W: jnp.einsum("mij,mik->jk", a, b),
    "aᵀ b + W": lambda a, b, W: jnp.einsum("mij,mik->mjk", a, b) + W,
    "(a + b) W": lambda a, b, W: (a + b) @ W,
    "dot_general(a, b)": lambda a, b, W: jnp.einsum("mij,kij->mk", a, b),
}


@pytest.mark.parametrize("formula", OF_MORE_AXES)
def test_products_of_arrays_whose_first_axes_are_examples(formula):
    arrays = [rng.normal(size=(2, 3, 3)), rng.normal(size=(2, 3, 3)), rng.normal(size=(3, 3))]
    record = Record(jax.make_jaxpr(OF_MORE_AXES[formula])(*map(np.float32, arrays)), arrays)
    assert Formulas(record, dict(zip(record.inputs, "abW", strict=True))).formula(record.results[0]) == formula


@pytest.mark.parametrize("formula", CASES)
def test_formulas_have_the_parentheses_that_they_need(formula):
    arrays = [rng.normal(size=(3, 3)) for _ in range(3)]
    record = Record(jax.make_jaxpr(CASES[formula])(*map(np.float32, arrays)), arrays)
    assert Formulas(record, dict(zip(record.inputs, "abc", strict=True))).formula(record.results[0]) == formula


def test_the_factor_of_a_cotangent_is_none_itself():
    record = Record(jax.make_jaxpr(lambda a, b: a * b)(*np.float32([[1, 2], [3, 4]])), [np.ones(2), np.ones(2)])
    formulas, (a, b) = Formulas(record, dict(zip(record.inputs, "ab", strict=True))), record.inputs
    assert formulas.local(record.results[0], {a}) == ("b", b)
    assert formulas.local(record.results[0], {a, b}) is None


def test_names_are_found_near_the_arguments_in_what_is_differentiated():
    tape, back = SimpleNamespace(outs=(), values={0: 1.0}, J=0), SimpleNamespace(outs=())
    passes = MagicMock(return_value=(tape, back), differentiated=(0,))
    params, x = general_place(passes, [np.zeros(3), np.ones(2)], (tape, back), look=lambda floats: floats).seen
    assert (params > 0).all()
    assert (params < 0.01).all()
    np.testing.assert_array_equal(x, np.ones(2))


def test_a_long_formula_is_cut():
    x = np.ones(2)
    record = Record(jax.make_jaxpr(lambda x: sum((jnp.sin(x) for _ in range(30)), x))(x), [x])
    text = Formulas(record, {record.inputs[0]: "x"}).formula(record.results[0])
    assert (len(text), text[-1]) == (LONGEST, "…")


def test_descent_follows_the_users_gradient():
    cost, grad, args = template()
    params, *data = args
    costs = []
    for found, _ in zip(descend_gradient(cost, grad, *args, learning_rate=0.5), range(4), strict=False):
        np.testing.assert_allclose(by_symbol(found)["W1"].value, params["W1"], rtol=1e-5)
        costs.append(float(by_symbol(found)["J"].value))
        np.testing.assert_allclose(costs[-1], cost(params, *data), rtol=1e-5)
        params = jax.tree.map(lambda v, dv: v - 0.5 * dv, params, grad(params, *data))
    assert (len(costs), costs) == (4, sorted(costs, reverse=True))


def test_what_cannot_be_traced():
    def cost(w):
        return float(w[0]) ** 2 if w[0] > 0 else -float(w[0])

    with pytest.raises(TypeError, match=r"JAX cannot trace cost, line \d+: return float\(.* there are no equations"):
        explain_gradient(cost, lambda w: np.array([2 * w[0]]), np.array([1.5]))


def test_numpy_code_without_a_gradient():
    def cost(W):
        z = W**2
        return np.sum(np.asarray(z))

    with pytest.raises(TypeError, match=r"JAX cannot trace cost, line \d+: return np.sum.*\. Give grad, or write cost"):
        explain_gradient(cost, None, rng.normal(size=3))


def test_under_a_profiler():
    cost, grad, args = template()
    profile = cProfile.Profile()
    profile.enable()
    before = sys.getprofile()  # None where a profiler uses sys.monitoring
    try:
        assert explain_gradient(cost, grad, *args).report.ok
        assert sys.getprofile() is before
    finally:
        profile.disable()


def test_a_file_beside_another_from_its_own_folder_and_from_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "halves.py").write_text("def half(x):\n    h = x / 2\n    return h\n")
    text = "import halves\ndef cost(w):\n    return (halves.half(w) ** 2).sum()\ndef grad(w):\n    return w / 2\n"
    (tmp_path / "whole.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    for path in (Path("whole.py"), tmp_path / "whole.py"):
        with imported(path) as module:
            found = explain_gradient(module.cost, module.grad, np.arange(3.0))
        assert [link.symbol for link in found.forward] == ["w", "h", "J"]
        sys.modules.pop("halves")
    with pytest.raises(ValueError, match=r"There is no file none\.py\."), imported(Path("none.py")):
        pass


LATEX = {
    "istd³ ⊙ gamma": r"\mathit{istd}^{3} \odot \gamma ",
    "√(var + 10⁻⁵)": r"\surd (\mathit{var} + 10^{-5})",
    "h⁽⁴⁾ᵀ mu2": r"{h^{(4)}}^{\top} \mu _{2}",
    "maxₖ(S) − log1p(zs[0])": r"\max _{k}(S) - \operatorname{log1p}(\mathit{zs}[0])",
    "∂J/∂zs[0]": r"\frac{\partial J}{\partial \mathit{zs}[0]}",
    "Σ₀₂ dU": r"\sum _{02} \mathit{dU}",
}


@pytest.mark.parametrize("formula", LATEX)
def test_formulas_of_users_in_latex(formula):
    assert latex(formula) == LATEX[formula]


def test_the_command(tmp_path):
    """A file as `jaxnn verify` takes; the exit code is that of its verdict; a page without a network."""
    (tmp_path / "mine.py").write_text(RIGHT.replace("(1 - a1**2)", "(1 - a1)"))
    command = [sys.executable, "-m", "jaxnn", "explain", "mine.py"]

    def run(*flags):
        return subprocess.run([*command, *flags], cwd=tmp_path, capture_output=True, text=True, check=False)

    found = run("--html", "a.html", "--latex", "a.tex", "--iterations", "2")
    assert (found.returncode, found.stderr) == (1, "")
    assert re.search(r"dz1 +FAIL +∂J/∂a1 ⊙ \(1 − a1\)", found.stdout)
    tex = (tmp_path / "a.tex").read_text()
    assert tex.isascii()
    assert r"\mathit{log\_P} &= z_{2} - \log (" in tex
    assert r"\mathit{dz}_{1}^{\top} x" in tex
    assert '"units": 0, "iterations": [[' in (tmp_path / "a.html").read_text()
    refused = run("--hidden", "3")
    assert (refused.returncode, refused.stderr) == (
        2,
        "jaxnn: --hidden is of a new network, and mine.py has its own: leave it out.\n",
    )


@pytest.mark.parametrize("J", [np.nan, np.inf])
def test_a_cost_that_is_not_finite_is_said(J):
    def cost(w, x):
        return jnp.sum(w * x) * J

    with pytest.raises(ValueError, match=f"^cost is {J} at these arguments: it has no gradient to explain.$"):
        explain_gradient(cost, lambda w, x: x, jnp.ones(3), jnp.ones(3))


def test_no_examples_are_said():
    def cost(w, x):
        return jnp.mean((x @ w) ** 2)

    with pytest.raises(ValueError, match="cost is nan at these arguments"):
        explain_gradient(cost, None, jnp.ones(3), jnp.zeros((0, 3)))


def test_lists_that_hold_themselves_are_looked_into_once():
    def cost(w, x):
        kept = {"z": w * x}
        kept["again"] = [kept] * 999
        kept["again"].append(kept["again"])
        deep = kept
        for _ in range(5000):
            deep = [deep]
        return jnp.sum(kept["z"] ** 2)

    found = explain_gradient(cost, lambda w, x: 2 * w * x * x, jnp.ones(3), 2 * jnp.ones(3))
    assert [line.symbol for line in found.forward] == ["w", "x", "z", "J"]


def unrolled(n, step):
    def cost(w, x):
        h = x
        for _ in range(n):
            h = step(w, h)
        return jnp.sum(h)

    return cost


def test_many_unrolled_steps_have_short_formulas_in_little_time():
    cost = unrolled(60, lambda w, h: (h + w * h * h) / (1 + h * h))  # 3⁶⁰ symbols, were they written out
    record = Record(jax.make_jaxpr(cost)(1.0, 0.5), [1.0, 0.5])
    formula = Formulas(record, dict(zip(record.inputs, "wx", strict=True))).formula(record.results[0])
    assert len(formula) <= LONGEST


def test_too_many_steps_are_said():
    cost = unrolled(751, lambda w, h: w * h * h)
    with pytest.raises(ValueError, match="is computed in 1,504 steps, more than the 1,500 that are explained"):
        explain_gradient(cost, None, 0.5, 0.5)


def test_an_example_that_holds_itself_is_said(tmp_path):
    path = tmp_path / "mine.py"
    holds_itself = "    a = []\n    a.append(a)\n    return (a,)"
    path.write_text(RIGHT.replace("def example(key):", f"def example(key):\n{holds_itself}"))
    told = subprocess.run([sys.executable, "-m", "jaxnn", "explain", path], capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr == f"jaxnn: example in {path} returns lists within lists without end: give arrays in a few.\n"
