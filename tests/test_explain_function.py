"""`jaxnn explain` of functions that a user wrote: their own variables, with the formulas that their code has."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.ad_checkpoint import checkpoint_name

import jaxnn
from jaxnn import explain_gradient, verify_template
from jaxnn.explain_function import descend_gradient
from jaxnn.verify.tape import Record
from jaxnn.verify.written import LONGEST, Written

RIGHT = Path(jaxnn.__file__).with_name("verify_template.py").read_text()
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
    np.testing.assert_allclose(links["∂J/∂z1"].slope, 1 - links["a1"].value ** 2, rtol=1e-12)
    np.testing.assert_allclose(links["z2"].value, z2, rtol=1e-5, atol=1e-6)


def test_a_wrong_line_is_named_with_its_formula():
    cost, grad, args = template({"(1 - a1**2)": "(1 - a1)"})
    found = explain_gradient(cost, grad, *args)
    links = by_symbol(found)
    assert (links["dz1"].verdict, links["dz1"].formula) == ("FAIL", "∂J/∂a1 ⊙ (1 − a1)")
    assert [name for name, link in links.items() if link.verdict == "FAIL"] == ["dz1", "∂J/∂W1", "∂J/∂b1"]
    assert str(found).endswith("verdict  FAIL; first wrong: dz1")


def test_m_dz_is_a_convention_and_no_fault():
    changed = {"dz2 = (P - y) / m": "dz2 = P - y", "dz2.sum(axis=0)": "dz2.mean(0)", "dz1.sum(axis=0)": "dz1.mean(0)"}
    cost, grad, args = template(changed | {"dz2.T @ a1": "dz2.T @ a1 / m", "dz1.T @ x": "dz1.T @ x / m"})
    found = explain_gradient(cost, grad, *args)
    links = by_symbol(found)
    assert found.report.ok
    assert "FAIL" not in [link.verdict for link in links.values()]
    assert (links["6·dz2"].formula, links["6·dz1"].formula) == ("P − y", "6·da1 ⊙ (1 − a1²)")
    assert links["∂J/∂W1"].formula == "6·dz1ᵀ x / 6"


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
        "z": "x params0ᵀ",
        "a": "tanh(z)",
        "z′": "a params1ᵀ",
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
}


@pytest.mark.parametrize("formula", CASES)
def test_formulas_have_the_parentheses_that_they_need(formula):
    arrays = [rng.normal(size=(3, 3)) for _ in range(3)]
    record = Record(jax.make_jaxpr(CASES[formula])(*map(np.float32, arrays)), arrays)
    assert Written(record, dict(zip(record.inputs, "abc", strict=True))).formula(record.results[0]) == formula


def test_a_long_formula_is_cut():
    x = np.ones(2)
    record = Record(jax.make_jaxpr(lambda x: sum((jnp.sin(x) for _ in range(30)), x))(x), [x])
    text = Written(record, {record.inputs[0]: "x"}).formula(record.results[0])
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

    with pytest.raises(TypeError, match="JAX cannot trace cost or <lambda>: there are no equations to explain"):
        explain_gradient(cost, lambda w: np.array([2 * w[0]]), np.array([1.5]))


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
