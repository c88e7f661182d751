"""scripts/reproduce, run as a user runs it."""

import functools
import gzip
import json
import os
import random
import re
import runpy
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import jax
import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "reproduce"
DATA = Path(__file__).parents[3] / "shared" / "data"
absent = pytest.mark.skipif(not DATA.exists(), reason="the cat images are in ../shared/data, which is not here")


def reproduce(script, folder, *flags):
    """(exit code, cells of the table's rows, all that it printed)"""
    command = [sys.executable, str(script), *map(str, flags)]
    env = os.environ | {"PYTHONIOENCODING": "utf-8", "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}
    env |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, encoding="utf-8")
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if line[:1] == "│"]
    return done.returncode, cells, done.stdout + done.stderr


def write_idx(path, v):
    raw = bytes([0, 0, 8, v.ndim]) + b"".join(n.to_bytes(4, "big") for n in v.shape) + v.tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


def small_mnist(folder):
    """25 and 30 images that can be told apart, two of the four files gz: x, y, x_test, y_test."""
    draw = np.random.default_rng(0)
    patterns = draw.integers(0, 200, (10, 28, 28))
    arrays = []
    for name, n, end in (("train", 25, ".gz"), ("t10k", 30, "")):
        y = draw.integers(0, 10, n).astype(np.uint8)
        x = (patterns[y] * draw.uniform(0, 1.2, (n, 28, 28))).astype(np.uint8)
        write_idx(folder / f"{name}-images-idx3-ubyte{end}", x)
        write_idx(folder / f"{name}-labels-idx1-ubyte{end}", y)
        arrays += [x, y]
    return arrays


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run of all, with few images: what `reproduce` gives, and the images."""
    folder = tmp_path_factory.mktemp("mnist")
    images = small_mnist(folder)
    return *reproduce(SCRIPT, folder, "--quick", "--mnist", "."), images


# Mazur and Ng


def close(row):
    """The published digits: ours is no further than half of the last, or 1e-12, where float64 itself ends."""
    what, published, _, difference, _ = row
    return abs(float(difference)) <= max(0.501 * 10.0 ** -len(published.partition(".")[2]), 1e-12), what


@absent
def test_published_numbers_with_the_images(run):
    code, rows, said, _ = run
    assert code == 0, said
    rows = [row for row in rows if not row[4].startswith("Nielsen")]
    assert len(rows) == 24
    slips = [row for row in rows if row[3].endswith("(1)")]
    assert [row[:4] for row in slips] == [
        ["2–2–2: E_total after 1 update", "0.291027924", "0.291027774", "-1.5e-07 (1)"]
    ]
    for row in rows:
        assert row in slips or all(close(row)), row
    assert "All 23 others agree" in said


@absent
def test_published_column_is_what_the_data_give(run):
    """../shared/data/expected has the same numbers, from other hands."""
    column = {float(row[1]) for row in run[1]}
    read = lambda suite: json.loads((DATA / "expected" / f"{suite}.json").read_text())["cases"]  # noqa: E731
    expected = {case["id"]: case["expected"] for case in read("worked_examples") + read("dlai_cat_training")}
    assert set(np.concatenate([np.ravel(v) for v in expected["mazur_2_2_2"].values()])) <= column
    assert {*expected["logistic_lr0.005_2000"]["costs"][:2]} <= column
    assert {expected["two_layer_12288_7_1"][name] for name in ("cost_0", "cost_100")} <= column


def test_a_wrong_published_number_is_shown(tmp_path):
    """Also: Mazur's example needs no data, and what has none says so."""
    copy = tmp_path / "reproduce"
    copy.write_text(SCRIPT.read_text("utf-8").replace('"0.082167041"', '"0.082167051"'), "utf-8")
    code, rows, said = reproduce(copy, tmp_path)
    assert code == 1
    assert [row[:4] for row in rows if row[3].endswith("!")] == [
        ["2–2–2: ∂E_total/∂w5", "0.082167051", "0.082167041", "-1e-08 !"]
    ]
    assert "DIFFERS: 2–2–2: ∂E_total/∂w5\n" in said
    assert "Ng's cat classifiers were not run. --cats FILE" in said
    assert "Nielsen's networks were not run: some 8 minutes. --mnist FOLDER" in said


# Nielsen


def nielsen(hidden, quadratic, lr, lam, epochs, x, y, x_test, y_test):
    """Right of x_test after each epoch, by the formulas of his network.py and network2.py, example by example."""
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    sizes, σ = (784, hidden, 10), lambda z: 1 / (1 + np.exp(-z))
    b = [np.random.randn(n, 1) for n in sizes[1:]]  # noqa: NPY002
    w = [np.random.randn(m, n) for n, m in pairwise(sizes)]  # noqa: NPY002
    pairs = [(v.reshape(784, 1) / 256, np.eye(10)[:, [k]]) for v, k in zip(x, y, strict=True)]
    right = []
    for _ in range(epochs):
        random.shuffle(pairs)
        for start in range(0, len(pairs), 10):
            batch = pairs[start : start + 10]
            db, dw = [np.zeros_like(v) for v in b], [np.zeros_like(v) for v in w]
            for a0, t in batch:
                a1 = σ(w[0] @ a0 + b[0])
                a2 = σ(w[1] @ a1 + b[1])
                d2 = (a2 - t) * (a2 * (1 - a2) if quadratic else 1)
                d1 = w[1].T @ d2 * a1 * (1 - a1)
                for i, (d, a) in enumerate(((d1, a0), (d2, a1))):
                    db[i] += d
                    dw[i] += d @ a.T
            b = [v - lr / len(batch) * d for v, d in zip(b, db, strict=True)]
            w = [(1 - lr * lam / len(pairs)) * v - lr / len(batch) * d for v, d in zip(w, dw, strict=True)]
        out = σ(w[1] @ σ(w[0] @ (x_test.reshape(-1, 784) / 256).T + b[0]) + b[1])
        right.append((out.argmax(0) == y_test).sum())
    return right


def test_mnist_as_his_program_trains_it(run):
    code, rows, said, images = run
    assert code == 0, said
    rows = [row for row in rows if row[4].startswith("Nielsen")]
    assert len(rows) == 11
    assert "not run, for its validation images are the last 10,000 of 60,000" in said
    assert "here are 25 and 30." in said
    count_after = functools.cache(lambda *net: nielsen(*net, *images))
    for what, published, ours, _, source in rows:
        form = r"784–(\d+)–10, η (\S+), λ (\S+), n 25: (?:epoch )?(\w+), test %"
        hidden, lr, lam, when = re.fullmatch(form, what).groups()
        epochs = 400 if published in ("82.27", "87.1") else 30
        right = count_after(int(hidden), source.endswith("quadratic"), float(lr), float(lam), epochs)
        count = max(right) if when == "best" else right[int(when)]
        assert ours == f"{count / 0.3:.{len(published) - 3}f}", what


# Bad input


def said_of(monkeypatch, capsys, *flags):
    """The script's exit code, and what it says, in this process."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, flags)])
    with pytest.raises(SystemExit) as exit:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    said = capsys.readouterr()
    return exit.value.code, said.out + said.err


def damage(folder, name, change):
    (path,) = folder.glob(f"{name}*")
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("t10k-images", lambda raw: raw[:-1], "is no whole IDX file of bytes."),
        ("t10k-images", lambda raw: b"", "is no whole IDX file of bytes."),
        ("t10k-images", lambda raw: raw[:2] + b"\x0d" + raw[3:], "is no whole IDX file of bytes."),
        ("t10k-labels", lambda raw: raw[:-1] + b"\x0a", "has not images of 28×28 bytes and as many labels 0 to 9."),
        ("train-images", lambda raw: raw[:-20], "Compressed file ended before the end-of-stream marker was reached."),
        ("train-images", lambda raw: b"no gzip", "Not a gzipped file (b'no')."),
    ],
)
def test_damaged_mnist(tmp_path, monkeypatch, capsys, name, change, sentence):
    small_mnist(tmp_path)
    damage(tmp_path, name, change)
    code, said = said_of(monkeypatch, capsys, "--mnist", tmp_path)
    assert code == 2
    assert said.endswith(f"{sentence}\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--mnist", "nowhere"], "Cannot read nowhere/train-images-idx…-ubyte: No such file or directory.\n"),
        (["--cats", "nowhere.npz"], "Cannot read nowhere.npz: No such file or directory.\n"),
        (["--cats", "other.npz"], "other.npz has not the course's 209 and 50 images of 64×64×3 bytes"),
        (["--cats", str(SCRIPT)], "no .npz file of plain arrays"),
        (["--cat-images"], "unrecognized arguments"),
    ],
)
def test_bad_input(tmp_path, monkeypatch, capsys, flags, sentence):
    monkeypatch.chdir(tmp_path)
    np.savez("other.npz", **dict.fromkeys(("x_train", "y_train", "x_test", "y_test"), np.zeros(3, int)))
    code, said = said_of(monkeypatch, capsys, *flags)
    assert code == 2
    assert sentence in said
    assert "Traceback" not in said


def test_nothing_is_unpickled(tmp_path, monkeypatch, capsys):
    np.savez(tmp_path / "mnist.npz", **dict.fromkeys(("x_train", "y_train", "x_test", "y_test"), np.array([{}])))
    assert said_of(monkeypatch, capsys, "--mnist", tmp_path)[0] == 2


def test_help(monkeypatch, capsys):
    code, said = said_of(monkeypatch, capsys, "--help")
    assert code == 0
    assert "--mnist [FOLDER]" in said
