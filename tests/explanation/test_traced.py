"""`jaxnn explain` of layers and losses that nobody here knows: names from their code, formulas from their equations."""

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
import pytest
from jax import Array
from jax import numpy as jnp

from jaxnn import Activation, Chain, Dense, HalfSquaredError, Repeat, Tied, backprop
from jaxnn.commands.config import Explain
from jaxnn.commands.explain import answer
from jaxnn.examples import LAYERS, draw_params, draw_x
from jaxnn.explanation.network import descend, explain
from jaxnn.factored import whole
from jaxnn.penalty import L2
from jaxnn.protocols import PyTree
from jaxnn.verify import FAIL, PASS, named_model


class GammaBeta(NamedTuple):
    gamma: Array
    beta: Array


@dataclass(frozen=True)
class LayerNorm:
    """fault: "", "dx" or "dx_hat"."""

    n: int
    fault: str = ""

    def init(self, key, dtype=jnp.float32):
        return GammaBeta(jnp.ones(self.n, dtype), jnp.zeros(self.n, dtype))

    def forward(self, params, x, key=None):
        gamma, beta = (jnp.broadcast_to(v, x.shape) for v in params)
        mean = x.mean(-1, keepdims=True)
        s = jnp.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5)
        x_hat = (x - mean) / s
        return gamma * x_hat + beta, (x_hat, s, gamma)

    def backward(self, residuals, dout):
        x_hat, s, gamma = residuals
        examples = tuple(range(dout.ndim - 1))
        dgamma, dbeta = (dout * x_hat).sum(examples), dout.sum(examples)
        dx_hat = dout * gamma if self.fault != "dx_hat" else dout + gamma
        along_x_hat = x_hat * (dx_hat * x_hat).mean(-1, keepdims=True)
        dx = (dx_hat - dx_hat.mean(-1, keepdims=True) - along_x_hat) / s
        return GammaBeta(dgamma, dbeta), dx if self.fault != "dx" else dx + along_x_hat / s

    def apply(self, params, x):
        return self.forward(params, x)[0]


@dataclass(frozen=True)
class Residual:
    layer: PyTree

    def init(self, key, dtype=jnp.float32):
        return self.layer.init(key, dtype)

    def forward(self, params, x, key=None):
        branch, residuals = self.layer.forward(params, x, key)
        return x + branch, residuals

    def backward(self, residuals, dout):
        dparams, dx = self.layer.backward(residuals, dout)
        return dparams, dout + dx

    def apply(self, params, x):
        return self.forward(params, x)[0]


class Table(NamedTuple):
    W: Array


@dataclass(frozen=True)
class Embedding:
    n: int
    n_out: int
    is_right: bool = True

    def init(self, key, dtype=jnp.float32):
        return Table(jax.random.normal(key, (self.n, self.n_out), dtype))

    def forward(self, params, x, key=None):
        return params.W[x], (x, params.W)

    def backward(self, residuals, dout):
        x, W = residuals
        zeros = jnp.zeros_like(W)
        return Table(zeros.at[x].add(dout) if self.is_right else zeros.at[x].set(dout)), None

    def apply(self, params, x):
        return params.W[x]


class TwoWeights(NamedTuple):
    W1: Array
    W2: Array


@dataclass(frozen=True)
class Gated:
    """out = σ(x W1ᵀ) ⊙ x W2ᵀ, for x of any rank."""

    n_in: int
    n_out: int

    def init(self, key, dtype=jnp.float32):
        return TwoWeights(*jax.random.normal(key, (2, self.n_out, self.n_in), dtype))

    def forward(self, params, x, key=None):
        W1, W2 = params
        gate = jax.nn.sigmoid(x @ W1.T)
        value = x @ W2.T
        out = gate * value
        return out, (params, x, gate, value)

    def backward(self, residuals, dout):
        (W1, W2), x, gate, value = residuals
        dgate, dvalue = dout * value, dout * gate
        dz = dgate * gate * (1 - gate)
        examples = "ij,ik->jk" if x.ndim == 2 else "tij,tik->jk"
        return TwoWeights(jnp.einsum(examples, dz, x), jnp.einsum(examples, dvalue, x)), dz @ W1 + dvalue @ W2

    def apply(self, params, x):
        return self.forward(params, x)[0]


class ThreeWeights(NamedTuple):
    Q: Array
    K: Array
    V: Array


@dataclass(frozen=True)
class Attention:
    """x (m, T, n); the derivative of the softmax is in a function of its own."""

    n: int

    def init(self, key, dtype=jnp.float32):
        return ThreeWeights(*jax.random.normal(key, (3, self.n, self.n), dtype))

    def forward(self, params, x, key=None):
        q, k, v = (x @ W.T for W in params)
        P = jax.nn.softmax(jnp.einsum("mij,mkj->mik", q, k))
        return jnp.einsum("mik,mkj->mij", P, v), (params, x, q, k, v, P)

    def backward(self, residuals, dout):
        params, x, q, k, v, P = residuals
        dv = jnp.einsum("mik,mij->mkj", P, dout)
        dS = through_softmax(P, jnp.einsum("mij,mkj->mik", dout, v))
        dq, dk = jnp.einsum("mik,mkj->mij", dS, k), jnp.einsum("mik,mij->mkj", dS, q)
        grads = ThreeWeights(*(jnp.einsum("mij,mik->jk", d, x) for d in (dq, dk, dv)))
        return grads, dq @ params.Q + dk @ params.K + dv @ params.V

    def apply(self, params, x):
        return self.forward(params, x)[0]


def through_softmax(P, dP):
    along = P * dP
    return along - P * along.sum(-1, keepdims=True)


@dataclass(frozen=True)
class Softmax:
    """Without parameters."""

    def init(self, key, dtype=jnp.float32):
        return ()

    def forward(self, params, x, key=None):
        P = jax.nn.softmax(x)
        return P, P

    def backward(self, P, dP):
        return (), P * (dP - (P * dP).sum(-1, keepdims=True))

    def apply(self, params, x):
        return self.forward(params, x)[0]


@dataclass(frozen=True)
class Times:
    """Without dataclasses or NamedTuples of arrays: its parameter is one array that no field holds."""

    def init(self, key, dtype=jnp.float32):
        return jnp.asarray(1.5, dtype)

    def forward(self, c, x, key=None):
        return c * x, (c, x)

    def backward(self, residuals, dout):
        c, x = residuals
        return (dout * x).sum(), c * dout

    def apply(self, c, x):
        return c * x


@dataclass(frozen=True)
class PseudoHuber:
    """A loss without `formulas`."""

    metric = "rmse"
    output = takes = "values"
    is_right: bool = True

    def forward(self, z, y, w=None):
        error = z - y
        s = jnp.sqrt(1 + error**2)
        return (s - 1).sum() / len(z), (error, s)

    def backward(self, residuals):
        error, s = residuals
        return (error / s if self.is_right else error) / len(error)

    def predict(self, z):
        return z


class Case(NamedTuple):
    found: PyTree
    lines: dict  # by symbol
    model: PyTree
    params: PyTree
    x: np.ndarray
    y: np.ndarray


def explained(model, x=None, loss=None, **options):
    """In float64."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        params = draw_params(model, rng)
        x = rng.normal(size=(6, 3)) if x is None else x
        z = model.apply(params, jnp.asarray(x))
        y = rng.normal(size=whole(z).shape)
        found = explain(model, loss or HalfSquaredError(), params, x, y, **options)
    return Case(found, {line.symbol: line for line in (*found.forward, *found.backward)}, model, params, x, y)


def texts(lines):
    return {line.symbol: line.formula for line in lines}


def verdicts(case):
    return {line.symbol.removeprefix("∂J/∂"): line.verdict for line in case.found.backward}


def agree(case, names, loss=None, penalty=None):
    """The ∂J/∂ of the parameters, in the order of their leaves, are those of jax.grad; and the update follows."""
    with jax.enable_x64(True):
        J = backprop.cost(case.model, loss or HalfSquaredError(), penalty)
        value, true = jax.value_and_grad(J)(case.params, jnp.asarray(case.x), case.y)
    np.testing.assert_allclose(case.lines["J"].value, value, rtol=1e-12)
    update = {line.symbol: line.value for line in case.found.update}
    assert list(update) == names
    leaves, derivatives = (map(np.asarray, jax.tree.leaves(tree)) for tree in (case.params, true))
    for name, v, dv in zip(names, leaves, derivatives, strict=True):
        np.testing.assert_allclose(case.lines[f"∂J/∂{name}"].value, dv, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(update[name], v - 0.1 * dv, rtol=1e-10, atol=1e-14)


NORMALISED = (Dense(3, 4), LayerNorm(4), Activation("tanh"), Dense(4, 2))


def test_a_layer_in_the_words_of_its_code():
    case = explained(Chain(NORMALISED))
    forward, backward = texts(case.found.forward), texts(case.found.backward)
    assert {name: forward[name] for name in ("gamma2", "mean2", "s2", "x_hat2", "h2", "a2", "z3")} == {
        "gamma2": "the parameters",
        "mean2": "(Σₖ z1) / 4",
        "s2": "√((Σₖ (z1 − mean2)²) / 4 + 10⁻⁵)",
        "x_hat2": "(z1 − mean2) / s2",
        "h2": "gamma2 ⊙ x_hat2 + beta2",
        "a2": "tanh(h2)",
        "z3": "a2 W3ᵀ + b3",
    }
    assert [*backward.items()][4:9] == [
        ("∂J/∂h2", "∂J/∂a2 ⊙ (1 − a2²)"),
        ("∂J/∂gamma2", "Σᵢ ∂J/∂h2 ⊙ x_hat2"),
        ("∂J/∂beta2", "Σᵢ ∂J/∂h2"),
        ("∂J/∂x_hat2", "∂J/∂h2 ⊙ gamma2"),
        ("along_x_hat2", "x_hat2 ⊙ ((Σₖ ∂J/∂x_hat2 ⊙ x_hat2) / 4)"),
    ]
    assert backward["∂J/∂z1"] == "(∂J/∂x_hat2 − (Σₖ ∂J/∂x_hat2) / 4 − along_x_hat2) / s2"
    assert {*verdicts(case).values()} == {PASS, ""}
    agree(case, ["W1", "b1", "gamma2", "beta2", "W3", "b3"])


def test_the_derivatives_inside_a_layer_are_those_of_jax():
    case = explained(Chain(NORMALISED))
    dense, norm, _, last = case.params

    def J(moved):
        z1 = case.x @ dense.W.T + dense.b[None] + moved["z1"]
        centred = z1 - z1.mean(-1, keepdims=True)
        x_hat2 = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) + moved["x_hat2"]
        h2 = norm.gamma[None] * x_hat2 + norm.beta[None] + moved["h2"]
        z3 = jnp.tanh(h2) @ last.W.T + last.b[None]
        return ((z3 - case.y) ** 2).sum() / 2 / len(case.x)

    with jax.enable_x64(True):
        true = jax.grad(J)({name: np.zeros((6, 4)) for name in ("z1", "x_hat2", "h2")})
    for name, dv in true.items():
        np.testing.assert_allclose(case.lines[f"∂J/∂{name}"].value, dv, rtol=1e-10, atol=1e-14)
        assert case.lines[f"∂J/∂{name}"].verdict == PASS


def test_a_layer_whose_dx_is_wrong():
    case = explained(Chain((Dense(3, 4), LayerNorm(4, "dx"), Activation("tanh"), Dense(4, 2))))
    wrong = dict.fromkeys(("z1", "W1", "b1"), FAIL)
    right = dict.fromkeys(("z3", "W3", "b3", "a2", "h2", "gamma2", "beta2", "x_hat2"), PASS)
    assert verdicts(case) == {**right, "along_x_hat2": "", "dx2": "", **wrong}  # dx was right before the last line
    assert str(case.found).endswith("verdict  FAIL; first wrong: ∂J/∂z1")


def test_the_wrong_line_inside_a_layer():
    case = explained(Chain((Dense(3, 4), LayerNorm(4, "dx_hat"), Activation("tanh"), Dense(4, 2))))
    assert [name for name, verdict in verdicts(case).items() if verdict == FAIL] == ["dx_hat2", "z1", "W1", "b1"]
    assert case.lines["dx_hat2"].formula == "∂J/∂h2 + gamma2"


def test_a_right_layer_above_which_one_is_wrong_has_no_pass():
    case = explained(Chain((Dense(3, 4), LayerNorm(4), Dense(4, 4), LayerNorm(4, "dx"))))
    by_name = verdicts(case)
    assert {by_name[name] for name in ("gamma4", "beta4", "x_hat4")} == {PASS}
    assert {by_name[name] for name in ("z3", "W3", "h2", "gamma2", "beta2", "x_hat2", "z1", "W1")} == {FAIL}


def test_a_first_layer_whose_dx_has_no_name_in_the_report():
    assert verdicts(explained(Chain((LayerNorm(3), Dense(3, 2)))))["x"] == PASS
    unused = explained(Chain((LayerNorm(3, "dx"), Dense(3, 2))))  # no gradient depends on it
    assert (unused.found.report.ok, unused.lines["∂J/∂x"].verdict) == (True, FAIL)
    by_name = verdicts(explained(Chain((LayerNorm(3, "dx"), LayerNorm(3, "dx_hat"), Dense(3, 2)))))
    assert (by_name["gamma1"], by_name["x_hat1"], by_name["x"]) == (FAIL, FAIL, FAIL)
    assert (by_name["h1"], by_name["gamma2"], by_name["dx_hat2"]) == (FAIL, PASS, FAIL)


def test_layers_inside_a_layer_have_their_own_numbers():
    block = Chain((LayerNorm(4), Dense(4, 5), Activation("tanh"), Dense(5, 4)))
    case = explained(Chain((Dense(3, 4), Residual(block), Dense(4, 2))))
    forward, backward = texts(case.found.forward), texts(case.found.backward)
    assert {name: forward[name] for name in ("h2", "z3", "a3", "branch4", "h4", "z5") if name in forward} == {
        "h2": "gamma2 ⊙ x_hat2 + beta2",
        "z3": "h2 W3ᵀ + b3",
        "a3": "tanh(z3)",
        "h4": "z1 + z4",
        "z5": "h4 W5ᵀ + b5",
    }
    assert {name: backward[f"∂J/∂{name}"] for name in ("W4", "b4", "a3", "z3", "W3", "h2", "gamma2", "z1")} == {
        "W4": "(∂J/∂h4)ᵀ a3",
        "b4": "Σᵢ ∂J/∂h4",
        "a3": "∂J/∂h4 W4",
        "z3": "∂J/∂a3 ⊙ (1 − a3²)",
        "W3": "(∂J/∂z3)ᵀ h2",
        "h2": "∂J/∂z3 W3",
        "gamma2": "Σᵢ ∂J/∂h2 ⊙ x_hat2",
        "z1": "∂J/∂h4 + dx4",
    }
    agree(case, ["W1", "b1", "gamma2", "beta2", "W3", "b3", "W4", "b4", "W5", "b5"])
    wrong = explained(Chain((Dense(3, 4), Residual(Chain((LayerNorm(4, "dx_hat"), Dense(4, 4)))), Dense(4, 2))))
    faults = [name for name, verdict in verdicts(wrong).items() if verdict == FAIL]
    assert faults == ["dx_hat2", "z1", "W1", "b1"]


def test_whole_numbers():
    x = np.array([[0, 3, 1], [1, 4, 1]])
    case = explained(Chain((Embedding(5, 3), Dense(3, 2))), x)
    assert (case.lines["x"].value == x).all()
    assert (case.lines["h1"].formula, case.lines["∂J/∂W1"].formula) == ("W1[x]", "0.at[x].add(∂J/∂h1)")
    assert case.lines["h1"].shape == (2, 3, 3)
    agree(case, ["W1", "W2", "b2"])
    assert verdicts(case)["W1"] == PASS
    wrong = explained(Chain((Embedding(5, 3, is_right=False), Dense(3, 2))), x)
    assert verdicts(wrong) == {"z2": PASS, "W2": PASS, "b2": PASS, "h1": PASS, "W1": FAIL}


@pytest.mark.sample
@pytest.mark.parametrize("shape", [(6, 3), (2, 5, 3)])
def test_two_weight_matrices_and_x_of_any_rank(shape):
    x = np.random.default_rng(1).normal(size=shape)
    case = explained(Chain((Dense(3, 4), Gated(4, 2))), x)
    assert (case.lines["gate2"].formula, case.lines["out2"].formula) == ("σ(z1 W1_2ᵀ)", "gate2 ⊙ value2")
    assert case.lines["∂J/∂z1"].formula == "dz2 W1_2 + ∂J/∂value2 W2_2"
    assert case.lines["∂J/∂z1"].shape == (*shape[:-1], 4)
    agree(case, ["W1", "b1", "W1_2", "W2_2"])
    assert r"W_{1,2}" in case.found.to_latex()


def test_attention():
    case = explained(Attention(3), np.random.default_rng(1).normal(size=(2, 5, 3)))
    assert (case.lines["q1"].formula, case.lines["h1"].formula) == ("x Q1ᵀ", "P1 v1")
    backward = texts(case.found.backward)
    assert {name: backward[name] for name in ("∂J/∂v1", "∂J/∂P1", "along1", "dS1", "∂J/∂q1", "∂J/∂k1", "∂J/∂Q1")} == {
        "∂J/∂v1": "P1ᵀ ∂J/∂h1",
        "∂J/∂P1": "∂J/∂h1 v1ᵀ",
        "along1": "P1 ⊙ ∂J/∂P1",
        "dS1": "along1 − P1 ⊙ (Σ₂ along1)",
        "∂J/∂q1": "dS1 k1",
        "∂J/∂k1": "dS1ᵀ q1",
        "∂J/∂Q1": "(∂J/∂q1)ᵀ x",
    }
    agree(case, ["Q1", "K1", "V1"])


def test_layers_without_parameters_keep_the_number_of_the_layer_before():
    case = explained(Chain((Softmax(), Dense(3, 4), Softmax(), Softmax(), Dense(4, 2))))
    symbols = [line.symbol for line in case.found.forward]
    assert symbols == ["x", "P", "W1", "b1", "z1", "P1", "P1′", "W2", "b2", "z2", "ŷ", "J"]
    agree(case, ["W1", "b1", "W2", "b2"])


def test_parameters_without_a_name_have_that_of_a_variable():
    case = explained(Chain((Times(), Dense(3, 2))))
    assert (case.lines["h1"].formula, case.lines["∂J/∂c1"].formula) == ("c1 x", "Σ ∂J/∂h1 ⊙ x")
    agree(case, ["c1", "W2", "b2"])


def test_code_that_runs_in_its_own_dtype_alone():
    @dataclass(frozen=True)
    class Halves(Residual):
        def forward(self, params, x, key=None):
            half = x * jnp.asarray(0.5, jnp.float32)
            return half * jnp.broadcast_to(params.gamma, x.shape), (half, params.gamma)

        def backward(self, residuals, dout):
            half, gamma = residuals
            dgamma = (dout * half).sum(0)
            return GammaBeta(dgamma, jnp.zeros_like(dgamma)), dout * gamma[None] * jnp.asarray(0.5, jnp.float32)

    model, rng = Chain((Dense(3, 4), Halves(LayerNorm(4)))), np.random.default_rng(0)
    params, x, y = draw_params(model, rng, np.float32), rng.normal(size=(6, 3)), rng.normal(size=(6, 4))
    found = explain(model, HalfSquaredError(), params, np.float32(x), np.float32(y))
    assert texts(found.forward)["h2"] == "0.5 z1 ⊙ gamma2"
    assert {line.verdict for line in found.backward} == {PASS}


def test_repeated_layers_in_a_residual_and_a_residual_that_is_repeated():
    block = Chain((Dense(3, 3), Activation("tanh")))
    case = explained(Residual(Repeat(block, 2)))
    agree(case, ["W1", "b1"])
    case = explained(Repeat(Residual(block), 2))
    assert case.lines["h2"].formula == "h1 + a2"
    agree_names = [line.symbol for line in case.found.update]
    assert agree_names == ["W1", "b1", "W2", "b2"]
    assert case.found.report.ok


def test_a_penalty_on_the_weights_of_any_layer():
    model, penalty = Chain((Embedding(5, 3), LayerNorm(3), Dense(3, 2))), L2(0.3)
    case = explained(model, np.array([0, 3, 1]), penalty=penalty)
    assert case.lines["∂J/∂W1"].formula == "0.at[x].add(∂J/∂h1) + 0.3 W1"
    assert case.lines["∂J/∂gamma2"].formula == "Σᵢ ∂J/∂h2 ⊙ x_hat2"
    agree(case, ["W1", "gamma2", "beta2", "W3", "b3"], penalty=penalty)


def test_a_loss_without_formulas():
    model = Chain((Dense(3, 4), Activation("tanh"), Dense(4, 2)))
    case = explained(model, loss=PseudoHuber())
    assert [*texts(case.found.forward).items()][-4:] == [
        ("ŷ", "z2"),
        ("error", "z2 − y"),
        ("s", "√(1 + error²)"),
        ("J", "(Σ (s − 1)) / 6"),
    ]
    assert (case.lines["∂J/∂z2"].formula, case.lines["∂J/∂z2"].verdict) == ("error / s / 6", PASS)
    agree(case, ["W1", "b1", "W2", "b2"], loss=PseudoHuber())
    assert '"units": 10' in case.found.to_html()  # the network is one that can be drawn
    wrong = explained(model, loss=PseudoHuber(is_right=False))
    assert {*verdicts(wrong).values()} == {FAIL}
    assert wrong.lines["∂J/∂z2"].formula == "error / 6"
    assert explained(model, loss=PseudoHuber(), penalty=L2(0.1)).lines["J"].formula == "(Σ (s − 1)) / 6 + R"


def test_a_subclass_is_written_as_its_code_has_it():
    class Forgets(Activation):
        def backward(self, residuals, da):
            return (), da

    case = explained(Chain((Dense(3, 4), Forgets("tanh"), Dense(4, 2))))
    assert (case.lines["∂J/∂z1"].verdict, case.lines["∂J/∂z1"].formula) == (FAIL, "∂J/∂a1")


@pytest.mark.sample(lambda name: [*LAYERS].index(name) // 12)
@pytest.mark.parametrize("name", [name for name, example in LAYERS.items() if not isinstance(example.layer, Tied)])
def test_every_layer_that_ships(name):
    """But for `Tied`, which is refused, see test_language_models.py."""
    example = LAYERS[name]
    x = np.asarray(draw_x(example, np.random.default_rng(0), np.float32))
    x = x if example.below else x.astype(np.float64)
    case = explained(example.layer if example.below else Chain((Times(), example.layer)), x)
    assert case.found.report.ok
    assert {*verdicts(case).values()} <= {PASS, ""}
    assert case.found.to_latex().isascii()


def test_verdicts_do_not_hang_on_the_words_of_a_name(monkeypatch):
    model = Chain((Dense(3, 4), LayerNorm(4, "dx"), Activation("tanh"), Dense(4, 2)))
    before = verdicts(explained(model))
    monkeypatch.setattr(named_model, "name_of_x", lambda n, layer: f"{n}. what goes into {type(layer).__name__}")
    case = explained(model)
    assert str(case.found).endswith("first wrong: ∂J/∂z1")
    assert verdicts(case) == before


def test_descent_and_the_files_of_the_command(tmp_path, capsys):
    model = Chain(NORMALISED)
    params, rng = model.init(jax.random.key(0)), np.random.default_rng(0)
    x, y = rng.normal(size=(6, 3)).astype("float32"), rng.normal(size=(6, 2)).astype("float32")
    first, *later = itertools.islice(descend(model, HalfSquaredError(), params, x, y), 3)
    costs = [float(found.forward[-1].value) for found in (first, *later)]
    assert costs == sorted(costs, reverse=True)
    for found in later:
        assert texts(found.backward) == texts(first.backward)
        assert {line.verdict for line in found.backward} == {""}
    config = Explain(latex=tmp_path / "a.tex", html=tmp_path / "a.html", iterations=2)
    assert answer(config, descend(model, HalfSquaredError(), params, x, y), "norm").give() == 0
    assert "gamma2 ⊙ x_hat2 + beta2" in capsys.readouterr().out
    assert r"\gamma _{2} \odot \mathit{x\_hat}_{2}" in (tmp_path / "a.tex").read_text()
    assert '"units": 0, "iterations": [[' in (tmp_path / "a.html").read_text()


def test_what_cannot_be_explained():
    class ForwardAlone(NamedTuple):
        forward: PyTree = None

    for notation in ("columns", "wtx"):
        with pytest.raises(ValueError, match="LayerNorm is written as its own code has it, one example a row: use"):
            explained(Chain(NORMALISED), notation=notation)
    with pytest.raises(ValueError, match="PseudoHuber is written as its own code has it"):
        explained(Chain((Dense(3, 2),)), loss=PseudoHuber(), notation="columns")
    with pytest.raises(TypeError, match="ForwardAlone cannot be explained: it has no forward and backward, see"):
        explain(Chain((ForwardAlone(),)), HalfSquaredError(), ((),), np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(TypeError, match="it has no parameters, so nothing to learn"):
        explained(Chain((Softmax(),)))
