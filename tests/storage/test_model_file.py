"""The model file gives back what was saved, and nothing that does not fit together."""

import json
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as of_hypothesis
from hypothesis import strategies as st
from jax import numpy as jnp
from safetensors.numpy import save_file

from jaxnn import (
    Activation,
    Chain,
    Dense,
    Embedding,
    HalfSquaredError,
    LayerNorm,
    MeanPool,
    Repeat,
    Residual,
    SoftmaxCrossEntropy,
)
from jaxnn.catalogue import names
from jaxnn.data.scale import Scale
from jaxnn.examples import LAYERS, LOSSES, draw_params
from jaxnn.factored import Factored
from jaxnn.storage import model_file, tree_file
from jaxnn.storage.rule_text import MOST_KINDS
from jaxnn.trained import Trained

VECTOR_LAYERS = {name: e for name, e in LAYERS.items() if e.inner == 1 and e.below is None}


def scale(n):
    return Scale(np.arange(float(n)), np.full(n, 0.1))


def trained_of(layer, loss, n, K, dtype="float32", seed=0):
    """A network of n inputs and K outputs with what it needs: targets for a loss of values, else classes."""
    params = draw_params(layer, np.random.default_rng(seed), dtype)
    outputs = tuple(f"y{k}" for k in range(2 if K == 1 and loss.takes == "probabilities" else K))
    values = loss.takes == "values"
    return Trained(
        network=layer,
        loss=loss,
        params=params,
        x_scale=scale(n),
        y_scale=scale(K) if values else None,
        features=tuple(f"x{j}" for j in range(n)),
        classes=() if values else outputs,
        targets=outputs if values else (),
    )


def check_same(loaded, saved):
    assert jax.tree.structure(loaded) == jax.tree.structure(saved)
    assert loaded[:2] + loaded[5:] == saved[:2] + saved[5:]
    for new, old in zip(jax.tree.leaves(loaded[2:5]), jax.tree.leaves(saved[2:5]), strict=True):
        assert new.dtype == old.dtype
        assert np.array_equal(new, old)


@st.composite
def networks(draw):
    """Of layers that fit each other: (network, n, K)."""
    widths = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    layers = []
    for n_in, n_out in pairwise(widths):
        dense = Dense(n_in, n_out, draw(st.sampled_from(names("initializers"))))
        block = draw(st.sampled_from([Dense(n_out, n_out), LayerNorm(n_out), Activation("gelu"), Chain(())]))
        layers += [dense, draw(st.sampled_from([block, Repeat(block, 2), Residual(block), Chain((block, block))]))]
    return Chain(tuple(layers)), widths[0], widths[-1]


@given(networks(), st.sampled_from(["float32", "bfloat16", "float64"]), st.booleans(), st.integers(0, 9))
def test_what_was_saved_is_loaded(tmp_path_factory, network, dtype, values, seed):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    with jax.enable_x64(True):
        saved = trained_of(network[0], (SoftmaxCrossEntropy, HalfSquaredError)[values](), *network[1:], dtype, seed)
        model_file.save(path, saved, {"epochs": 3, "hidden": (1, 2), "out": None})
        check_same(model_file.load(path), saved)
    assert model_file.settings(path) == {"epochs": 3, "hidden": [1, 2], "out": None}
    assert model_file.read(path).remark == ""
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("example", VECTOR_LAYERS.values(), ids=VECTOR_LAYERS)
def test_every_layer_can_be_saved_and_loaded(tmp_path, example):
    n = example.shape[-1]
    layer = Chain((Dense(n, n), example.layer))
    z = jax.eval_shape(layer.apply, draw_params(layer, np.random.default_rng(0), "float32"), jnp.zeros((1, n)))
    if not isinstance(z, Factored) and z.ndim > 2:  # a row of numbers, of which it makes a sequence
        layer, z = Chain((*layer.layers, MeanPool())), jax.ShapeDtypeStruct((1, z.shape[-1]), z.dtype)
    loss = SoftmaxCrossEntropy() if isinstance(z, Factored) else HalfSquaredError()
    saved = trained_of(layer, loss, n, jax.eval_shape(loss.predict, z).shape[-1])
    model_file.save(tmp_path / "m", saved, {})
    check_same(model_file.load(tmp_path / "m"), saved)


@pytest.mark.parametrize("example", LOSSES.values(), ids=LOSSES)
def test_every_loss_can_be_saved_and_loaded(tmp_path, example):
    K = example.shape[-1]
    saved = trained_of(Dense(3, K), example.loss, 3, K)
    model_file.save(tmp_path / "m", saved, {})
    check_same(model_file.load(tmp_path / "m"), saved)


def test_images_have_no_names_of_features(tmp_path):
    saved = net(features=())
    model_file.save(tmp_path / "m", saved, {})
    check_same(model_file.load(tmp_path / "m"), saved)


NET = Chain((Dense(3, 2),))


def net(**fields):
    return trained_of(NET, HalfSquaredError(), 3, 2)._replace(**fields)


@dataclass(frozen=True)
class Mine(Activation):
    """A layer of the user's own."""


@dataclass(frozen=True)
class MyLoss(HalfSquaredError):
    """A loss of the user's own."""


SAME_NAME = dataclass(frozen=True)(type("Activation", (Activation,), {"__annotations__": {}}))


FIRST = net().params[0]
NOT_SAVED = {
    "a layer": (net(network=Mine("tanh")), "Mine is no layer or loss of jaxnn"),
    "inside of others": (net(network=Chain((Repeat(Mine("tanh"), 2),))), "Mine is no layer or loss of jaxnn"),
    "a loss": (net(loss=MyLoss()), "MyLoss is no layer or loss of jaxnn"),
    "a name of ours": (
        net(network=Chain((Dense(3, 2), SAME_NAME("tanh"))), params=(FIRST, ())),
        "loaded as another one",
    ),
    "no parameters": (net(network=Chain(()), params=()), "its arrays are those of"),
    "other parameters": (
        net(params=(FIRST._replace(W=FIRST.W.T),)),
        r"params/0/W is float32 \(3, 2\), not float32 \(2, 3\)",
    ),
    "whole numbers as x": (
        net(network=Embedding(3, 2), params=Embedding(3, 2).init(jax.random.key(0))),
        "does not take 3 real numbers",
    ),
    "a NaN": (net(params=(FIRST._replace(b=jnp.array([1.0, jnp.nan])),)), "not finite"),
    "classes and targets": (net(classes=("a", "b")), "either classes or targets"),
    "names of other features": (net(features=("a",)), "1 features, and scales 3"),
}


@pytest.mark.parametrize(("trained", "words"), NOT_SAVED.values(), ids=NOT_SAVED)
def test_what_could_not_be_loaded_is_not_saved(tmp_path, trained, words):
    with pytest.raises(ValueError, match=words):
        model_file.save(tmp_path / "m", trained, {})
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("settings", [{"a": {"b": 1}}, {"a": [[1]]}, {"a": "x" * 10**5}], ids=["deep", "list", "long"])
def test_settings_are_flat_and_short(tmp_path, settings):
    with pytest.raises(ValueError, match=r"is not written.*setting"):
        model_file.save(tmp_path / "m", net(), settings)


def test_predictions_are_in_the_units_of_the_data():
    scaled = net(y_scale=Scale(np.array([10.0, 20.0]), np.array([2.0, 3.0])))
    x = np.random.default_rng(0).normal(size=(4, 3))
    W, b = map(np.asarray, scaled.params[0])
    np.testing.assert_allclose(scaled.predict(x), ((x - scale(3).shift) / 0.1 @ W.T + b) * [2, 3] + [10, 20], rtol=1e-5)


def test_a_model_is_readable_for_others(tmp_path):
    model_file.save(tmp_path / "m", net(), {})
    (tmp_path / "plain").touch()
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


GOOD = {  # of the format without a checksum, so that only the content can be wrong
    "params/0/W": np.ones((2, 3), "f4"),
    "params/0/b": np.ones(2, "f4"),
    "x_shift": np.ones(3),
    "x_unit": np.ones(3),
    "y_shift": np.ones(2),
    "y_unit": np.ones(2),
}
HEADER = {
    "format": "jaxnn model 1",
    "model": repr(NET),
    "loss": repr(HalfSquaredError()),
    "features": '["a", "b", "c"]',
    "classes": "[]",
    "targets": '["u", "v"]',
    "settings": "{}",
}
CLASSES = {"targets": "[]", "classes": '["u", "v"]', "loss": "SoftmaxCrossEntropy()"}
X_ALONE = {name: v for name, v in GOOD.items() if name[0] != "y"}


def test_the_good_files_that_the_bad_ones_differ_from(tmp_path):
    save_file(GOOD, tmp_path / "m", HEADER)
    assert model_file.load(tmp_path / "m").network == NET
    assert "has no checksum" in model_file.read(tmp_path / "m").remark
    save_file(X_ALONE, tmp_path / "m", {**HEADER, **CLASSES})
    assert model_file.load(tmp_path / "m").classes == ("u", "v")
    assert model_file.load(tmp_path / "m").y_scale is None


def with_arrays(**changed):
    """GOOD with other arrays, p_W for params/0/W; without those that are None."""
    arrays = GOOD | {name.replace("p_", "params/0/"): v for name, v in changed.items()}
    return {name: v for name, v in arrays.items() if v is not None}


def nested(layer, n):
    """A layer in n Repeats."""
    return Repeat(nested(layer, n - 1), 1) if n else layer


def with_text(**changed):
    """HEADER with other texts; without those that are None."""
    return {name: text for name, text in (HEADER | changed).items() if text is not None}


def ending_in(layer):
    """HEADER of NET with one layer more."""
    return with_text(model=f"Chain(layers=({NET.layers[0]}, {layer}))")


BAD = {  # name: (arrays, header)
    "no header": (GOOD, {}),
    "a format to come": (GOOD, with_text(format="jaxnn model 3")),
    "a format with a checksum, and none": (GOOD, with_text(format="jaxnn model 2")),
    "a checksum that is wrong": (GOOD, with_text(sha256="0" * 64)),
    "an unknown layer": (GOOD, with_text(model="Conv()")),
    "a penalty for a network": (GOOD, with_text(model="L2(lam=1.0)")),
    "a loss for a network": (GOOD, with_text(model="HalfSquaredError()")),
    "a number for a network": (GOOD, with_text(model="3")),
    "a number for a loss": (GOOD, with_text(loss="3")),
    "a network for a loss": (GOOD, with_text(loss=repr(NET))),
    "deep nesting": (GOOD, ending_in("Residual(layer=" * 2000 + "Activation(name='relu')" + ")" * 2000)),
    "less deep nesting": (GOOD, ending_in("Residual(layer=" * 180 + "Activation(name='relu')" + ")" * 180)),
    "nothing in a chain": (with_arrays(p_W=None, p_b=None), with_text(model="Chain(layers=())")),
    "a slope that is a text": (GOOD, ending_in("Activation(name='leaky_relu', slope='x')")),
    "a slope that is infinite": (GOOD, ending_in("Activation(name='leaky_relu', slope=1e999)")),
    "n_in that is a text": (GOOD, with_text(model="Chain(layers=(Dense(n_in='3', n_out=2),))")),
    "a chain of a number": (GOOD, with_text(model="Chain(layers=(3,))")),
    "10**12 layers": (GOOD, ending_in(f"Repeat(layer=Activation(name='relu'), n={10**12})")),
    "10**12 of the layers that are there": (GOOD, with_text(model=f"Repeat(layer={NET}, n={10**12})")),
    "10**12 inputs": (GOOD, with_text(model=f"Chain(layers=({Dense(10**12, 2)},))")),
    "a repr of 4 MB": (GOOD, with_text(model=f"Chain(layers=({'Dense(n_in=3, n_out=2), ' * 160_000}))")),
    "float16": (with_arrays(p_W=np.ones((2, 3), "f2"), p_b=np.ones(2, "f2")), HEADER),
    "whole numbers as weights": (with_arrays(p_W=np.ones((2, 3), int), p_b=np.ones(2, int)), HEADER),
    "weights of two dtypes": (with_arrays(p_W=np.ones((2, 3))), HEADER),
    "complex weights": (with_arrays(p_W=np.ones((2, 3), "c8"), p_b=np.ones(2, "c8")), HEADER),
    "a weight that is NaN": (with_arrays(p_b=np.array([1, np.nan], "f4")), HEADER),
    "a weight that is infinite": (with_arrays(p_b=np.array([1, np.inf], "f4")), HEADER),
    "no weights": (with_arrays(p_W=None), HEADER),
    "too many weights": (with_arrays(p_c=np.ones(2, "f4")), HEADER),
    "an array of no use": (with_arrays(z=np.ones(2, "f4")), HEADER),
    "an array whose name is no text": ({**GOOD, "\x1b[31m\n" * 200: np.ones(2, "f4")}, HEADER),
    "weights of another shape": (with_arrays(p_W=np.ones((3, 2), "f4")), HEADER),
    "weights of no entries": (with_arrays(p_W=np.ones((2, 0), "f4")), HEADER),
    "no x_unit": (with_arrays(x_unit=None), HEADER),
    "a scale that is a number": (with_arrays(x_shift=np.ones(()), x_unit=np.ones(())), HEADER),
    "a scale of whole numbers": (with_arrays(x_shift=np.ones(3, int)), HEADER),
    "a scale of one of three": (with_arrays(x_shift=np.ones(1), x_unit=np.ones(1)), HEADER),
    "shift and unit of two lengths": (with_arrays(x_unit=np.ones(1)), HEADER),
    "a unit of 0": (with_arrays(x_unit=np.array([1.0, 0.0, 1.0])), HEADER),
    "a unit below 0": (with_arrays(y_unit=np.array([1.0, -1.0])), HEADER),
    "an infinite unit": (with_arrays(x_unit=np.array([1.0, np.inf, 1.0])), HEADER),
    "a shift that is NaN": (with_arrays(y_shift=np.array([1.0, np.nan])), HEADER),
    "a scale of one of two targets": (with_arrays(y_shift=np.ones(1), y_unit=np.ones(1)), HEADER),
    "targets and no scale": (X_ALONE, HEADER),
    "classes and a scale of targets": (GOOD, with_text(**CLASSES)),
    "one class for two outputs": (X_ALONE, with_text(**CLASSES | {"classes": '["u"]'})),
    "three classes for two outputs": (X_ALONE, with_text(**CLASSES | {"classes": '["u", "v", "w"]'})),
    "two outputs for two classes of a binary loss": (X_ALONE, with_text(**CLASSES | {"loss": "SigmoidCrossEntropy()"})),
    "a loss of classes for targets": (GOOD, with_text(loss="SoftmaxCrossEntropy()")),
    "neither classes nor targets": (X_ALONE, with_text(targets="[]")),
    "classes and targets": (GOOD, with_text(classes='["u", "v"]')),
    "one target for two outputs": (with_arrays(y_shift=np.ones(1), y_unit=np.ones(1)), with_text(targets='["u"]')),
    "two features for three inputs": (GOOD, with_text(features='["a", "b"]')),
    "features that are no JSON": (GOOD, with_text(features="[")),
    "features that are a number": (GOOD, with_text(features="3")),
    "features that are a text": (GOOD, with_text(features='"abc"')),
    "features that are numbers": (GOOD, with_text(features="[1, 2, 3]")),
    "deep features": (GOOD, with_text(features="[" * 100_000)),
    "no classes": (GOOD, with_text(classes=None)),
    "no settings": (GOOD, with_text(settings=None)),
    "settings that are a list": (GOOD, with_text(settings="[]")),
    "settings that are no JSON": (GOOD, with_text(settings="{")),
    "settings in settings": (GOOD, with_text(settings='{"a": {"b": 1}}')),
    "deep settings": (GOOD, with_text(settings='{"a":' * 10_000)),
    "long settings": (GOOD, with_text(settings=json.dumps({"a": "x" * 10**6}))),
    "a number of 5000 digits": (GOOD, with_text(settings=f'{{"a": {"1" * 5000}}}')),
    "control characters": (GOOD, with_text(features='["\x1b[31m\n"')),
}


@pytest.mark.parametrize(("arrays", "header"), BAD.values(), ids=BAD)
def test_another_file_is_refused(tmp_path, arrays, header):
    save_file(arrays, tmp_path / "m", header)
    start = time.process_time()
    with pytest.raises(ValueError, match=r"give a folder|is damaged") as error:
        model_file.read(tmp_path / "m")
    assert time.process_time() - start < 2
    assert str(error.value).isprintable()
    assert str(tmp_path / "m") in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("network", [f"Dense(n_in={10**12}, n_out=2)", f"Repeat(layer={NET}, n=1001)"])
def test_sizes_are_held_against_the_arrays_before_anything_is_built(tmp_path, network):
    save_file(GOOD, tmp_path / "m", with_text(model=network))
    with pytest.raises(ValueError, match=r"is too large for the arrays"):
        model_file.read(tmp_path / "m")


DEEPEST_REPEATS = 16
LONG = {  # what they take is JAX's, layer by layer
    "equal layers": (Chain((Dense(3, 3), Activation("relu")) * 300), 3, 3),
    "deep ones": (
        Chain((Dense(3, 3), *[nested(Dense(3, 3), DEEPEST_REPEATS)] * (MOST_KINDS // DEEPEST_REPEATS // 2))),
        3,
        3,
    ),
}


@pytest.mark.parametrize(("network", "n", "K"), LONG.values(), ids=LONG)
def test_long_networks_take_bounded_time(tmp_path, network, n, K):
    model_file.save(tmp_path / "m", trained_of(network, HalfSquaredError(), n, K), {})
    start = time.process_time()
    assert model_file.load(tmp_path / "m").network == network
    assert time.process_time() - start < 5


@of_hypothesis(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(min_value=0), st.integers(0, 7))
def test_a_flipped_bit_is_noticed_or_changes_nothing(tmp_path, byte, bit):
    model_file.save(tmp_path / "m", net(), {})
    content = bytearray((tmp_path / "m").read_bytes())
    content[byte % len(content)] ^= 1 << bit
    (tmp_path / "m").write_bytes(content)
    with suppress(ValueError):
        check_same(model_file.load(tmp_path / "m"), net())
        assert byte % len(content) < 8 + int.from_bytes(content[:8], "little")


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


def test_a_checksum_makes_the_format_before_a_checked_one(tmp_path):
    tree_file.write(tmp_path / "m", GOOD, HEADER)
    assert model_file.read(tmp_path / "m").remark == ""


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"There is no .*a run/model"):
        model_file.load(tmp_path / "a run" / "model")


def test_parameters_are_jax_arrays(tmp_path):
    model_file.save(tmp_path / "m", net(), {})
    assert all(isinstance(v, jnp.ndarray) for v in jax.tree.leaves(model_file.load(tmp_path / "m").params))
