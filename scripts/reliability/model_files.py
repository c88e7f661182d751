#!/usr/bin/env python3
"""Loads altered model files and checkpoint files, and counts what comes of it: is one loaded as what it is not?

.venv/bin/python scripts/reliability/model_files.py [--count 12000] [--seed 0]

The files are drawn by the seed, as many of each row of the table; those of the first row are not altered. Those that
are "edited" have a right checksum, as one who means harm would give them: their layers, names, settings and arrays are
other ones. A child process loads them one after another, each within 5 s of its CPU and 500 MB above what it held
before. Exit code 1 if anything happens but that a file is loaded as what was written, is refused in one sentence or,
edited, is another file that is in order. On Linux, for its measure of memory.
"""

import argparse
import collections
import gc
import json
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from jax import numpy as jnp
from safetensors.numpy import save as to_bytes

from jaxnn import Activation, Chain, Dense, Huber, LayerNorm, Repeat, Residual, SigmoidCrossEntropy, SoftmaxCrossEntropy
from jaxnn.data.scale import Scale
from jaxnn.storage import model_file, rule_text, tree_file
from jaxnn.trained import Trained

SECONDS, MEGABYTES = 5, 500  # for a file
OUTCOMES = EQUAL, OTHER, REFUSED, EXCEPTION, SLOW, LARGE = (
    *("loaded equal", "another, in order", "refused"),
    *("other exceptions", "too slow", "too large"),
)
OF_A_CHILD = 500  # files


# What is altered


def model(network, loss, n, classes=(), targets=(), dtype="float32"):
    x_scale, y_scale = (Scale(np.linspace(-1, 1, k), np.linspace(0.5, 2, k)) for k in (n, len(targets)))
    params = network.init(jax.random.key(0), dtype)
    features = tuple(f"x{j}" for j in range(n))
    return Trained(network, loss, params, x_scale, y_scale if targets else None, features, classes, targets)


BLOCK = Residual(Chain((LayerNorm(4), Dense(4, 4, "he"), Activation("leaky_relu", 0.2))))
MODELS = {
    "two classes": model(Chain((Dense(3, 4), Activation("tanh"), Dense(4, 1))), SigmoidCrossEntropy(), 3, ("a", "ç")),
    "classes": model(
        Chain((Dense(5, 4), Repeat(BLOCK, 3), Dense(4, 3))), SoftmaxCrossEntropy(), 5, ("a", "b", "c"), dtype="bfloat16"
    ),
    "values": model(Dense(6, 2), Huber(0.5), 6, targets=("u", "v")),
}
SETTINGS = {"data": "iris", "hidden": [4], "slope": None, "l2": 0.1, "epochs": 3, "shuffle": True}
TREES = {
    "params": (Dense(3, 4).init(jax.random.key(0)), (), Dense(4, 1).init(jax.random.key(1))),
    "optimizer": {"count": jnp.int32(7), "mu": jnp.arange(6.0), "nu": jnp.zeros((2, 2), "bfloat16")},
    "key": jax.random.key(5),
}
TEXTS = {"format": "jaxnn checkpoint 1", "settings": json.dumps(SETTINGS), "digest": "ab" * 32}
CHECKPOINT = "checkpoint"


def originals(folder):
    """Writes them, and gives {name: path}."""
    for name, trained in MODELS.items():
        model_file.save(folder / name, trained, SETTINGS)
    tree_file.write(folder / CHECKPOINT, TREES, TEXTS)
    return {name: folder / name for name in (*MODELS, CHECKPOINT)}


def write_different_layers(path):
    """A file that costs as much as the limits allow."""
    widths = range(1, rule_text.MOST_KINDS)
    params = tuple({"W": np.ones((n + 1, n), "f4"), "b": np.ones(n + 1, "f4")} for n in widths)
    arrays = {"params": params, "x_shift": np.ones(1), "x_unit": np.ones(1)}
    K = rule_text.MOST_KINDS
    arrays |= {"y_shift": np.ones(K), "y_unit": np.ones(K)}
    network = Chain(tuple(Dense(n, n + 1) for n in widths))
    texts = {"format": model_file.FORMAT, "model": repr(network), "loss": repr(Huber()), "classes": "[]"}
    texts |= {"features": "[]", "targets": json.dumps([str(k) for k in range(K)]), "settings": json.dumps(SETTINGS)}
    tree_file.write(path, arrays, texts)


# How it is altered: each way takes the path of a file, all paths, and a random.Random, and gives bytes


def parts(content):
    """(the header's length and the header, the values)."""
    end = 8 + int.from_bytes(content[:8], "little")
    return content[:end], content[end:]


def flipped(content, draw):
    changed = bytearray(content)
    changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def leave(path, others, draw):
    return path.read_bytes()


def flip_a_value(path, others, draw):
    header, values = parts(path.read_bytes())
    return header + flipped(values, draw)


def flip_anywhere(path, others, draw):
    content = path.read_bytes()
    for _ in range(draw.choice((1, 1, 2, 8))):
        content = flipped(content, draw)
    return content


def cut(path, others, draw):
    content = path.read_bytes()
    return content[: draw.randrange(len(content))]


def splice(path, others, draw):
    content, other = path.read_bytes(), draw.choice(others).read_bytes()
    return content[: draw.randrange(len(content))] + other[draw.randrange(len(other)) :]


def edit_header(path, others, draw):
    """One or two entries are other ones; the checksum stays as it is."""
    header, values = parts(path.read_bytes())
    header = json.loads(header[8:])
    for _ in range(draw.choice((1, 2))):
        name = draw.choice(list(header))
        field = draw.choice(list(header[name]))
        header[name][field] = draw.choice(ODD_FIELDS.get(field, ODD_TEXTS))
        header[draw.choice((name, name, "", "params", "\x1b[31m"))] = header.pop(name)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + values


def edit(path, others, draw):
    """Texts and arrays are other ones, and the checksum is theirs."""
    arrays, texts, _ = tree_file.read(path)
    for _ in range(draw.choice((1, 1, 2))):
        group = draw.choice((arrays, texts, texts))
        name = draw.choice(sorted(group) or ["x"])
        if draw.random() < 0.05:
            group.pop(name, None)
        elif group is arrays:
            arrays[name] = other_array(arrays[name], draw)
        elif name in ("model", "loss"):
            texts[name] = other_rule(texts[name], draw)
        else:
            texts[name] = draw.choice((*ODD_TEXTS, other_text(texts[name], draw)))
        if draw.random() < 0.05:
            arrays[draw.choice(("", "params", "params/9/W", "y_unit", "\n"))] = np.ones(draw.choice((0, 1, 10)))
    return to_bytes(arrays, {**texts, tree_file.CHECKSUM: tree_file.checksum(arrays, texts)})


def other_text(text, draw):
    """One word or sign of it is another one."""
    words = re.findall(r"\w+|'\w*'|.", text) or [""]
    words[draw.randrange(len(words))] = draw.choice((*ODD_WORDS, *words))
    return "".join(words)


def other_rule(text, draw):
    """Another layer or loss, or none, or far too many."""
    how, times = draw.choice((*["one word"] * 4, "wrap", "repeat")), draw.choice((1, 2, 30, 3000))
    if how == "one word":
        return other_text(text, draw)
    if how == "repeat":
        return f"Chain(layers=({', '.join([text] * times)}, ))"
    before, after = draw.choice(WRAPPINGS).split("…")
    return before * times + text + after * times


def other_array(v, draw):
    """Of another shape, another dtype, or other values."""
    with np.errstate(all="ignore"):
        odd = [v.T, v[None], np.atleast_1d(v)[:0], np.atleast_1d(v)[::-1], v.sum(), 0 * v]
        odd += [np.zeros(shape, v.dtype) for shape in (10**6, (10**6, 0))]
        odd += [np.full(v.shape, number) for number in (np.nan, -np.inf, 1e300)]
        odd += [v.astype(dtype) for dtype in "efdi?FB"]
    return np.array(draw.choice(odd))


ODD_WORDS = [
    "",
    "0",
    "-1",
    f"{10**12}",
    "1.5",
    "1e999",
    "nan",
    "True",
    "None",
    "'x'",
    "()",
    "(3,)",
    "σ",
    "\x1b",
    "9" * 9999,
]
ODD_WORDS += ["Dense", "Repeat", "L2(lam=1.0)", "Chain(layers=())", "Huber(delta=1.0)", "Dense(n_in=4, n_out=4)"]
ODD_TEXTS = [
    "",
    "3",
    "null",
    "{}",
    "[]",
    "[[1]]",
    '"abc"',
    "[1, 2]",
    '["a"]',
    '["a", "b"]',
    '{"a": {}}',
    "NaN",
    "\0\x1b\n",
]
ODD_TEXTS += ["[" * 50_000, '{"a":' * 50_000, "9" * 9999, "x" * 10**6, "[[]," * 10**6, json.dumps(["x"] * 10**5)]
ODD_TEXTS += ["jaxnn model 1", "jaxnn model 9", "Chain(layers=(" + "Dense(n_in=1, n_out=1), " * 170_000 + "))"]
WRAPPINGS = [
    "Residual(layer=…)",
    "Repeat(layer=…, n=2)",
    "Repeat(layer=…, n=9999999999)",
    "Chain(layers=(…,))",
    "(…)",
    "-…",
]
ODD_FIELDS = {
    "dtype": ["F64", "F16", "BF16", "I32", "BOOL", "C64", "F8_E4M3", "F8_E5M2", "F4", "F6_E2M3", "\x1b" * 999, 3, None],
    "shape": [[], [0], [1], [-1], [2**31], [2**62, 2**62, 0], [0, 2**63], [1] * 80, 3, "x", [[1]], None, [1.5]],
    "data_offsets": [[0, 0], [0, 4], [4, 0], [-1, 4], [0, 2**62], [0], [], "x", None],
}
LEAVE, FLIP, EDIT = "as it was written", "one bit of a value flipped", "edited, with a right checksum"
WAYS = {
    LEAVE: leave,
    FLIP: flip_a_value,
    "bits anywhere flipped": flip_anywhere,
    "cut short": cut,
    "two files spliced": splice,
    "header edited": edit_header,
    EDIT: edit,
}
LARGEST = "as many different layers as are read"
EXPECTED = {way: {EQUAL, REFUSED} for way in WAYS}
EXPECTED |= {LEAVE: {EQUAL}, LARGEST: {EQUAL}, FLIP: {REFUSED}, EDIT: {EQUAL, OTHER, REFUSED}}


# The child: paths come in, and outcomes go out


def child():
    gc.freeze()  # what the imports made
    for line in sys.stdin:
        name, path = json.loads(line)
        print(json.dumps(outcome_within_limits(name, Path(path))), flush=True)


def outcome_within_limits(name, path):
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak of the memory begins anew
    start, held = time.process_time(), memory("VmRSS")
    resource.setrlimit(resource.RLIMIT_CPU, (int(start) + 2 * SECONDS, resource.RLIM_INFINITY))
    what = outcome(name, path)
    seconds, megabytes = time.process_time() - start, memory("VmHWM") - held
    what = SLOW if seconds > SECONDS else LARGE if megabytes > MEGABYTES else what
    return what, seconds, megabytes


def outcome(name, path):
    try:
        loaded, original = loaded_and_original(name, path)
    except ValueError as error:
        return REFUSED if str(error).isprintable() and len(str(error)) < 1000 else f"{EXCEPTION}: {error!r:.300}"
    except BaseException as error:
        return f"{EXCEPTION}: {error!r:.300}"
    if jax.tree.structure(loaded) != jax.tree.structure(original):
        return OTHER
    return EQUAL if jax.tree.all(jax.tree.map(equal, loaded, original)) else OTHER


def loaded_and_original(name, path):
    """(what the file gives, what it gave before it was altered)."""
    if name == CHECKPOINT:
        content = tree_file.read(path)
        if not content.is_checked:
            raise ValueError(f"{path} has no checksum.")
        return ({tree: content.tree(tree, like) for tree, like in TREES.items()}, content.texts), (TREES, TEXTS)
    trained, settings, _ = model_file.read(path)
    return content_of(trained, settings), content_of(MODELS.get(name, trained), SETTINGS)


def content_of(trained, settings):
    """A tree of arrays and texts."""
    return trained._replace(network=repr(trained.network), loss=repr(trained.loss)), repr(settings)


def equal(v, w):
    """Whether two arrays, or two texts, are the same."""
    if isinstance(v, str):
        return v == w
    v, w = tree_file.on_host(v), tree_file.on_host(w)
    return v.dtype == w.dtype and np.array_equal(v, w)


def memory(which):
    """Of this process, in MB."""
    (kilobytes,) = re.findall(rf"{which}:\s*(\d+)", Path("/proc/self/status").read_text())
    return int(kilobytes) / 1024


# The parent


def fresh(process):
    """A child; the one before it is at its end."""
    if process is not None:
        process.communicate()
    return subprocess.Popen([sys.executable, __file__, "--child"], stdin=-1, stdout=-1, text=True)


def answer(process, name, path):
    """(what came of a file, seconds, MB); None for these if the child died of it."""
    print(json.dumps((name, str(path))), file=process.stdin, flush=True)
    line = process.stdout.readline()
    if line:
        return json.loads(line)
    return (SLOW if process.wait() == -signal.SIGXCPU else f"{EXCEPTION}: the process died of {process.wait()}"), 0, 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child()
    with tempfile.TemporaryDirectory() as folder:
        counts, seconds, megabytes = load_all(arguments.count, arguments.seed, Path(folder))
    print(f"{'':30}" + "".join(f"{what:>19}" for what in OUTCOMES))
    for way in WAYS:
        print(f"{way:30}" + "".join(f"{counts[way, what]:19,}" for what in OUTCOMES))
    flips = sum(counts[FLIP, what] for what in OUTCOMES)
    print(f"\nNoticed: {counts[FLIP, REFUSED]:,} of {flips:,} flipped bits of values.")
    print(f"The slowest took {seconds:.2f} s of the CPU, the largest {megabytes:.0f} MB.")
    return int(any(what not in EXPECTED[way] for way, what in counts))


def load_all(count, seed, folder):
    """({(way, outcome): how many}, most seconds, most MB)."""
    paths, path = originals(folder), folder / "altered"
    counts, most, process = collections.Counter(), (0, 0), None
    for i in range(count):
        way, draw = list(WAYS)[i % len(WAYS)], random.Random(f"{seed} {i}")
        name = draw.choice(list(paths))
        path.write_bytes(WAYS[way](paths[name], list(paths.values()), draw))
        if i % OF_A_CHILD == 0 or process.poll() is not None:
            process = fresh(process)
        what, *cost = answer(process, name, path)
        outcome, _, detail = what.partition(": ")
        counts[way, outcome] += 1
        most = tuple(map(max, most, cost))
        if outcome not in EXPECTED[way]:
            print(f"file {i}, {name}, {way}: {outcome} {detail} {cost}")
    write_different_layers(path)
    what, seconds, megabytes = answer(fresh(process), "", path)
    print(f"{LARGEST}: {what}, {seconds:.2f} s of the CPU, {megabytes:.0f} MB")
    counts[LARGEST, what] += 1
    return counts, *most


if __name__ == "__main__":
    sys.exit(main())
