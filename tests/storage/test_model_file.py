"""The model file gives back what was saved, and builds nothing but networks."""

import json
import stat
from dataclasses import dataclass

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import numpy as jnp
from safetensors.numpy import save_file

from jaxnn import Activation, Chain, Dense, HalfSquaredError, Repeat, SoftmaxCrossEntropy
from jaxnn.catalogue import names
from jaxnn.data.scale import Scale
from jaxnn.examples import LAYERS, LOSSES, draw_params
from jaxnn.storage import model_file
from jaxnn.trained import Trained

activations = st.sampled_from(names("activations")).map(Activation) | st.floats(-2, 2).map(
    lambda slope: Activation("leaky_relu", slope)
)
denses = st.builds(Dense, st.integers(1, 4), st.integers(1, 4), st.sampled_from(names("initializers")))
networks = st.recursive(denses | activations, lambda layer: st.lists(layer, max_size=3).map(tuple).map(Chain))
texts = st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=3).map(tuple)
SCALE = Scale(np.arange(3.0), np.full(3, 0.1))


@given(networks)
def test_parse_is_the_inverse_of_repr(layer):
    assert model_file.parse(repr(layer)) == layer


def saved_and_loaded(path, layer, loss, params):
    model_file.save(path, Trained(layer, loss, params, SCALE, None, (), (), ()), {})
    return model_file.load(path)


@pytest.mark.parametrize("layer", [example.layer for example in LAYERS.values()], ids=LAYERS)
def test_every_layer_can_be_saved_and_loaded(tmp_path, layer):
    params = draw_params(layer, np.random.default_rng(0), np.float32)
    loaded = saved_and_loaded(tmp_path / "m", layer, HalfSquaredError(), params)
    assert loaded.network == layer
    jax.tree.map(np.testing.assert_array_equal, loaded.params, params)


@pytest.mark.parametrize("loss", [example.loss for example in LOSSES.values()], ids=LOSSES)
def test_every_loss_can_be_saved_and_loaded(tmp_path, loss):
    assert saved_and_loaded(tmp_path / "m", NET, loss, NET.init(jax.random.key(0))).loss == loss


@dataclass(frozen=True)
class Mine(Activation):
    """A layer of the user's own."""


@dataclass(frozen=True)
class MyLoss(HalfSquaredError):
    """A loss of the user's own."""


SAME_NAME = dataclass(frozen=True)(type("Activation", (Activation,), {"__annotations__": {}}))


@pytest.mark.parametrize(
    ("layer", "loss", "words"),
    [
        (Mine("tanh"), HalfSquaredError(), "Mine is no layer or loss of jaxnn"),
        (Chain((Repeat(Mine("tanh"), 2),)), HalfSquaredError(), "A Chain is not saved.* Mine is no layer or loss"),
        (Activation("tanh"), MyLoss(), "A MyLoss is not saved.* MyLoss is no layer or loss of jaxnn"),
        (SAME_NAME("tanh"), HalfSquaredError(), "it would be loaded as another one"),
    ],
    ids=["a layer", "inside of others", "a loss", "a name of ours"],
)
def test_what_could_not_be_loaded_is_not_saved(tmp_path, layer, loss, words):
    with pytest.raises(ValueError, match=words):
        model_file.save(tmp_path / "m", Trained(layer, loss, (), SCALE, None, (), (), ()), {})
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('x')",
        "open('x', 'w')",
        "eval('1')",
        "Dense.__init__(Dense(n_in=1, n_out=1))",
        "Dense(1, 2)",
        "Dense(n_in=1, n_out=2, initializer=open('x', 'w'))",
        "Dense(**{'n_in': 1, 'n_out': 2})",
        "Dense(n_in=0, n_out=2)",
        "Dense(n_in=1)",
        "Conv(n_in=1)",
        "value_and_grad(model=1, loss=2)",
        "[Dense(n_in=1, n_out=1) for x in (1,)]",
        "Dense",
        "",
        "-" * 100_000 + "1",
    ],
)
def test_parse_evaluates_nothing_else(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="cannot build"):
        model_file.parse(text)
    assert not list(tmp_path.iterdir())


@given(networks, st.sampled_from(["float32", "bfloat16", "float64"]), st.booleans(), texts, st.integers(0, 9))
def test_what_was_saved_is_loaded(tmp_path_factory, layer, dtype, values, names, seed):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    with jax.enable_x64(True):
        params = draw_params(layer, np.random.default_rng(seed), dtype)
        y_scale = Scale(np.ones(2), np.full(2, 3.5)) if values else None
        saved = Trained(layer, SoftmaxCrossEntropy(), params, SCALE, y_scale, names, names, names)
        model_file.save(path, saved, {"epochs": 3})
        loaded = model_file.load(path)
    assert jax.tree.structure(loaded) == jax.tree.structure(saved)
    assert (loaded.network, loaded.loss, loaded.features, loaded.classes, loaded.targets) == (
        *saved[:2],
        names,
        names,
        names,
    )
    for new, old in zip(jax.tree.leaves(loaded[2:5]), jax.tree.leaves(saved[2:5]), strict=True):
        assert new.dtype == old.dtype
        assert np.array_equal(new, old)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


NET = Chain((Dense(3, 2),))


def net(**fields):
    params = NET.init(jax.random.key(0))
    return Trained(NET, HalfSquaredError(), params, SCALE, Scale(np.ones(2), np.ones(2)), (), (), ("u", "v"))._replace(
        **fields
    )


def test_predictions_are_in_the_units_of_the_data():
    scaled = net(y_scale=Scale(np.array([10.0, 20.0]), np.array([2.0, 3.0])))
    x = np.random.default_rng(0).normal(size=(4, 3))
    W, b = map(np.asarray, scaled.params[0])
    np.testing.assert_allclose(scaled.predict(x), ((x - SCALE.shift) / 0.1 @ W.T + b) * [2, 3] + [10, 20], rtol=1e-5)


def test_a_model_is_readable_for_others(tmp_path):
    model_file.save(tmp_path / "m", net(), {})
    (tmp_path / "plain").touch()
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def header(**fields):
    names = {name: json.dumps([]) for name in ("features", "classes", "targets", "settings")}
    return {"format": model_file.FORMAT, "model": repr(NET), "loss": repr(HalfSquaredError()), **names, **fields}


ARRAYS = {f"params/0/{name}": v for name, v in zip("Wb", (np.ones((2, 3)), np.ones(2)), strict=True)}
ARRAYS |= {"x_shift": np.ones(3), "x_unit": np.ones(3)}


def test_the_good_file_that_the_bad_ones_differ_from(tmp_path):
    save_file(ARRAYS, tmp_path / "m", header())
    assert model_file.load(tmp_path / "m").network == NET


@pytest.mark.parametrize(
    ("arrays", "meta", "message"),
    [
        (ARRAYS, {}, "no jaxnn model 1"),
        (ARRAYS, header(format="jaxnn model 0"), "no jaxnn model 1"),
        (ARRAYS, header(model="Conv()"), "damaged.*cannot build"),
        (ARRAYS, header(model="L2(lam=1.0)"), "damaged"),
        (ARRAYS, header(model="3"), "damaged"),
        (ARRAYS, header(classes="["), "damaged"),
        ({}, header(), "damaged.*params/0/W"),
        ({**ARRAYS, "params/0/W": np.ones((3, 2))}, header(), "damaged.*parameters are not those of Chain"),
        ({k: v for k, v in ARRAYS.items() if k != "x_unit"}, header(), "damaged.*x_unit"),
    ],
)
def test_another_file_is_refused(tmp_path, arrays, meta, message):
    save_file(arrays, tmp_path / "m", meta)
    with pytest.raises(ValueError, match=message):
        model_file.load(tmp_path / "m")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x10" + bytes(30)])
def test_a_broken_file_is_refused(tmp_path, content):
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(ValueError, match="damaged or no safetensors file"):
        model_file.load(tmp_path / "m")


def test_a_cut_file_is_refused(tmp_path):
    model_file.save(tmp_path / "m", net(), {})
    (tmp_path / "m").write_bytes((tmp_path / "m").read_bytes()[:-1])
    with pytest.raises(ValueError, match="damaged or no safetensors file"):
        model_file.load(tmp_path / "m")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"There is no .*a run/model"):
        model_file.load(tmp_path / "a run" / "model")


def test_parameters_are_jax_arrays(tmp_path):
    model_file.save(tmp_path / "m", net(), {})
    assert all(isinstance(v, jnp.ndarray) for v in jax.tree.leaves(model_file.load(tmp_path / "m").params))
