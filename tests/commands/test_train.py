"""The commands, as a user gives them: most in this process, the whole of them in a process of their own."""

import csv
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path
from typing import get_args

import jax
import numpy as np
import optax
import pytest

from jaxnn import catalogue, cli, data, experiment, memory
from jaxnn.commands import config, spelling
from jaxnn.models.perceptron import perceptron
from jaxnn.storage import model_file, rule_text, run_folder, run_record

JAXNN = Path(sysconfig.get_path("scripts"), "jaxnn")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).round(3)
FILES = {
    "classes.csv": ["a,b,c,kind", *(",".join(map(str, [*x, "hot" if x.sum() > 0 else "cold"])) for x in X)],
    "values.csv": ["a,b,c,price", *(",".join(map(str, [*x, x.sum() + 0.5])) for x in X)],
    "rows.csv": ["a,b,c", *(",".join(map(str, x)) for x in X[:5])],
}


@pytest.fixture
def here(tmp_path, monkeypatch, standard_promotion):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setattr(run_folder, "write_figure", lambda *_: None)  # a picture takes longer than its run
    for name, lines in FILES.items():
        Path(name).write_text("\n".join(lines))
    np.savez("two.npz", x=X, y=X[:, :2] * 3 + 5)
    np.savez("images.npz", x=RNG.integers(0, 256, (12, 2, 3), dtype=np.uint8), y=np.arange(12) % 3)
    return tmp_path


def names(folder):
    return {path.name for path in Path(folder).iterdir()}


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def jaxnn_main(*args):
    return cli.main([*map(str, args)])


def refused(capsys, *args):
    """The one sentence that a command given bad input says; it writes nothing."""
    before = {*Path().rglob("*")}
    assert jaxnn_main(*args) == 2
    err = capsys.readouterr().err
    assert {*Path().rglob("*")} == before
    assert err.startswith("jaxnn: ")
    assert err.count("\n") == 1
    return err


def test_flags_offer_the_files_that_ship():
    for room, choices in (("activations", config.Activation), ("initializers", config.Initializer)):
        assert get_args(choices) == catalogue.names(room)
    assert get_args(config.Loss) == ("auto", *catalogue.names("losses"))


def ended_and_imported(*args):
    """A command in a process of its own, whose exit code is the command's; and what it imported."""
    code = (
        "import sys, jaxnn.cli\n"
        "try: code = jaxnn.cli.main(sys.argv[1:])\n"
        "finally: print('imported', *sys.modules, file=sys.stderr)\n"
        "raise SystemExit(code)"
    )
    ended = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, encoding="utf-8")
    return ended, {*ended.stderr.rpartition("imported")[2].split()}


@pytest.mark.sample
@pytest.mark.parametrize("command", ["", "train", "train --model gpt", "sample", "predict", "sweep"])
def test_help_imports_nothing_slow(command):
    ended, modules = ended_and_imported(*command.split(), "--help")
    assert ended.returncode == 0
    assert "usage: jaxnn" in ended.stdout
    assert not {"jax", "numpy", "rich", "optax"} & modules


def test_version():
    ended, modules = ended_and_imported("--version")
    assert (ended.returncode, ended.stdout) == (0, "jaxnn 0.1.0\n")
    assert not {"jax", "numpy", "rich", "optax"} & modules


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["trian"], "there is no command trian: did you mean train?"),
        (["Train"], "there is no command Train: did you mean train?"),
        (["grow"], "there is no command grow: use train, sweep, sample, predict, verify or explain."),
        (["--versoin"], "there is no flag --versoin: did you mean --version?"),
        (["--fast"], "there is no flag --fast: jaxnn --help lists what there is."),
        (["train", "--epoch", "3"], "train has no flag --epoch: did you mean --epochs?"),
        (["train", "--epoch=3"], "train has no flag --epoch: did you mean --epochs?"),
        (["train", "iris", "--activaton", "tanh"], "train has no flag --activaton: did you mean --activation?"),
        (["train", "--no-shufle"], "train has no flag --no-shufle: did you mean --no-shuffle?"),
        (["train", "--html", "page.html"], "train has no flag --html: jaxnn train --help lists those that it has."),
        (["sweep", "--learning-rate", "0.1"], "sweep has no flag --learning-rate: did you mean --learning-rates?"),
        (["verify", "mine.py", "--hmtl", "page.html"], "verify has no flag --hmtl: did you mean --html?"),
        (["train", "--activation", "tahn"], "--activation is tahn: did you mean tanh?"),
        (["train", "--activation=tahn"], "--activation is tahn: did you mean tanh?"),
        (["train", "--dtype", "float16"], "--dtype is float16: did you mean bfloat16?"),
        (["train", "--dtype", "double"], "--dtype is double: use float32, bfloat16 or float64."),
        (["verify", "--require", "exactly"], "--require is exactly: did you mean exact?"),
        (["explain", "--notation", "row"], "--notation is row: did you mean rows?"),
    ],
)
def test_what_is_mistyped_is_named_with_the_nearest(here, capsys, args, sentence):
    assert refused(capsys, *args) == f"jaxnn: {sentence}\n"


@pytest.mark.parametrize("command", spelling.COMMANDS)
def test_the_flags_that_are_known_are_those_of_the_help(capsys, command):
    with pytest.raises(SystemExit):
        jaxnn_main(command, "--help")
    shown = {*re.findall(r"--[a-z][a-z0-9-]*", capsys.readouterr().out)} - {"--help"}
    assert shown == {flag.name for flag in spelling.flags_of(spelling.COMMANDS[command])}


def test_no_command_line_of_the_documents_is_mistyped():
    root = Path(cli.__file__).parents[1]
    texts = [path.read_text(encoding="utf-8") for path in (root / "README.md", *(root / "docs").glob("*.md"))]
    lines = [
        shlex.split(line, comments=True) for line in re.findall(r"scripts/jaxnn (.*?)(?:&&|`|\n)", "\n".join(texts))
    ]
    assert len(lines) > 20
    assert [line for line in [*lines, [], ["train"], ["train", "--hidden"]] if spelling.mistake(line)] == []


def test_a_mistyped_word_imports_nothing_slow():
    ended, modules = ended_and_imported("train", "--activation", "tahn")
    assert ended.returncode == 2
    assert not {"jax", "numpy", "rich", "optax"} & modules


@pytest.mark.parametrize(
    "args",
    [
        ["train", "--epoch", "3", "--help"],  # who asks for help is shown it
        ["--tyro-print-completion", "bash"],
    ],
)
def test_what_tyro_knows_is_its_own(capsys, args):
    with pytest.raises(SystemExit) as ended:
        jaxnn_main(*args)
    assert not ended.value.code
    assert capsys.readouterr().err == ""


def test_help_where_the_terminal_has_no_greek():
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    assert subprocess.run([JAXNN, "train", "--help"], capture_output=True, env=env).returncode == 0


def test_train_and_predict_in_processes_of_their_own(here):
    ended = subprocess.run(
        [JAXNN, "train", "classes.csv", "--epochs", "3", "--out", "a/run"], capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\x1b" not in ended.stdout
    assert "\r" not in ended.stdout
    assert "40 rows (32 train, 8 test); 3 features; 2 classes" in ended.stdout
    assert "3/3 cost" in ended.stdout
    expected = {"model.safetensors", "history.csv", "iterations.csv", "run.json"}
    assert names("a/run") - {"learning_curve.png"} == expected
    assert names("a") == {"run"}

    ended = subprocess.run([JAXNN, "predict", "a/run", "rows.csv"], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    rows = list(csv.DictReader(ended.stdout.splitlines()))
    trained = model_file.load(Path("a/run/model.safetensors"))
    (W1, b1), _, (W2, b2) = jax.tree.map(np.asarray, trained.params)
    h = np.maximum((X[:5] - trained.x_scale.shift) / trained.x_scale.unit @ W1.T + b1, 0)
    p = 1 / (1 + np.exp(-(h @ W2.T + b2)[:, 0]))
    np.testing.assert_allclose([float(row["P(hot)"]) for row in rows], p, rtol=1e-4)
    np.testing.assert_allclose([float(row["P(cold)"]) for row in rows], 1 - p, rtol=1e-4)
    assert [row["class"] for row in rows] == ["hot" if p >= 0.5 else "cold" for p in p]


@pytest.mark.sample
@pytest.mark.parametrize("args", [["train", "iriss"], ["train", "--epochs", "x"]])
def test_exit_code_2_without_a_traceback(here, args):
    ended = subprocess.run([JAXNN, *args], capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr
    assert "Traceback" not in ended.stderr


def test_ctrl_c_keeps_what_was_learned(here):
    code = (
        "import os, signal, jaxnn.cli, jaxnn.commands.train as c\n"
        "fit = c.fit\n"
        "def late(*args, progress, **settings):\n"
        "    def once(epoch, cost):\n"
        "        progress(epoch, cost)\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return fit(*args, progress=once, **settings)\n"
        "c.fit = late\n"
        "raise SystemExit(jaxnn.cli.main(['train', 'classes.csv', '--epochs', '1000000', '--hidden', '2']))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (130, "")
    assert "Interrupted after epoch" in ended.stdout
    assert names("runs") == {"classes"}
    assert 0 < len(read("runs/classes/history.csv")) < 1_000_000
    assert jaxnn_main("predict", "runs/classes", "rows.csv") == 0


def test_ctrl_c_that_falls_into_a_del_is_heard(here):
    code = (
        "import os, signal, jaxnn.cli, jaxnn.commands.train as c\n"
        "fit = c.fit\n"
        "class Swallows:\n"
        "    def __del__(self): os.kill(os.getpid(), signal.SIGINT)\n"
        "def late(*args, progress, **settings):\n"
        "    return fit(*args, progress=lambda epoch, cost: Swallows() and progress(epoch, cost), **settings)\n"
        "c.fit = late\n"
        "raise SystemExit(jaxnn.cli.main(['train', 'classes.csv', '--epochs', '1000000', '--hidden', '2']))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert ended.returncode == 130
    assert "Exception ignored in" in ended.stderr
    assert "Interrupted after epoch" in ended.stdout


def test_ctrl_c_before_anything_is_learned_leaves_nothing(here):
    code = (
        "import os, signal, sys, jaxnn.commands.train as c\n"
        "fit = c.fit\n"
        "def late(*args, **settings):\n"  # the folder is made by now
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return fit(*args, **settings)\n"
        "c.fit = late\n"
        "sys.argv = ['jaxnn', 'train', 'classes.csv', '--epochs', '1000000', '--hidden', '2']\n"
        "from jaxnn.__main__ import main\n"
        "sys.exit(main())\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (130, "jaxnn: interrupted; nothing is written.\n")
    assert names(".") == {*FILES, "two.npz", "images.npz"}


@pytest.mark.sample(lambda file, flags, layers, loss: file)
@pytest.mark.parametrize(
    ("file", "flags", "layers", "loss"),
    [
        ("classes.csv", [], "Dense(3, 100, xavier) Activation(relu) Dense(100, 1, xavier)", "SigmoidCrossEntropy()"),
        ("classes.csv", ["--hidden", "--batch-size", "None", "--no-shuffle"], "Dense(3, 1, xavier)", "Sigmoid"),
        ("classes.csv", ["--loss", "softmax_cross_entropy", "--batch-size", 1], "Dense(100, 2, xavier)", "Softmax"),
        ("classes.csv", ["--loss", "binary_cross_entropy"], "Dense(100, 1, xavier) Activation(sigmoid)", "Binary"),
        ("images.npz", ["--hidden", 2, "--dtype", "bfloat16"], "Dense(6, 2, xavier)", "SoftmaxCrossEntropy()"),
        ("images.npz", ["--model", "vit", "--hidden", 4], "Patches(2, 3, 1, 1) Repeat(Chain, 1, False)", "Softmax"),
        ("values.csv", ["--activation", "leaky_relu", "--slope", 0.3], "Activation(leaky_relu, 0.3)", "HalfSquared"),
        ("two.npz", ["--dtype", "float64", "--l2", 0.1, "--initializer", "he"], "Dense(100, 2, he)", "HalfSquared"),
    ],
)
def test_a_run(here, capsys, file, flags, layers, loss):
    assert jaxnn_main("train", file, "--epochs", 2, *flags) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert all(layer in out for layer in [*layers.replace(") ", ")  ").split("  "), loss])
    folder = Path("runs", Path(file).stem)
    history, iterations = read(folder / "history.csv"), read(folder / "iterations.csv")
    assert [row["epoch"] for row in history] == ["1", "2"]
    assert len(iterations) % 2 == 0
    trained = model_file.load(folder / "model.safetensors")
    table = data.load(file)
    _, test = data.split(table, 0)
    assert trained.predict(table.x[test]).shape[0] == len(test)
    count = sum(v.size for v in jax.tree.leaves(trained.params))
    assert [line.split() for line in out.splitlines() if "total" in line] == [
        ["│", "│", "total", *"│││", f"{count:,}", "│"]
    ]
    assert jaxnn_main("predict", folder, file, "--out", "p.csv") == 0
    rows = read("p.csv")
    assert [*rows[0]] == (["class", *(f"P({name})" for name in table.classes)] if table.classes else [*table.targets])
    assert len(rows) == len(table.x)
    for row in rows if table.classes else ():
        assert float(row[f"P({row['class']})"]) == max(float(row[f"P({name})"]) for name in table.classes)


def test_a_float64_run_predicts_in_float64(here):
    assert jaxnn_main("train", "values.csv", "--epochs", 1, "--hidden", "--dtype", "float64") == 0
    assert jaxnn_main("predict", "runs/values", "rows.csv", "--out", "p.csv") == 0
    with jax.enable_x64(True):
        trained = model_file.load(Path("runs/values/model.safetensors"))
    W, b = map(np.asarray, trained.params[0])
    assert W.dtype == np.float64
    y_hat = trained.y_scale.back(trained.x_scale(X[:5]) @ W.T + b)[:, 0]
    np.testing.assert_allclose([float(row["price"]) for row in read("p.csv")], y_hat, rtol=1e-12)


def test_same_seed_same_run_and_a_new_name(here):
    flags = ["train", "classes.csv", "--epochs", 2, "--hidden", 2]
    for seed in (3, 3, 4):
        assert jaxnn_main(*flags, "--seed", seed) == 0
    first, second, third = (
        Path("runs", name, "history.csv").read_bytes() for name in ("classes", "classes-2", "classes-3")
    )
    assert first == second != third


def test_what_fails_leaves_nothing_behind(here):
    before = names(".")
    with pytest.raises(KeyError), run_record.begun(Path("a/b/run"), "r", "train", {}, []):
        raise KeyError
    assert names(".") == before
    Path("folder").mkdir()
    with pytest.raises(ValueError, match="Cannot write folder"):
        run_folder.write_csv(Path("folder"), {"a": np.ones(2)})
    assert names(".") == before | {"folder"}


def test_a_network_that_no_file_could_hold_is_refused_before_it_is_trained(here, capsys, monkeypatch):
    monkeypatch.setattr(rule_text, "MOST_KINDS", 2)
    said = refused(capsys, "train", "classes.csv", "--hidden", 2, 3)
    assert "The model is not written, for it could not be loaded again" in said
    assert "different layers" in said
    assert "different layers" in refused(capsys, "sweep", "classes.csv", "--widths", 2, "--layers", 2)


def test_a_huge_target_among_the_test_rows_is_named(here, capsys):
    np.savez("huge.npz", x=X, y=np.where(np.arange(40) == data.split(data.load("two.npz"), 0)[1][0], 1e300, X[:, 0]))
    assert "beyond what float32 holds" in refused(capsys, "train", "huge.npz")


def test_patience_watches_rows_held_out_of_training(here, capsys):
    assert jaxnn_main("train", "classes.csv", "--epochs", 3, "--patience", 1, "--hidden", 2) == 0
    assert "(26 train, 6 validation, 8 test)" in capsys.readouterr().out
    assert {"validation_cost", "validation_binary_accuracy"} <= read("runs/classes/history.csv")[0].keys()


@pytest.mark.parametrize("shuffle", [True, False])
def test_rows_are_shuffled_unless_the_user_says_no(here, monkeypatch, shuffle):
    orders = []

    def fit(*args, order, **settings):
        orders.append(order)
        raise KeyError("enough")

    monkeypatch.setattr("jaxnn.commands.train.fit", fit)
    with pytest.raises(KeyError, match="enough"):
        jaxnn_main("train", "classes.csv", *([] if shuffle else ["--no-shuffle"]))
    assert shuffle == (orders[0] is None)
    assert shuffle or orders[0](3).tolist() == [*range(32)]


def test_the_parameters_of_each_layer_are_counted(here, capsys):
    assert jaxnn_main("train", "classes.csv", "--epochs", 1, "--hidden", 2) == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert [row[4] for row in rows if len(row) == 5] == ["8", "", "3", "", "11"]  # Dense, relu, Dense, the loss, all


def test_a_sweep_of_layers_of_one_unit():
    config.Sweep("iris", widths=(1,)).check()
    with pytest.raises(ValueError, match="a layer needs one unit at least"):
        config.Sweep("iris", widths=(1, 0)).check()


def test_a_batch_of_more_than_the_rows_is_all_of_them(here, capsys):
    assert jaxnn_main("train", "classes.csv", "--epochs", 2, "--batch-size", 1000) == 0
    assert (
        "--batch-size 1000 is more than the rows to train on: each batch is all 32 of them." in capsys.readouterr().out
    )
    assert len(read("runs/classes/iterations.csv")) == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--target-cost", 9], "at most the target"), (["--tolerance", 9], "changed by more than the tolerance")],
)
def test_a_run_stops_early_and_says_why(here, capsys, flags, message):
    assert jaxnn_main("train", "classes.csv", "--epochs", 9, "--hidden", *flags) == 0
    assert message in capsys.readouterr().out
    assert len(read("runs/classes/history.csv")) == 1


def test_a_diverging_run_keeps_the_last_finite_parameters_and_has_exit_code_1(here, capsys):
    assert jaxnn_main("train", "values.csv", "--epochs", 9, "--optimizer", "sgd", "--learning-rate", 1e30) == 1
    out = capsys.readouterr().out
    assert re.search(r"In epoch \d, .* was not finite", out)
    params = model_file.load(Path("runs/values/model.safetensors")).params
    assert all(np.isfinite(v).all() for layer in params for v in layer)


@pytest.mark.sample
@pytest.mark.parametrize("optimizer", ["rmsprop", "lion"])
def test_optimizers_by_name(here, optimizer):
    assert jaxnn_main("train", "classes.csv", "--epochs", 1, "--hidden", "--optimizer", optimizer) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--learning-rate", 0], "--learning-rate is 0.0: it must be a positive number"),
        (["--learning-rate", "nan"], "--learning-rate is nan"),
        (["--epochs", 0], "--epochs is 0: it must be 1 or more"),
        (["--epochs", 10**12], "below 2³¹"),
        (["--patience", -1], "--patience is -1"),
        (["--batch-size", 0], "--batch-size is 0"),
        (["--seed", -1], "--seed is -1: it must be 0 or more"),
        (["--seed", 2**40], "below 2³¹"),
        (["--tolerance", -1], "--tolerance is -1.0: it must be a finite number, 0 or more."),
        (["--target-cost", "nan"], "--target-cost is nan"),
        (["--l2", "inf"], "--l2 is inf: it must be a finite number, 0 or more."),
        (["--hidden", 3, 0], "--hidden is 3 0: a layer needs one unit"),
        (["--slope", 0.1], "only leaky_relu has one"),
        (["--activation", "leaky_relu", "--slope", "nan"], "--slope is nan"),
        (["--optimizer", "adamm"], "no optimiser 'adamm' that takes a learning rate: try sgd, adam, adamw"),
        (["--optimizer", "chain"], "no optimiser 'chain'"),
        (["--optimizer", "apply_updates"], "no optimiser 'apply_updates'"),
        (["--optimizer", "exponential_decay"], "no optimiser 'exponential_decay'"),
        (["--optimizer", "__doc__"], "no optimiser '__doc__'"),
        (["--out", "rows.csv"], "rows.csv is there already: give --out another name"),
        (["--out", "."], "is there already"),
        (["--out", "rows.csv/run"], "Cannot make the run folder rows.csv/run"),
    ],
)
def test_bad_settings_are_named(here, capsys, flags, message):
    assert message in refused(capsys, "train", "classes.csv", *flags)


@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "softmax_cross_entropy", "binary_cross_entropy"])
def test_a_loss_of_classes_refuses_values(here, capsys, loss):
    assert f"--loss {loss} needs classes" in refused(capsys, "train", "values.csv", "--loss", loss)


def test_patience_needs_a_row_to_hold_out(here, capsys):
    Path("two.csv").write_text("1,2.5\n2,3.5\n")
    for command in (["train", "two.csv", "--patience", 1], ["sweep", "two.csv"]):
        assert "A fifth of the training rows is to be held out, and there is only 1" in refused(capsys, *command)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the administrator may write anywhere")
def test_an_unwritable_folder_is_named(here, capsys):
    here.chmod(0o555)
    assert "Cannot make the run folder runs/classes: Permission denied" in refused(capsys, "train", "classes.csv")


def test_bad_data_are_refused(here, capsys):
    Path("nan.csv").write_text("1,nan,2.5\n1,2,3.5\n")
    assert "x1 is missing, NaN or infinite in 1 of 2 rows" in refused(capsys, "train", "nan.csv")


@pytest.fixture
def trained(here, capsys):
    assert jaxnn_main("train", "classes.csv", "--epochs", 1, "--hidden", "--out", "run") == 0
    capsys.readouterr()


def test_predict_refuses_what_is_no_run_or_does_not_fit(trained, capsys):
    Path("wide.csv").write_text("1,2,3,4,5\n")
    Path("not a run").mkdir()
    Path("not a run", "model.safetensors").write_text("hello")
    assert "There is no nowhere" in refused(capsys, "predict", "nowhere", "rows.csv")
    assert "There is no rows.csv" in refused(capsys, "predict", "rows.csv", "rows.csv")
    assert "damaged or no safetensors file" in refused(capsys, "predict", "not a run", "rows.csv")
    assert "5 numbers a row, but the model was trained on 3" in refused(capsys, "predict", "run", "wide.csv")
    assert "Cannot read none.csv" in refused(capsys, "predict", "run", "none.csv")
    assert "is there already" in refused(capsys, "predict", "run", "rows.csv", "--out", "rows.csv")
    assert "Cannot write rows.csv/p.csv" in refused(capsys, "predict", "run", "rows.csv", "--out", "rows.csv/p.csv")


def test_predict_takes_rows_in_each_form(trained, capsys):
    Path("plain.csv").write_text("\n".join(FILES["rows.csv"][1:]))
    np.savez("rows.npz", x=X[:5])
    Path("whole.csv").write_text("\n".join(FILES["classes.csv"][:6]))
    said = []
    for name in ("rows.csv", "plain.csv", "rows.npz", "whole.csv"):
        assert jaxnn_main("predict", "run", name) == 0
        said.append(capsys.readouterr().out)
    assert said[0].startswith("class,P(cold),P(hot)\n")
    assert len({*said}) == 1


def test_a_reader_that_has_enough_ends_predict_quietly(trained):
    np.savez("many.npz", x=np.tile(X, (500, 1)))
    ended = subprocess.run(["bash", "-c", f"'{JAXNN}' predict run many.npz | head -1"], capture_output=True, text=True)
    assert ended.stdout == "class,P(cold),P(hot)\n"
    assert ended.stderr == ""


@pytest.mark.parametrize("epochs", [0, 1, 30])
def test_the_learning_curve_is_drawn_without_warnings(tmp_path, epochs):
    pytest.importorskip("matplotlib")
    from jaxnn.training.history import History

    nan = np.full(epochs, np.nan)
    history = History(nan, np.linspace(1, 0, epochs), nan, nan, nan[:, None], nan[:, None], nan[:, None])
    run_folder.draw(tmp_path, history, "test", "r2", "t")
    assert (tmp_path / "learning_curve.png").read_bytes()[:4] == b"\x89PNG"


KEEPS = "import jax; from jaxnn.storage import compilations; compilations.keep(); jax.jit(lambda x: x + 1)(1)"


def keeps(**variables):
    """What a process of its own says that keeps a compilation, under these environment variables."""
    given = {name: v for name, v in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"} | variables
    return subprocess.run([sys.executable, "-c", KEEPS], capture_output=True, text=True, env=given, check=True).stderr


def test_compilations_are_kept_where_the_user_says(here):
    """In $JAX_COMPILATION_CACHE_DIR, else in the user's cache folder; or nowhere."""
    set_by_user = {"XDG_CACHE_HOME": "mine", "JAX_COMPILATION_CACHE_DIR": "set"}
    keeps(**set_by_user)
    assert names("set")
    assert not Path("mine").exists()
    for entry in Path("set").iterdir():
        entry.write_bytes(entry.read_bytes()[:-9])  # as a killed process leaves it
    assert keeps(**set_by_user) == ""
    keeps(XDG_CACHE_HOME="mine")
    assert [*Path("mine/jaxnn").glob("*/*-cache")]
    assert "warn" not in keeps(XDG_CACHE_HOME=str(Path("classes.csv", "no folder")))


def test_compilations_are_kept_unless_the_user_says_no(here, monkeypatch):
    kept = []
    monkeypatch.setattr("jaxnn.storage.compilations.keep", lambda: kept.append(True))
    for flags, calls in (["--no-cache"], 0), ([], 1):
        assert jaxnn_main("train", "classes.csv", "--epochs", 1, "--hidden", 2, *flags) == 0
        assert len(kept) == calls


def written(name, x, y):
    np.savetxt(name, np.column_stack([x, y]), delimiter=",", header="a,b,c,y", comments="", fmt="%s")
    return name


def test_constant_columns_are_said_and_tell_nothing(here, capsys):
    """0.1 in each of 48 rows was scaled by its rounding: at 0.11, each class was certain."""
    x = RNG.normal(size=(60, 3))
    x[:, 1] = 0.1
    assert jaxnn_main("train", written("t.csv", x, np.where(x[:, 0] > 0, "yes", "no")), "--epochs", 2) == 0
    assert (
        "The same in all rows to train on are these features, from which nothing is learned: b."
        in capsys.readouterr().out
    )
    trained = model_file.load(Path("runs/t/model.safetensors"))
    np.testing.assert_allclose(trained.predict(x + np.array([0, 0.01, 0])), trained.predict(x), atol=0.1)
    assert jaxnn_main("train", written("v.csv", x, np.full(60, 0.1)), "--epochs", 2) == 0
    told = capsys.readouterr().out
    assert "targets, and so are their predictions: y." in told
    assert re.search(r"train │ 48 │ .* │ +— │", told)


@pytest.mark.sample
@pytest.mark.parametrize("unit", [1e30, 1e200, 1e300])
def test_huge_data_are_scaled_without_overflow(here, capsys, unit):
    x = RNG.normal(size=(60, 3))
    with warnings.catch_warnings(action="error"):
        assert jaxnn_main("train", written("t.csv", unit * x, unit * x[:, 0]), "--epochs", 2) == 0
    assert not re.search(r"\b(nan|inf)\b", capsys.readouterr().out)
    assert np.isfinite(model_file.load(Path("runs/t/model.safetensors")).predict(unit * x)).all()


def test_a_cell_beyond_what_the_dtype_holds_is_named(here, capsys):
    x = RNG.normal(size=(60, 3))
    path = written("t.csv", x, np.where(x[:, 0] > 0, "yes", "no"))
    _, test = data.split(data.load(path), 0)
    x[test[0], 2] = 1e308
    told = refused(capsys, "train", written(path, x, np.where(x[:, 0] > 0, "yes", "no")), "--epochs", 2)
    assert f"c in row {test[0]}, scaled as" in told
    assert "beyond what float32 holds" in told


@pytest.mark.parametrize(
    ("flags", "figure"),
    [
        (["train", "--hidden", "1000000000"], "2,788.0 GB"),
        (["train", "--hidden", "1000000", "10000000"], "160,023.6 GB"),
        (["train", "--hidden", "1000000", "10000000", "--optimizer", "sgd"], "80,"),
        (["sweep", "--widths", "1000000000"], "66,912.0 GB"),
        (["explain", "--hidden", "1000000000"], "GB"),
        (["explain", "--hidden", "1000000", "10000000"], "GB"),
    ],
)
def test_what_will_not_fit_in_memory_is_said_before_it_is_tried(here, capsys, flags, figure):
    told = refused(capsys, *flags)
    assert re.search(r"To (train|explain) .* of [0-9,]+ parameters on \d+ examples at a time takes", told)
    assert figure in told


def test_memory_counts_the_state_of_the_optimiser_and_all_rows(monkeypatch, standard_promotion):
    model = perceptron((3, 1000, 1), "relu")
    P = 5001 * 4

    def needed(optimizer, m, batch_size, **settings):
        asked = []
        monkeypatch.setattr(memory, "check_fits", lambda size, *_: asked.append(size))
        experiment.check_memory(model, optimizer, np.zeros((m, 3)), batch_size, "float32", **settings)
        return asked[0]

    assert needed(optax.sgd, 1, 1) == 2 * P + 2001 * 4
    assert needed(optax.adam, 1, 1) == 4 * P + 4 + 2001 * 4
    assert needed(optax.sgd, 1, 10) == 2 * P + 20010 * 4
    assert needed(optax.sgd, 100, 1) == 2 * P + 100_000 * 4
    assert needed(optax.sgd, 1, 1, times=7) == 7 * needed(optax.sgd, 1, 1)


@pytest.mark.parametrize(
    "flags",
    [
        ["train", "--learning-rate", "1e300"],
        ["train", "--learning-rate", "1e-300"],
        ["train", "--l2", "1e39"],
        ["train", "--activation", "leaky_relu", "--slope=-1e300"],
        ["train", "--dtype", "bfloat16", "--tolerance", "1e39"],
        ["sweep", "--learning-rates", "0.1", "1e300"],
        ["sweep", "--l2", "1e300"],
        ["explain", "--learning-rate", "1e300"],
        ["explain", "--l2", "1e300"],
    ],
)
def test_numbers_beyond_the_dtype_are_refused(here, capsys, flags):
    assert re.search(r"which is (infinite|0) in (b?float\d+)", refused(capsys, *flags))


def test_a_large_number_is_none_of_float64_and_0_is_one():
    config.Train(learning_rate=1e300, l2=1e-300, dtype="float64").check()
    config.Train(l2=0.0, tolerance=0.0).check()


def test_labels_are_shown_on_one_line(here, capsys):
    lines = [f'{i},0,"{"a" if i % 2 else "b"}\x1b[2J"' for i in range(20)]
    Path("t.csv").write_text("\n".join(["p\x1b[1m,q\x07,kind", *lines]))
    assert jaxnn_main("train", "t.csv", "--hidden", "--epochs", 1) == 0
    told = capsys.readouterr().out
    assert "a\\x1b[2J 10" in told
    assert "q\\x07" in told  # is constant
    assert "\x1b" not in told


def test_a_spreadsheet_runs_no_cell(here, capsys):
    words = ["=1+1", "+x", "-x", "@x", "\tx", "\r=x", "-1", "+2", "a=b", "", 'a\r=b,"c"\n']
    run_folder.write_csv(Path("p.csv"), {"=A1": words, "n": -np.arange(11.0), "v": [np.str_("=1"), *[np.nan] * 10]})
    with open("p.csv", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["'=A1", "n", "v"]
    safe = [*(f"'{word}" for word in words[:6]), *words[6:]]
    assert [row[0] for row in rows] == safe
    assert [row[1] for row in rows] == [str(-float(i)) for i in range(11)]
    assert [row[2] for row in rows] == ["'=1", *[""] * 10]
    run_folder.write_csv(None, {"v": [np.nan, 1.5]})
    assert capsys.readouterr().out == 'v\n""\n1.5\n'


@pytest.mark.sample
@pytest.mark.parametrize(("reader", "unbuffered"), [("true", ""), ("head -1", "1")])
def test_a_pipe_that_closes_early_costs_no_page(here, reader, unbuffered):
    command = f"'{JAXNN}' explain iris --html p.html --iterations 2 | {reader}; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert Path("p.html").read_text(encoding="utf-8").rstrip().endswith("</html>")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["classes.csv"], "has the shape (3,), no image: use --model perceptron"),
        (["images.npz", "--hidden", 4, 8], "--hidden is 4 8: a vit has blocks of one width, a multiple of 4"),
        (["images.npz", "--hidden", 6], "a multiple of 4"),
        (["images.npz", "--activation", "tanh"], "--activation tanh is of a perceptron"),
    ],
)
def test_a_vit_needs_images_and_one_width(here, capsys, flags, words):
    assert words in refused(capsys, "train", "--model", "vit", *flags)
