"""`jaxnn explain`: what each link says is what jax.grad says, in every notation."""

import itertools
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxnn import Activation, Chain, Dense, Repeat, backprop, cli, verify
from jaxnn.catalogue import names
from jaxnn.examples import LOSSES, draw_y, draw_z
from jaxnn.explanation.latex import latex
from jaxnn.explanation.network import NOTATIONS, descend, explain
from jaxnn.explanation.page import UNITS, array, page
from jaxnn.losses.half_squared_error import HalfSquaredError
from jaxnn.losses.softmax_cross_entropy import SoftmaxCrossEntropy
from jaxnn.penalty import L2
from jaxnn.storage import model_file

rng = np.random.default_rng(0)


def explained(model, loss=None, m=4, notation="rows", y=None, **options):
    """(the explanation by symbol, params, x, y), in float64."""
    with jax.enable_x64(True):
        params = model.init(jax.random.key(1), "float64")
        x = rng.normal(size=(m, jax.tree.leaves(params)[0].shape[1]))
        z = model.apply(params, x)
        y = rng.normal(size=z.shape) if y is None else y
        found = explain(model, loss or HalfSquaredError(), params, x, y, notation=notation, **options)
    return found, {link.symbol: link for link in (*found.forward, *found.backward)}, params, x, y


@pytest.mark.sample
@pytest.mark.parametrize("notation", NOTATIONS)
def test_every_derivative_is_that_of_jax(notation):
    """Values, and shapes as each notation has them; what is asked is ∂J/∂v of every v, not of parameters alone."""
    model = Chain((Dense(3, 5), Activation("sigmoid"), Chain((Dense(5, 4), Activation("tanh"))), Dense(4, 2)))
    found, links, params, x, y = explained(model, notation=notation)
    columns, transposed = notation != "rows", notation == "wtx"

    def J(moved, params):
        a0, p = x, (params[0], params[2][0], params[3])
        z1 = a0 @ p[0].W.T + p[0].b[None] + moved["z1"]
        a1 = jax.nn.sigmoid(z1) + moved["a1"]
        z2 = a1 @ p[1].W.T + p[1].b[None] + moved["z2"]
        a2 = jnp.tanh(z2) + moved["a2"]
        z3 = a2 @ p[2].W.T + p[2].b[None] + moved["z3"]
        return ((z3 - y) ** 2).sum() / 2 / len(x)

    with jax.enable_x64(True):
        moved = {name: np.zeros((4, n)) for name, n in {"z1": 5, "a1": 5, "z2": 4, "a2": 4, "z3": 2}.items()}
        true, grads = jax.grad(J, (0, 1))(moved, params)
        true = {name: v.T if columns else v for name, v in true.items()}
        for k, grad in enumerate((grads[0], grads[2][0], grads[3]), 1):
            true[f"W{k}"] = grad.W.T if transposed else grad.W
            true[f"b{k}"] = grad.b[:, None] if columns else grad.b
        assert links.keys() >= {f"∂J/∂{name}" for name in true}
        for name, v in true.items():
            np.testing.assert_allclose(links[f"∂J/∂{name}"].value, v, rtol=1e-12, atol=1e-14)
            assert links[f"∂J/∂{name}"].verdict == "PASS"
        np.testing.assert_allclose(links["J"].value, J(moved, params), rtol=1e-14)
        update = {link.symbol: link.value for link in found.update}
        np.testing.assert_allclose(update["W2"], links["W2"].value - 0.1 * true["W2"], rtol=1e-12)
    assert list(update) == ["W1", "b1", "W2", "b2", "W3", "b3"]


SIGNS = {"ᵀ": ".T", "⊙": "*", "−": "-", "½": "0.5*", "²": "**2", "³": "**3", "[": "(", "]": ")*1.0"}
SIGNS |= {"σ": "sigmoid", "Φ": "Phi", "φ": "phi", "√": "sqrt", "π": "pi"}


class Known(dict):
    """Names of a formula: those that are given, and any other as NumPy has it."""

    def __missing__(self, name):
        return getattr(np, name)


def as_numpy(formula):
    """A formula as it is written, read as NumPy: two factors may stand beside each other."""
    for written, read in SIGNS.items():
        formula = formula.replace(written, read)
    formula = re.sub(r"([\d)]) (?=[a-z(])", r"\1*", formula.replace(" if ", "@").replace(" else ", "~"))
    choice = re.fullmatch(r"(.*)@(.*)~(.*)", formula)
    return "where({1}, {0}, {2})".format(*choice.groups()) if choice else formula


@pytest.mark.parametrize("name", names("activations"))
def test_a_local_derivative_is_the_formula_that_is_written(name):
    """The formula, evaluated as it reads, is the value beside it; so is that of the activation."""
    from scipy.special import expit, ndtr

    model = Chain((Dense(3, 4), Activation(name)))
    _, links, *_ = explained(model)
    known = Known(
        {"sigmoid": expit, "Phi": ndtr, "phi": lambda z: np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)},
        max=np.maximum,
        min=np.minimum,
        z1=links["z1"].value,
        a1=links["a1"].value,
    )

    def value(formula):
        return eval(as_numpy(formula), {"__builtins__": {}}, known)

    link = links["∂J/∂z1"]
    np.testing.assert_allclose(np.broadcast_to(value(link.local), link.shape), link.local_value, rtol=1e-12)
    np.testing.assert_allclose(value(links["a1"].formula), links["a1"].value, rtol=1e-12)


@pytest.mark.sample(lambda name: [*LOSSES].index(name) // 3)
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss(name):
    loss, shape, kind = LOSSES[name]
    layers = (Dense(3, shape[-1]), *([Activation("sigmoid")] if loss.output == "probabilities" else []))
    y = draw_y(kind, rng, shape)
    assert draw_z(LOSSES[name], rng, np.float32).shape == shape
    model = Chain(layers)
    _, links, params, x, y = explained(model, loss, m=shape[0], y=y)
    with jax.enable_x64(True):
        J, grads = jax.value_and_grad(backprop.cost(model, loss))(params, x, y)
    np.testing.assert_allclose(links["J"].value, J, rtol=1e-14)
    np.testing.assert_allclose(links["∂J/∂W1"].value, grads[0].W, rtol=1e-9, atol=1e-15)


def test_a_penalty_is_a_part_of_the_cost_and_of_every_weight():
    model, penalty = Chain((Dense(3, 5), Activation("tanh"), Dense(5, 2))), L2(0.3)
    found, links, params, x, y = explained(model, penalty=penalty)
    assert found.report.ok
    assert (links["R"].formula, links["∂J/∂W2"].formula) == ("½ 0.3 Σ W²", "(∂J/∂z2)ᵀ a1 + 0.3 W2")
    with jax.enable_x64(True):
        J, true = jax.value_and_grad(backprop.cost(model, HalfSquaredError(), penalty))(params, x, y)
    np.testing.assert_allclose(links["J"].value, J, rtol=1e-13)
    for name, v in {"W1": true[0].W, "b1": true[0].b, "W2": true[2].W, "b2": true[2].b}.items():
        np.testing.assert_allclose(links[f"∂J/∂{name}"].value, v, rtol=1e-12)
    with pytest.raises(TypeError, match="float cannot be explained: an L2 can, or None"):
        explained(model, penalty=0.3)


def test_repeated_layers_are_explained_one_by_one():
    """Params of Repeat have a leading axis; the links are those of a Chain."""
    block = Chain((Dense(3, 3), Activation("tanh")))
    with jax.enable_x64(True):
        params = Repeat(block, 2).init(jax.random.key(0), "float64")
        x, y = rng.normal(size=(2, 4, 3))
        found = explain(Repeat(block, 2), HalfSquaredError(), params, x, y)
        _, true = jax.value_and_grad(backprop.cost(Repeat(block, 2), HalfSquaredError()))(params, x, y)
    links = {link.symbol: link.value for link in found.backward}
    np.testing.assert_allclose([links["∂J/∂W1"], links["∂J/∂W2"]], true[0].W, rtol=1e-12)
    assert found.report.ok


def test_a_wrong_layer_is_seen_where_it_is():
    class Forgets(Activation):
        def backward(self, residuals, dout):
            return (), dout

    model = Chain((Dense(3, 5), Forgets("tanh"), Dense(5, 2)))
    found, links, *_ = explained(model)
    assert (found.report.verdict, links["∂J/∂W2"].verdict) == (verify.FAIL, "PASS")
    assert {links[f"∂J/∂{name}"].verdict for name in ("z1", "W1", "b1")} == {"FAIL"}
    assert str(found).endswith("verdict  FAIL; first wrong: ∂J/∂z1")


def test_a_wrong_layer_in_a_chain_in_a_chain():
    class Forgets(Activation):
        def backward(self, residuals, dout):
            return (), dout

    model = Chain((Dense(3, 4), Chain((Activation("sigmoid"), Dense(4, 4), Forgets("tanh"))), Dense(4, 2)))
    _, links, *_ = explained(model)
    verdicts = {name: links[f"∂J/∂{name}"].verdict for name in ("W3", "a2", "z2", "a1", "z1", "W1")}
    assert verdicts == {"W3": "PASS", "a2": "PASS", **dict.fromkeys(("z2", "a1", "z1", "W1"), "FAIL")}


def test_descent_goes_on_while_the_cost_is_finite():
    model = Chain((Dense(3, 5), Activation("identity"), Dense(5, 2)))
    params, x, y = (
        model.init(jax.random.key(0)),
        np.float32(rng.normal(size=(4, 3))),
        np.float32(rng.normal(size=(4, 2))),
    )
    found = list(itertools.islice(descend(model, HalfSquaredError(), params, x, y, learning_rate=1e3), 99))
    assert 2 < len(found) < 99
    assert [its.backward[0].verdict for its in found[:2]] == ["PASS", ""]  # that of the first


def test_what_cannot_be_explained():
    model = Chain((Dense(3, 5),))
    with pytest.raises(ValueError, match="no notation 'cols': use one of rows, columns, wtx"):
        explained(model, notation="cols")
    with pytest.raises(TypeError, match="has no parameters, so nothing to learn"):
        explain(Chain(()), HalfSquaredError(), (), np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"x has shape \(3,\): give one example a row"):
        explain(model, HalfSquaredError(), model.init(jax.random.key(0)), np.ones(3), np.ones(5))
    sequences = np.ones((2, 4, 3)), np.ones((2, 4, 5))
    with pytest.raises(ValueError, match=r"in the notation 'wtx' give one example a row"):
        explain(model, HalfSquaredError(), model.init(jax.random.key(0)), *sequences, notation="wtx")
    with pytest.raises(TypeError, match="object cannot be explained: it has no forward and backward"):
        explained(model, object())


def test_latex_is_balanced_and_has_no_unknown_sign():
    found, *_ = explained(Chain((Dense(3, 5), Activation("leaky_relu"), Dense(5, 2), Activation("gelu"))))
    text = found.to_latex()
    assert text.isascii()
    assert text.count("{") == text.count("}")
    _, links, *_ = explained(Chain((Dense(3, 5),)), SoftmaxCrossEntropy(), y=np.array([0, 1, 4, 2]))
    assert latex(links["ŷ"].formula) == r"\text{softmax}(z_{1})"
    assert latex("the parameters") == r"\text{the parameters}"
    assert latex("∂J/∂a1′ ⊙ (1 − log(y))") == r"\frac{\partial J}{\partial a_{1}'} \odot (1 - \log (y))"
    assert r"\frac{\partial J}{\partial z_{1}} &= \frac{\partial J}{\partial a_{1}} \odot" in text


def test_a_page_of_a_large_layer_has_the_corner_that_it_draws():
    v = np.arange(6400.0).reshape(100, 64)
    assert array(v)["rows"][9][9] == v[9, 9]
    assert (array(v)["whole"], len(array(v)["rows"]), array(v[:10])["whole"]) == (False, UNITS, True)
    assert array(np.array([1.0, np.nan]))["rows"] == [[1.0, None]]
    found, *_ = explained(Chain((Dense(3, 5),)))
    named = page([found], "DATA </title><script>")
    assert named.count("DATA &lt;/title&gt;&lt;script&gt;") == 2  # nothing stands in the place of a name


def test_the_command(tmp_path, monkeypatch, capsys, standard_promotion):
    """New networks, a run folder, LaTeX, and what is asked wrongly."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        return cli.main(args), *capsys.readouterr()

    code, out, err = run("explain", "linnerud", "--hidden", "5", "--notation", "columns", "--latex", "d.tex")
    assert (code, err) == (0, "")
    assert re.search(r"∂J/∂z1 +PASS +∂J/∂a1 ⊙ \(a1 ⊙ \(1 − a1\)\) +5 × 6", out)
    assert (tmp_path / "d.tex").read_text().startswith("\\begin{align*}\n")
    assert run("train", "iris", "--hidden", "4", "--epochs", "1")[0] == 0
    code, out, err = run("explain", "runs/iris", "--examples", "3")
    assert (code, err) == (0, "")
    assert "3 examples of iris; Chain(layers=(Dense(n_in=4, n_out=4" in out
    for wrong, says in {
        ("explain", "nothing_like_it"): "nothing_like_it",
        ("explain", "--examples", "0"): "--examples is 0: it must be 1 or more.",
        ("explain", "--latex", "no/such/folder.tex"): "Cannot write",
        ("explain", "runs"): "give a folder that `jaxnn train` wrote",
    }.items():
        code, _, err = run(*wrong)
        assert (code, says in err, "Traceback" in err) == (2, True, False)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"data": 3}, "has 3 for the setting data"),
        ({"data": ["iris"]}, "for the setting data"),
        ({"l2": "much"}, "has much for the setting l2"),
        ({"l2": -1.0}, "--l2 is -1.0"),
        ({"seed": "\x1b[31m"}, r"has \x1b[31m for the setting seed"),
        ({"seed": True}, "has True for the setting seed"),
        ({"hidden": [1, "x"]}, "for the setting hidden"),
        ({"dtype": "float16"}, "has float16 for the setting dtype"),
        ({"patience": 0.5}, "has 0.5 for the setting patience"),
        ({"data": "wine"}, "wine has other classes or targets now"),
    ],
)
def test_a_run_with_odd_settings_is_refused(tmp_path, capsys, settings, words):
    trained = model_file.load(Path(__file__).parents[1] / "storage/formats/model_2_classes.safetensors")
    model_file.save(tmp_path / "model.safetensors", trained, {"data": "iris"} | settings)
    assert cli.main(["explain", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.err.count("\n") == 1
