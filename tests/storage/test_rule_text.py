"""Text builds layers and losses of jaxnn, and nothing else, in bounded time."""

import time
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnn import Activation, Chain, Dense, Huber, Repeat
from jaxnn.catalogue import names
from jaxnn.data.labels import readable
from jaxnn.examples import LAYERS, LOSSES
from jaxnn.protocols import Layer, Loss
from jaxnn.storage.rule_text import LONGEST, MOST_PASSES, fits, parse

activations = st.sampled_from(names("activations")).map(Activation) | st.floats(-2, 2).map(
    lambda slope: Activation("leaky_relu", slope)
)
denses = st.builds(Dense, st.integers(1, 4), st.integers(1, 4), st.sampled_from(names("initializers")))
layers = st.recursive(
    denses | activations,
    lambda layer: st.lists(layer, max_size=3).map(tuple).map(Chain) | st.builds(Repeat, layer, st.integers(1, 3)),
)


@given(layers)
def test_parse_is_the_inverse_of_repr(layer):
    assert parse(repr(layer), Layer) == layer


@pytest.mark.parametrize("layer", [example.layer for example in LAYERS.values()], ids=LAYERS)
def test_every_layer_is_read(layer):
    assert parse(repr(layer), Layer) == layer


@pytest.mark.parametrize("loss", [example.loss for example in LOSSES.values()], ids=LOSSES)
def test_every_loss_is_read(loss):
    assert parse(repr(loss), Loss) == loss


def test_a_loss_has_numbers_of_any_size_and_whole_ones_for_real_ones():
    assert parse(repr(Huber(5000)), Loss) == Huber(5000)
    assert parse(repr(Huber(1e300)), Loss) == Huber(1e300)


def test_a_long_network_is_read():
    long = Chain((Dense(7, 7), Activation("relu")) * 500)
    assert parse(repr(long), Layer) == long


NOT_BUILT = [
    "__import__('os').system('x')",
    "open('x', 'w')",
    "eval('1')",
    "Dense.__init__(Dense(n_in=1, n_out=1))",
    "Dense(1, 2)",
    "Dense(n_in=1, n_out=2, initializer=open('x', 'w'))",
    "Dense(**{'n_in': 1, 'n_out': 2})",
    "Conv(n_in=1)",
    "L2(lam=1.0)",
    "value_and_grad(model=1, loss=2)",
    "[Dense(n_in=1, n_out=1) for x in (1,)]",
    "Dense",
    "Dense(n_in=1, n_out=2",
    "Dense(n_in=1, n_out=2))",
    "Dense(n_in=1 n_out=2)",
    "Dense(n_in=1, n_out=\x00)",
    "Dense(n_in=1, n_out=²)",
    "",
    "3",
    "(Dense(n_in=1, n_out=1),)",
    "HalfSquaredError()",
    "Dense(n_in=0, n_out=2)",
    "Dense(n_in=1)",
    "Dense(n_in=1, n_in=1, n_out=2)",
    "Dense(n_in=1, n_out=2, n=3)",
    "Dense(n_in=True, n_out=2)",
    "Dense(n_in=1.0, n_out=2)",
    "Dense(n_in=None, n_out=2)",
    "Dense(n_in=1, n_out=2, initializer=())",
    "Dense(n_in=1, n_out=2, initializer='mine')",
    "Activation(name='leaky_relu', slope='x')",
    "Activation(name='leaky_relu', slope=1e999)",
    "Activation(name='leaky_relu', slope=nan)",
    "Activation(name='relu', slope=0.1)",
    "Activation(name=3)",
    "Chain(layers=3)",
    "Chain(layers=(3,))",
    "Chain(layers=(HalfSquaredError(),))",
    "Chain(layers=Dense(n_in=1, n_out=2))",
    "Residual(layer=None)",
    "Residual(layer=Huber(delta=1.0))",
    "LayerNorm(n=2, epsilon='x')",
    "Repeat(layer=Dense(n_in=1, n_out=1), n=2, recompute=1)",
    f"Dense(n_in={'9' * 10_000}, n_out=2)",
]
FLOODS = {
    "minuses": "-" * 100_000 + "1",
    "deep tuples": "(" * 100_000,
    "deep layers": "Residual(layer=" * 10_000 + "Dense(n_in=1, n_out=1)" + ")" * 10_000,
    "many values": f"Chain(layers=({'1,' * 90_000}))",
    "many layers": f"Chain(layers=({'Dense(n_in=1, n_out=1),' * 8_000}))",
    "many different layers": f"Chain(layers=({''.join(f'Dense(n_in=1, n_out={n}),' for n in range(1, 500))}))",
    "many repeats": f"Chain(layers=({'Repeat(layer=Dense(n_in=1, n_out=1), n=2),' * 400}))",
    "4 MB": f"Chain(layers=({'Dense(n_in=1, n_out=1),' * 180_000}))",
    "a long word": f"Activation(name='{'x' * 100_000}')",
    "a longer word": f"Activation(name='{'x' * 1_000_000}')",
    "many digits of a real number": f"Activation(name='leaky_relu', slope={'9' * 100_000}.5)",
    "repeated 10**12 times": "Repeat(layer=Dense(n_in=1, n_out=1), n=1000000000000)",
    "repeated 10**3 times, 5 times over": "Repeat(n=1000, layer=" * 5 + "Activation(name='relu')" + ")" * 5,
}


@pytest.mark.parametrize("text", [*NOT_BUILT, *FLOODS.values()], ids=[*NOT_BUILT[:-1], "many digits", *FLOODS])
def test_nothing_else_is_built(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = time.process_time()
    with pytest.raises(ValueError, match="cannot build") as error:
        parse(text, Layer)
    assert time.process_time() - start < 1
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 600
    assert not list(tmp_path.iterdir())


def test_a_text_has_a_longest_length():
    short = "Dense(n_in=1, n_out=1)"
    assert parse(short.rjust(LONGEST), Layer) == Dense(1, 1)
    with pytest.raises(ValueError, match="it has 200001 characters"):
        parse(short.rjust(LONGEST + 1), Layer)


def test_a_layer_is_no_loss():
    with pytest.raises(ValueError, match="that is no loss"):
        parse("Dense(n_in=1, n_out=1)", Loss)


def test_whole_numbers_have_a_limit_that_is_given():
    assert parse("Dense(n_in=5, n_out=1)", Layer, largest=5) == Dense(5, 1)
    with pytest.raises(ValueError, match="6 is too large"):
        parse("Dense(n_in=6, n_out=1)", Layer, largest=5)


def test_how_many_layers_run_has_a_limit():
    text = "Repeat(layer=Chain(layers=(Activation(name='relu'), Activation(name='tanh'))), n={})"
    assert parse(text.format(MOST_PASSES // 2), Layer).n == MOST_PASSES // 2
    with pytest.raises(ValueError, match="layers would run"):
        parse(text.format(MOST_PASSES // 2 + 1), Layer)


FITTING = [
    (3, int), (3, float), (0.5, float), ("x", str), (True, bool), (None, float | None), (0.5, float | None),
    ("a", Literal["a", "b"]), (None, Literal["a"] | None), ((), tuple[int, ...]), ((1, 2), tuple[int, ...]),
    ((1, "x"), tuple[int, str]), ((Dense(1, 1),), tuple[Layer, ...]),
    (Dense(1, 1), Layer), (Huber(), Loss), (Activation("relu"), Activation),
]  # fmt: skip
NOT_FITTING = [
    (True, int), (0.5, int), ("3", int), (True, float), (float("nan"), float), (float("inf"), float),
    (10**400, float), (3, str), (1, bool), ("x", float | None), ("c", Literal["a", "b"]), (True, Literal[1]),
    ([1], tuple[int, ...]), (3, tuple[int, ...]), ((1, 0.5), tuple[int, ...]), ((1,), tuple[int, str]),
    (Huber(), Layer), (Dense(1, 1), Loss), (Dense, Layer), (Dense(1, 1), Activation),
]  # fmt: skip


@pytest.mark.parametrize(("v", "declared"), FITTING)
def test_what_fits_a_declared_type(v, declared):
    assert fits(v, declared)


@pytest.mark.parametrize(("v", "declared"), NOT_FITTING)
def test_what_does_not_fit_a_declared_type(v, declared):
    assert not fits(v, declared)


def test_what_a_file_says_is_one_line_of_a_screen():
    assert readable("a\x1b[31m\nσ\u202e") == r"a\x1b[31m\nσ\u202e"
    assert readable("x" * 300) == "x" * 199 + "…"
