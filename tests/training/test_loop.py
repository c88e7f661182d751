"""The loop that hands out its state: wherever its chunks end, a run is the same to the bit; and it can be continued."""

import subprocess
import sys
from dataclasses import dataclass, replace

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxnn import Activation, Chain, Dense, HalfSquaredError, fit, prepare
from jaxnn.training import loop
from jaxnn.training import prepare as preparation
from jaxnn.training.epoch import chunk_of
from jaxnn.training.feed import Feed, Position, rows_from
from jaxnn.training.fit import followed

KEY = jax.random.key(0)
NET = Chain((Dense(3, 5), Activation("tanh"), Dense(5, 2)))
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(23, 3)).astype(np.float32), RNG.normal(size=(23, 2)).astype(np.float32)
ADAM = optax.adam(0.01)


def equal(a, b):
    """Whether all numbers of two trees are, to the bit; and all words."""
    return jax.tree.all(jax.tree.map(same, a, b))


def same(a, b):
    return a == b if isinstance(a, str) else np.array_equal(a, b, equal_nan=True)


def with_chunks_of(monkeypatch, n):
    """Chunks of n iterations, however long they take."""
    monkeypatch.setattr(loop, "pace_after", lambda *_: n)
    monkeypatch.setattr(loop, "first_pace", lambda *_: n)


SETTINGS = {
    "batches": {"batch_size": 4},
    "no short batch": {"batch_size": 4, "x": X[:20], "y": Y[:20]},
    "whole": {},
    "weights": {"batch_size": 5, "weights": np.arange(23.0)},
    "patience": {"batch_size": 6, "validation": (X[:9], Y[:9]), "patience": 2, "learning_rate": 0.3},
    "tolerance": {"batch_size": 6, "tolerance": 0.05},
    "not finite": {"batch_size": 4, "learning_rate": 1e3},
}


@dataclass(frozen=True)
class Noise:
    """out = x ⊙ mask with a mask drawn from the key: what dropout does."""

    def init(self, key, dtype=np.float32):
        return ()

    def forward(self, params, x, key=None):
        mask = jax.random.bernoulli(key, 0.5, x.shape).astype(x.dtype)
        return x * mask, mask

    def backward(self, mask, dout):
        return (), dout * mask

    def apply(self, params, x):
        return x


def test_draws_are_the_same_wherever_chunks_end(monkeypatch):
    net, settings = Chain((Noise(), Dense(3, 2))), {"key": KEY, "epochs": 3, "batch_size": 4}
    whole = fit(net, HalfSquaredError(), X, Y, **settings)
    with_chunks_of(monkeypatch, 4)
    assert equal(fit(net, HalfSquaredError(), X, Y, **settings), whole)


@pytest.mark.sample(lambda name: [*SETTINGS].index(name) // 3)
@pytest.mark.parametrize("name", SETTINGS)
def test_bits_and_history_are_the_same_wherever_chunks_end(monkeypatch, name):
    settings = {"x": X, "y": Y, "key": KEY, "epochs": 9, "learning_rate": 0.1} | SETTINGS[name]
    whole = fit(NET, HalfSquaredError(), **settings)
    seen: list = []
    for n in (1, 7):
        with_chunks_of(monkeypatch, n)
        watched = {"progress": lambda *told: seen.append(told)} if n == 1 else {"on_epoch": lambda *_: None}
        assert equal(fit(NET, HalfSquaredError(), **settings, **watched)[:2], whole[:2])
    assert len(whole.history.cost) == whole.stopped.epoch
    assert len(seen) > whole.stopped.epoch or name == "whole"  # told within epochs too


def test_five_epochs_and_five_more_are_ten(monkeypatch, standard_promotion):
    """From any state of Adam's run, in the middle of an epoch too, with what was written down until then."""
    with_chunks_of(monkeypatch, 4)
    chunk_of.clear_cache()
    training = prepare(NET, HalfSquaredError(), X, Y, key=KEY, epochs=10, batch_size=4, optimizer=ADAM)
    states = list(training.states(training.start()))
    assert chunk_of._cache_size() == 1
    assert {int(state.iteration) for state, _ in states} == {0, 2, 4}
    run = training.fit(states[-1][0], [part for _, part in states])
    assert equal(run, fit(NET, HalfSquaredError(), X, Y, key=KEY, epochs=10, batch_size=4, optimizer=ADAM))
    for i in (3, 7):
        saved = jax.tree.map(np.array, states[i][0])  # as a file has it
        again = list(training.states(saved))
        assert equal(again[-1][0], states[-1][0])
        parts = [part for _, part in states[: i + 1] + again]
        assert equal(training.fit(again[-1][0], parts), run)


def test_a_shorter_run_goes_on_in_a_longer_one(standard_promotion):
    def trained(epochs, state=None):
        training = prepare(NET, HalfSquaredError(), X, Y, key=KEY, epochs=epochs, batch_size=4, optimizer=ADAM)
        *_, (last, _) = training.states(training.start() if state is None else state)
        return last

    assert equal(trained(10, trained(5)), trained(10))


def test_a_run_that_has_ended_has_no_more_states():
    training = prepare(NET, HalfSquaredError(), X, Y, key=KEY, epochs=3, target_cost=1e9)
    *_, (last, _) = training.states(training.start())
    assert int(last.epoch) == 1
    assert not list(training.states(last))
    shorter = prepare(NET, HalfSquaredError(), X, Y, key=KEY, epochs=1)
    assert not list(shorter.states(last._replace(reason=jnp.array(0))))


def test_a_stopped_run_says_in_which_iteration(monkeypatch):
    with_chunks_of(monkeypatch, 4)

    def interrupt(epoch, cost):
        if epoch > 1.5:
            raise KeyboardInterrupt

    run = fit(NET, HalfSquaredError(), X, Y, key=KEY, epochs=9, batch_size=4, progress=interrupt)
    assert run.stopped.message == "Interrupted in epoch 2, after 4 of its iterations; kept what was learned until then."
    assert (len(run.history.cost), len(run.history.iteration_cost)) == (1, 10)


def test_a_chunk_lasts_about_half_a_second():
    paces = [loop.pace_after(100, seconds, 10_000) for seconds in (1e-3, 0.25, 0.5, 5.0)]
    assert paces == [1000, 200, 100, 10]  # ten times as many at most
    assert loop.pace_after(5000, 1e-3, 10_000) == 10_000
    assert loop.pace_after(1, 60.0, 10_000) == 1


def test_what_an_iteration_is_given():
    order = {2: [4, 3, 2, 1, 0], 3: [0, 1, 2, 3, 4]}.__getitem__
    rows = rows_from(order, Position(2, 1), 4, m=5, batch_size=2)
    np.testing.assert_array_equal(rows, [[2, 1], [0, 0], [0, 1], [2, 3]])


@pytest.mark.sample(lambda weights, dtype: weights is None)
@pytest.mark.parametrize("weights", [None, np.arange(1.0, 24.0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_streamed_rows_are_those_that_lie_on_the_device(monkeypatch, weights, dtype):
    settings = {"key": KEY, "epochs": 3, "batch_size": 4, "weights": weights}
    stays = fit(NET, HalfSquaredError(), X.astype(dtype), Y, **settings)
    monkeypatch.setattr(preparation, "LARGE", 0)
    monkeypatch.setattr(preparation, "SHARE", 1)  # so that the chunks end within epochs
    training = prepare(NET, HalfSquaredError(), X.astype(dtype), Y, **settings)
    assert (training.run.feed, training.data) == (Feed.STREAMED, None)
    assert training.run.chunk == 5
    streamed = fit(NET, HalfSquaredError(), X.astype(dtype), Y, **settings)
    np.testing.assert_allclose(streamed.history.cost, stays.history.cost, rtol=1e-6)
    for ours, theirs in zip(jax.tree.leaves(streamed.params), jax.tree.leaves(stays.params), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def momentum(learning_rate):
    return optax.sgd(learning_rate, momentum=0.9)


def decaying(learning_rate):
    return optax.adam(optax.cosine_decay_schedule(learning_rate, 20))


FACTORIES = [optax.sgd, momentum, optax.adam, optax.adamw, optax.rmsprop, optax.lion, decaying]


@pytest.mark.sample(lambda factory: factory is decaying)
@pytest.mark.parametrize("factory", FACTORIES, ids=lambda factory: factory.__name__)
def test_five_learning_rates_are_one_compilation(standard_promotion, factory):
    """And the bits are those of the optimiser with that rate."""
    settings = {"key": KEY, "epochs": 3, "batch_size": 4}
    chunk_of.clear_cache()
    rates = (0.1, 0.03, 0.01, 3e-3, 1e-3)
    runs = [fit(NET, HalfSquaredError(), X, Y, optimizer=factory, learning_rate=rate, **settings) for rate in rates]
    assert chunk_of._cache_size() == 1
    assert equal(runs[1], fit(NET, HalfSquaredError(), X, Y, optimizer=factory(rates[1]), **settings))
    assert len({float(run.history.cost[-1]) for run in runs}) == 5


def test_a_schedule_is_one_compilation_an_object(standard_promotion):
    schedule = optax.cosine_decay_schedule(0.1, 20)
    settings = {"key": KEY, "epochs": 2, "optimizer": optax.adam}
    chunk_of.clear_cache()
    runs = [fit(NET, HalfSquaredError(), X, Y, learning_rate=schedule, **settings) for _ in range(2)]
    assert chunk_of._cache_size() == 1
    assert equal(*runs)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"optimizer": ADAM, "learning_rate": 0.1}, ValueError, "give optax.adam, not optax.adam"),
        ({"optimizer": optax.adam}, ValueError, "adam needs a learning rate"),
        ({"optimizer": "adam", "learning_rate": 0.1}, TypeError, "optimizer is 'adam': give one of optax"),
        ({"learning_rate": np.nan}, ValueError, "learning_rate is nan: it must be a finite number"),
    ],
)
def test_an_optimiser_that_cannot_be_is_one_sentence(settings, error, words):
    with pytest.raises(error, match=words):
        fit(NET, HalfSquaredError(), X, Y, key=KEY, epochs=1, **settings)


class Transposed(Dense):
    """A layer whose ∂J/∂W has the shape of Wᵀ."""

    def backward(self, residuals, dout):
        dparams, dx = super().backward(residuals, dout)
        return dparams._replace(W=dparams.W.T), dx


def test_a_gradient_of_another_shape_is_one_sentence():
    net = Chain((Transposed(3, 5), Activation("tanh"), Dense(5, 2)))
    words = r"backward pass of layer 0, .*, gives ∂J/∂W of shape \(3, 5\): it must have that of W, \(5, 3\)"
    with pytest.raises(ValueError, match=words):
        fit(net, HalfSquaredError(), X, Y, key=KEY, epochs=1)


INTERRUPTED = """
import os, signal, threading, time
import jax, numpy as np
from jaxnn import Activation, Chain, Dense, HalfSquaredError, Repeat, fit
from jaxnn.training import loop

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background has not
aside = loop.compile_aside
def late(call):
    class Lowered:
        def compile(self):
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            time.sleep(30)  # as XLA, which hears nothing
    class Compiled:
        __call__ = print
        def lower(self, *args):
            return Lowered()
    aside(loop.partial(Compiled()))
loop.compile_aside = late
x = np.ones((4, 3), np.float32)
start = time.monotonic()
run = fit(Dense(3, 3), HalfSquaredError(), x, x, key=jax.random.key(0), epochs=3)
print(run.stopped.message, time.monotonic() - start < 20)
os._exit(0)
"""


def test_ctrl_c_is_heard_while_a_run_is_compiled():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=100)
    assert done.stdout == "Interrupted after epoch 0; kept what was learned until then. True\n", done.stderr


@dataclass(frozen=True)
class Counted:
    """out = x; counts how often that is computed for a prediction."""

    def init(self, key, dtype=np.float32):
        return ()

    def forward(self, params, x, key=None):
        return x, ()

    def backward(self, residuals, dout):
        return (), dout

    def apply(self, params, x):
        def counted(x):
            PREDICTIONS.append(x.shape)
            return x

        return jax.pure_callback(counted, x, x)


PREDICTIONS = []


def test_the_validation_cost_is_computed_at_the_end_of_an_epoch_alone(monkeypatch):
    """It depends on params alone, which no loop over an epoch's end changes: XLA computed it before that loop."""
    with_chunks_of(monkeypatch, 2)
    net = Chain((Dense(3, 2), Counted()))
    training = prepare(net, HalfSquaredError(), X, Y, key=KEY, epochs=2, batch_size=4, validation=(X[:9], Y[:9]))
    PREDICTIONS.clear()
    ended = sum(len(part.cost) for _, part in training.states(training.start()))
    jax.effects_barrier()
    assert len(PREDICTIONS) == ended == 2


def test_a_run_ends_after_its_steps_in_the_middle_of_an_epoch(monkeypatch, tmp_path):
    with_chunks_of(monkeypatch, 4)
    training = prepare(NET, HalfSquaredError(), X, Y, key=KEY, epochs=3, batch_size=4)
    states = [state for state, _ in training.states(training.start())]
    shorter = replace(training, steps=8)
    *_, (last, _) = shorter.states(shorter.start())
    assert last.position == Position(1, 2)
    assert equal(last, states[1])
    for _ in range(2):  # the second time it is done
        run = followed(shorter, lambda *_: None, every=1, checkpoint=tmp_path)
        assert run.stopped.message == "Done: 1 epoch and 2 iterations."
        assert equal(run.params, last.params)
    for steps in (None, 9):
        with pytest.raises(ValueError, match="epochs was 3, 8 iterations at most and is 3"):
            followed(replace(training, steps=steps), lambda *_: None, every=1, checkpoint=tmp_path)
