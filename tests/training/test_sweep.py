"""Many networks at once: each is the one that `fit` trains."""

import csv
import re
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest

import jaxnn
from jaxnn import L2, Activation, Chain, Dense, HalfSquaredError, SoftmaxCrossEntropy, cli, fit
from jaxnn.commands.sweep import Network, best_of
from jaxnn.storage.model_file import settings
from jaxnn.training import sweep as networks
from jaxnn.training.sweep import TOGETHER

rng = np.random.default_rng(0)
X, LABELS = rng.normal(size=(11, 3)), rng.integers(0, 3, 11)
NET = Chain((Dense(3, 4), Activation("tanh"), Dense(4, 3)))
KEYS = jax.random.split(jax.random.key(0), 3)
MANY_CALLS = {"progress": lambda epoch, cost: None}  # a few epochs, each in a call of its own


@pytest.fixture(autouse=True)
def as_users_have_it(standard_promotion):
    """optax's Adam mixes int and float."""


@pytest.mark.sample(lambda optimizer, settings, reason: reason == "patience")
@pytest.mark.parametrize(
    ("optimizer", "settings", "reason"),
    [
        (optax.sgd, {"batch_size": 4, **MANY_CALLS}, "epochs"),
        (
            optax.adam,
            {"validation": (X[:5], LABELS[:5]), "patience": 2, "batch_size": 4, "penalty": L2(0.1), **MANY_CALLS},
            "patience",
        ),
        (optax.sgd, {"weights": np.arange(1.0, 12), "target_cost": 1.2}, "target_cost"),
        (optax.sgd, {"tolerance": 0.1, "batch_size": 1}, "tolerance"),
    ],
    ids=["mini-batch", "patience", "weights", "tolerance"],
)
def test_each_network_is_what_fit_trains(x64, optimizer, settings, reason):
    """More networks than are computed together, and no multiple of these; a key used twice."""
    N = TOGETHER + 3
    keys, rates = KEYS[np.arange(N) % 3], np.geomspace(0.01, 0.5, N)
    loss = SoftmaxCrossEntropy()
    settings = {"epochs": 6, "dtype": "float64"} | settings
    runs = jaxnn.sweep(NET, loss, X, LABELS, keys=keys, learning_rates=rates, optimizer=optimizer, **settings)
    assert len(runs) == N
    for n in (0, 1, TOGETHER, N - 1):
        alone = fit(NET, loss, X, LABELS, key=keys[n], optimizer=optimizer, learning_rate=rates[n], **settings)
        assert runs[n].stopped == alone.stopped
        pairs = zip(
            *map(jax.tree.leaves, ((runs[n].params, runs[n].history), (alone.params, alone.history))), strict=True
        )
        for of_sweep, of_fit in pairs:
            np.testing.assert_allclose(of_sweep, of_fit, rtol=1e-10, atol=1e-13)
    assert reason in {run.stopped.reason for run in runs}


def test_the_data_are_not_copied_for_each_network(monkeypatch):
    lower, texts = networks.chunk_of_all.lower, []

    class Seen:
        """The compiled function; its text is kept."""

        __call__ = staticmethod(networks.chunk_of_all)

        def lower(self, *args):
            texts.append(lower(*args).as_text())
            return lower(*args)

    monkeypatch.setattr(networks, "chunk_of_all", Seen())
    rates = np.ones(TOGETHER)
    jaxnn.sweep(NET, SoftmaxCrossEntropy(), X, LABELS, keys=KEYS[0], learning_rates=rates, epochs=2, batch_size=4)
    assert f"tensor<{TOGETHER}x4x3xf32>" in texts[0]  # a batch of each
    assert f"tensor<{TOGETHER}x11x3xf32>" not in texts[0]


def test_one_key_or_one_rate_for_all():
    y = X[:, :1]
    net = Chain((Dense(3, 1),))
    same = jaxnn.sweep(
        net, HalfSquaredError(), X, y, keys=KEYS[0], learning_rates=[0.1, 0.1, 0.2], epochs=2, batch_size=2
    )
    W = [run.params[0].W for run in same]
    np.testing.assert_array_equal(W[0], W[1])
    assert (W[0] != W[2]).any()
    others = jaxnn.sweep(net, HalfSquaredError(), X, y, keys=KEYS, learning_rates=0.1, epochs=2)
    assert len({run.params[0].W.tobytes() for run in others}) == 3


def test_a_network_that_is_not_finite_leaves_the_others_alone():
    settings = {"keys": KEYS[0], "epochs": 5, "batch_size": 4}
    runs = jaxnn.sweep(NET, SoftmaxCrossEntropy(), X, LABELS, learning_rates=[0.1, 1e38, 0.2], **settings)
    alone = jaxnn.sweep(NET, SoftmaxCrossEntropy(), X, LABELS, learning_rates=[0.1, 0.2], **settings)
    assert [run.stopped.reason for run in runs] == ["epochs", "not_finite", "epochs"]
    message = "a cost or a parameter was not finite. Try a smaller learning rate."
    assert runs[1].stopped.message == f"In epoch {runs[1].stopped.epoch + 1}, {message}"
    by_fit = fit(NET, SoftmaxCrossEntropy(), X, LABELS, key=KEYS[0], optimizer=optax.sgd(1e38), epochs=5, batch_size=4)
    assert len(runs[1].history.cost) == runs[1].stopped.epoch == by_fit.stopped.epoch < 5
    np.testing.assert_allclose(runs[2].params[0].W, alone[1].params[0].W, rtol=1e-6)


def test_with_patience_a_network_that_is_not_finite_keeps_its_best_parameters():
    """Learning rates that grow by 10⁹ an epoch: the first epochs are good."""

    def grows(rate):
        return optax.sgd(optax.schedules.exponential_decay(rate, 3, 1e9))

    settings = {"epochs": 30, "batch_size": 4, "validation": (X, LABELS), "patience": 9}
    (one,) = jaxnn.sweep(
        NET, SoftmaxCrossEntropy(), X, LABELS, keys=KEYS[0], learning_rates=0.1, optimizer=grows, **settings
    )
    alone = fit(NET, SoftmaxCrossEntropy(), X, LABELS, key=KEYS[0], optimizer=grows(0.1), **settings)
    assert one.stopped.reason == alone.stopped.reason == "not_finite"
    assert len(one.history.cost) == len(alone.history.cost) == one.stopped.epoch == alone.stopped.epoch
    for of_sweep, of_fit in zip(*map(jax.tree.leaves, (one.params, alone.params)), strict=True):
        assert np.isfinite(of_sweep).all()
        np.testing.assert_allclose(of_sweep, of_fit, rtol=1e-5)


def test_progress_is_told_and_a_sweep_that_is_done_stops():
    seen: list = []
    jaxnn.sweep(
        NET, SoftmaxCrossEntropy(), X, LABELS, keys=KEYS, learning_rates=0.1, epochs=1000, target_cost=1e9,
        progress=lambda epoch, cost: seen.append((epoch, cost)),
    )  # fmt: skip
    assert len(seen) == 1
    assert 0 < seen[0][1] < 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learning_rates": [0.1, 0.2]}, "3 keys and 2 learning rates: give as many of both, or one for all"),
        ({"learning_rates": 0.1, "epochs": 0}, "epochs is 0"),
        ({"learning_rates": 0.1, "patience": 1}, "patience watches the validation cost"),
        ({"learning_rates": 0.1, "weights": np.zeros(11)}, "not all 0"),
    ],
)
def test_bad_settings_are_one_sentence(settings, words):
    settings = {"keys": KEYS, "epochs": 1} | settings
    with pytest.raises(ValueError, match=words):
        jaxnn.sweep(NET, SoftmaxCrossEntropy(), X, LABELS, **settings)


@pytest.mark.parametrize("keys", [jax.random.PRNGKey(0), [*KEYS]], ids=["not typed", "a list"])
def test_keys_are_an_array_of_typed_ones(keys):
    with pytest.raises(TypeError, match="give an array of typed keys"):
        jaxnn.sweep(NET, SoftmaxCrossEntropy(), X, LABELS, keys=keys, learning_rates=0.1, epochs=1)


def test_a_batch_larger_than_the_data_is_the_data_and_says_so():
    with pytest.warns(UserWarning, match="batch_size 64 is more than the 11 rows") as said:
        runs = jaxnn.sweep(
            NET, SoftmaxCrossEntropy(), X, LABELS, keys=KEYS, learning_rates=0.1, epochs=2, batch_size=64
        )
    assert [len(run.history.iteration_cost) for run in runs] == [2] * len(KEYS)
    assert said[0].filename == __file__


def test_the_best_network_is_of_the_best_setting():
    """Not the luckiest of all."""

    def network(width, seed, costs):
        history = SimpleNamespace(validation_cost=np.array(costs), validation_metric=np.array(costs))
        return Network(width, 0.1, seed, SimpleNamespace(history=history))

    lucky = [network(2, 0, [0.1, 0.2]), network(2, 1, [3.0, np.nan])]
    steady = [network(5, 0, [2.0, 1.0]), network(5, 1, [0.9, 1.5])]
    best = best_of([*lucky, *steady, network(9, 0, [np.nan, np.nan])])
    assert (best.width, best.seed, best.epoch, best.cost) == (5, 1, 1, 0.9)
    one_of_two = [network(2, 0, [np.nan]), network(2, 1, [5.0]), network(9, 0, [0.3]), network(9, 1, [np.nan])]
    assert (best_of(one_of_two).width, best_of(one_of_two).cost) == (9, 0.3)


def test_the_command(tmp_path, monkeypatch, capsys):
    """All networks in results.csv, the best of the best setting kept as a run of `jaxnn train`."""
    monkeypatch.chdir(tmp_path)
    rows = [",".join(map(str, [*x, "hot" if x[0] > 0 else "cold"])) for x in rng.normal(size=(60, 2))]
    Path("table.csv").write_text("\n".join(["a,b,kind", *rows]) + "\n")
    flags = [
        "sweep",
        "table.csv",
        "--widths",
        "2",
        "5",
        "--learning-rates",
        "0.01",
        "0.1",
        "--seeds",
        "3",
        "--no-cache",
    ]
    assert cli.main([*flags, "--epochs", "4"]) == 0
    said = capsys.readouterr().out
    with open("runs/table-sweep/results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert {(row["width"], row["learning_rate"], row["seed"]) for row in rows} == {
        (w, rate, seed) for w in "25" for rate in ("0.01", "0.1") for seed in "012"
    }
    mean = {}
    for row in rows:
        mean.setdefault((row["width"], row["learning_rate"]), []).append(float(row["validation_cost"]))
    best = min(mean, key=lambda setting: np.mean(mean[setting]))
    units, rate, seed, epoch = re.search(
        r"Best of the lowest mean: (\d) units, learning rate (\S+), seed (\d), as it was after epoch (\d)", said
    ).groups()
    assert (units, rate) == best
    costs = {row["seed"]: row for row in rows if (row["width"], row["learning_rate"]) == best}
    assert float(costs[seed]["validation_cost"]) == min(map(float, mean[best]))
    with open("runs/table-sweep/history.csv", newline="") as file:
        history = [float(row["validation_cost"]) for row in csv.DictReader(file)]
    assert history[int(epoch) - 1] == pytest.approx(min(map(float, mean[best])))
    assert settings(Path("runs/table-sweep/model.safetensors"))["seed"] == 0  # of the split, whatever the best one's is
    assert cli.main(["explain", "runs/table-sweep"]) == 0
    for wrong, says in (
        (["--learning-rates", "-1"], "--learning-rates are -1.0: give positive numbers"),
        (["--widths", "8", "0"], "--widths are 8 0: a layer needs one unit at least"),
        (["--seeds", "0"], "--seeds is 0: it must be 1 to 10000"),
        (["--optimizer", "nothing"], "optax has no optimiser 'nothing'"),
    ):
        assert cli.main(["sweep", "table.csv", *wrong]) == 2
        assert says in capsys.readouterr().err
    assert cli.main([*flags, "--widths", "2", "--learning-rates", "1e38", "--epochs", "2", "--batch-size", "100"]) == 2
    said = capsys.readouterr()
    assert "--batch-size 100 is more than the rows to train on" in said.out
    assert "No network has a finite validation cost" in said.err
