"""A language model, trained on a text and asked to go on with one, as a user does both."""

import csv
import os
import re
import signal
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxnn import cli
from jaxnn.commands import spelling, text_experiment, train_text
from jaxnn.commands.config import Sample, TrainText, class_of
from jaxnn.data.tokens import Vocabulary, contexts
from jaxnn.losses.softmax_cross_entropy import SoftmaxCrossEntropy
from jaxnn.models.gpt import gpt
from jaxnn.models.llama import llama
from jaxnn.storage import language_file, run_folder, run_record
from jaxnn.storage.language_file import LanguageModel

SMALL = ("--context", 8, "--width", 16, "--layers", 1, "--heads", 2, "--batch-size", 4)
LEARNED = ("model.safetensors", "history.csv", "iterations.csv")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, standard_promotion):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setattr(run_folder, "write_figure", lambda *_: None)  # a picture takes longer than its run
    Path("digits.txt").write_text("0123456" * 90)  # contexts begin with each of them


def jaxnn(*args):
    return cli.main([*map(str, args)])


def refused(capsys, *args):
    """The one sentence that a command given bad input says; it writes nothing."""
    capsys.readouterr()
    before = {*Path().rglob("*")}
    assert jaxnn(*args) == 2
    err = capsys.readouterr().err
    assert {*Path().rglob("*")} == before
    assert err.startswith("jaxnn: ")
    assert err.count("\n") == 1
    return err


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.sample
@pytest.mark.parametrize("model", ["gpt", "llama"])
def test_what_was_learned_goes_on_past_the_context(capsys, monkeypatch, model):
    monkeypatch.setattr(train_text, "SAMPLE_EVERY", 0.0)
    monkeypatch.setattr(train_text, "SAMPLE", 8)
    steps = 17 * 5 + 3  # 17 batches an epoch
    assert jaxnn("train", "digits.txt", "--model", model, *SMALL, "--steps", steps, "--learning-rate", 0.02) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "digits: 630 characters, 7 different (544 to train on, 56 for validation)" in out
    assert "2 of 70 contexts are left out: each batch has 4." in out
    assert re.search(r"Gradient by hand against jax.grad on a batch, float32: the same to [5-9]\.\d digits", out)
    assert re.search(r"epoch 5: cost [\d.]+, validation cost [\d.]+ [\d,]+ tokens/s", out)
    assert "a sample:\n0" in out  # no line end is known, so it begins with the first character
    assert "Done: 5 epochs and 3 iterations." in out
    folder = Path("runs", f"digits-{model}")
    assert {path.name for path in folder.iterdir()} == {*LEARNED, run_record.RECORD}
    assert len(rows(folder / "iterations.csv")) == steps
    assert [row["epoch"] for row in rows(folder / "history.csv")] == ["1", "2", "3", "4", "5"]
    assert float(rows(folder / "history.csv")[4]["validation_accuracy"]) > 0.9
    learned = language_file.load(folder / run_record.MODEL)
    x, y = contexts(learned.vocabulary.tokens("0123456" * 9), 8)
    J, _ = SoftmaxCrossEntropy().forward(learned.network.apply(learned.params, x), y)
    assert f"Validation: a cost of {J:.4f} a character" in out
    for n in (1, 30):
        assert jaxnn("sample", folder, "--prompt", "34", "--tokens", n, "--temperature", 0) == 0
        assert capsys.readouterr().out == ("34" + "5601234" * 5)[: n + 2] + "\n"


def test_all_flags_and_a_run_that_was_interrupted_goes_on_to_the_same_files(capsys, monkeypatch):
    monkeypatch.setattr(train_text, "compare_with_autodiff", lambda *_: "")  # takes longer than the run
    flags = ("--tokens", "bytes", "--accumulate", 2, "--keep", 0.9, "--kv-heads", 1, "--dtype", "float64")
    settings = ("train", "digits.txt", "--model", "llama", *SMALL, *flags, "--steps", 40)
    assert jaxnn(*settings, "--out", "alone") == 0
    assert "digits: 630 bytes (544 to train on" in capsys.readouterr().out
    with monkeypatch.context() as patched:
        look = train_text.Watch.look

        def interrupts(self, state, part):
            look(self, state, part)
            os.kill(os.getpid(), signal.SIGINT)

        patched.setattr(train_text.Watch, "look", interrupts)
        assert jaxnn(*settings, "--out", "run") == 130
    out = capsys.readouterr().out
    assert "Interrupted " in out
    assert "To go on: jaxnn train --resume run" in out
    assert 0 < len(rows("run/iterations.csv")) < 40
    assert "--width is 8, and run was begun with 16" in refused(capsys, "train", "--resume", "run", "--width", 8)
    assert "--hidden is of tables" in refused(capsys, "train", "--resume", "run", "--hidden", 8)
    assert jaxnn("train", "--resume", "run") == 0
    assert [Path("run", name).read_bytes() for name in LEARNED] == [
        Path("alone", name).read_bytes() for name in LEARNED
    ]
    assert jaxnn("train", "--resume", "run") == 0
    assert "run is finished" in capsys.readouterr().out
    assert jaxnn("sample", "run", "--prompt", "é", "--tokens", 12) == 0  # all bytes are known
    assert capsys.readouterr().out.startswith("é")


def test_a_run_that_diverged_keeps_the_last_finite_params(capsys, monkeypatch):
    monkeypatch.setattr(train_text, "compare_with_autodiff", lambda *_: "")
    rate = ("--learning-rate", 1e38, "--warm-up", 0)
    assert jaxnn("train", "digits.txt", "--model", "gpt", *SMALL, *rate, "--steps", 20, "--out", "run") == 1
    assert "The parameters kept are the last finite ones." in capsys.readouterr().out
    language_file.load(Path("run", run_record.MODEL))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--hidden", 3], "--hidden is of tables: leave it out, for the model is gpt or llama."),
        (["--l2=1"], "--l2 is of tables: leave it out"),
        (["--widht", 3], "train has no flag --widht: did you mean --width?"),
        (["--context", 0], "--context is 0: it must be 1 or more"),
        (["--context", 63], "A context of 63 needs 64 characters in the last tenth of digits, which has 63"),
        (["--context", 10**6], "A context of 1000000 needs 1000001 characters in the last tenth of digits"),
        (["--heads", 3], "3 heads do not divide a width of 128."),
        (["--heads", 0], "--heads is 0"),
        (["--kv-heads", 2], "--kv-heads is 2: only a llama has them"),
        (["--model", "llama", "--kv-heads", 3], "--kv-heads is 3: it must divide the 4 heads."),
        (["--model", "llama", "--width", 12], "4 heads of a width of 12 have 3 numbers each: these turn in pairs"),
        (["--keep", 0], "--keep is 0.0: it must be above 0"),
        (["--learning-rate", "nan"], "--learning-rate is nan: it must be"),
        (["--clip", 0], "--clip is 0.0"),
        (["--weight-decay", -1], "--weight-decay is -1.0"),
        (["--epochs", 2, "--steps", 3], "--epochs and --steps both say how long"),
        (["--warm-up", 5, "--steps", 5], "The learning rate warms up over 5 updates, and there are 5 in all"),
        (["--accumulate", 9, "--steps", 5], "and there are 0 in all: give a smaller --warm-up or --accumulate"),
        (["--width", 10**7], "To train a gpt of"),
        (["--checkpoint-every", "1"], "give a number and s, m or h"),
        (["--out", "digits.txt"], "digits.txt is there already"),
    ],
)
def test_bad_settings_are_named(capsys, flags, message):
    model = [] if "--model" in flags else ["--model", "gpt"]
    context = [] if "--context" in flags else ["--context", 8]
    assert message in refused(capsys, "train", "digits.txt", *model, *context, *flags)


@pytest.mark.parametrize(
    ("content", "flags", "message"),
    [
        (b"", [], "bad.txt is empty: there is nothing to learn."),
        (b"", ["--tokens", "bytes"], "bad.txt is empty: there is nothing to learn."),
        (b"aaaa", [], "bad.txt has one character alone: there is nothing to learn."),
        (b"ab\n\xff", [], "bad.txt is no UTF-8, see its line 2: give --tokens bytes"),
        (None, [], "Cannot read bad.txt: No such file or directory."),
    ],
)
def test_bad_texts_are_refused(capsys, content, flags, message):
    if content is not None:
        Path("bad.txt").write_bytes(content)
    assert message in refused(capsys, "train", "bad.txt", "--model", "gpt", *flags)


def test_a_text_and_a_table_are_told_apart(capsys):
    assert "digits.txt is a text, and no table: give --model gpt" in refused(capsys, "train", "digits.txt")
    assert "--context is of language models: give --model gpt" in refused(capsys, "train", "iris", "--context", 3)
    Path("run").mkdir()
    assert "There is no run/model.safetensors" in refused(capsys, "sample", "run")


def test_sample_refuses_what_the_model_does_not_know(capsys):
    Path("run").mkdir()
    network = gpt(7, 4, layers=1, heads=1, width=2)
    model = LanguageModel(network, network.init(jax.random.key(0)), Vocabulary("0123456"), 4)
    language_file.save(Path("run", run_record.MODEL), model, {})
    unknown = "jaxnn: The text has 'x', which is none of the 7 characters that the model knows: 0123456\n"
    assert refused(capsys, "sample", "run", "--prompt", "12x") == unknown
    of_tables = "is a language model, which goes on with a text: use jaxnn sample."
    assert of_tables in refused(capsys, "predict", "run", "rows.csv")
    assert of_tables in refused(capsys, "explain", "run")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokens": 0}, "--tokens is 0"),
        ({"temperature": float("nan")}, "--temperature is nan"),
        ({"temperature": -1.0}, "--temperature is -1"),
        ({"top_k": 0}, "--top-k is 0"),
        ({"seed": -1}, "--seed is -1"),
        ({"prompt": ""}, "--prompt is empty"),
    ],
)
def test_bad_settings_of_sample_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Sample(Path("run"), **settings).check()


def test_the_flags_that_are_known_are_those_of_the_help(capsys):
    args = ("train", "--model", "llama", "--help")
    with pytest.raises(SystemExit):
        jaxnn(*args)
    shown = {*re.findall(r"--[a-z][a-z0-9-]*", capsys.readouterr().out)} - {"--help"}
    assert class_of(args) is TrainText
    known = {flag.name for flag in spelling.flags_of(TrainText)}
    assert shown == known


@pytest.mark.parametrize("model", [gpt(5, 4, layers=3, width=8), llama(5, layers=3, width=8)])
def test_matrices_decay_and_nothing_else(model):
    """The γ and b of layers side by side are matrices by their shape alone."""
    params = jax.eval_shape(model.init, jax.random.key(0))
    decays = text_experiment.weights(params)
    for path, does in jax.tree_util.tree_leaves_with_path(decays):
        name = jax.tree_util.keystr(path, simple=True, separator="/").split("/")[-1]
        assert does == (name == "W"), name
    assert {*jax.tree.leaves(decays)} == {True, False}


def test_the_learning_rate_warms_up_and_falls_to_a_tenth():
    """Adam's update of a gradient that stays the same is its rate, if nothing decays."""
    config = TrainText(learning_rate=0.5, warm_up=10, weight_decay=0.0)
    optimizer, v = text_experiment.optimizer_of(config, 50), jnp.ones(1)
    state, rates = optimizer.init(v), []
    for _ in range(51):
        update, state = optimizer.update(v, state, v)
        rates.append(-float(update[0]))
    np.testing.assert_allclose(rates[:11], 0.5 * np.arange(1, 12) / 11, rtol=1e-4)
    np.testing.assert_allclose(rates[30], (0.5 + 0.05) / 2, rtol=1e-4)  # half way along the cosine
    np.testing.assert_allclose(rates[50], 0.05, rtol=1e-4)


def test_what_is_otherwise_than_one_would_think_is_said(monkeypatch):
    settings = TrainText("digits.txt", context=8, width=4, layers=1, heads=1, batch_size=100, steps=1)
    experiment = text_experiment.experiment_of(settings)
    assert (experiment.batch_size, experiment.x.shape, experiment.validation[0].shape) == (70, (70, 8), (7, 8))
    assert experiment.remarks == ("--batch-size 100 is more than the contexts to train on: each batch is all 70.",)
    monkeypatch.setattr(text_experiment, "MOST_VALIDATED", 30)
    experiment = text_experiment.experiment_of(settings)
    assert experiment.validation[0].shape == (3, 8)
    assert experiment.remarks[1:] == ("The validation cost is that of the first 30 characters of the last tenth.",)


def test_a_gradient_is_clipped_by_its_norm():
    optimizer, v = text_experiment.optimizer_of(TrainText(clip=0.1, warm_up=1), 50), jnp.zeros(2)
    _, state = optimizer.update(jnp.array([3.0, 4.0]), optimizer.init(v), v)
    np.testing.assert_allclose(optax.tree.get(state, "mu"), 0.1 * jnp.array([0.06, 0.08]), rtol=1e-5)
