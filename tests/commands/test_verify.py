"""`jaxnn verify`, as a person uses it: most in this process, a few of its ways in processes of their own."""

import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxnn import cli, verify
from jaxnn.catalogue import names
from jaxnn.commands import config, own_process
from jaxnn.commands import verify as verify_command
from jaxnn.examples import LAYERS, LOSSES
from jaxnn.storage import text_file
from jaxnn.verify.decide import Options

JAXNN = Path(sysconfig.get_path("scripts"), "jaxnn")

LECTURE = '''"""Two layers, one example a column: NumPy alone."""

import numpy as np
from slopes import dsigmoid


def example(key):
    rng = np.random.default_rng(0)
    params = {"W1": rng.normal(size=(5, 3)), "b1": rng.normal(size=(5, 1)), "W2": rng.normal(size=(2, 5))}
    return params, rng.normal(size=(3, 7)), rng.uniform(size=(2, 7))


def sigmoid(Z):
    return 1 / (1 + np.exp(-Z))


def forward(params, X):
    Z1 = np.dot(params["W1"], X) + params["b1"]
    A1 = sigmoid(Z1)
    return Z1, A1, sigmoid(np.dot(params["W2"], A1))


def cost(params, X, Y):
    m = X.shape[1]
    _, _, A2 = forward(params, X)
    return -1 / m * np.sum(Y * np.log(A2) + (1 - Y) * np.log(1 - A2))


def grad(params, X, Y):
    m = X.shape[1]
    Z1, A1, A2 = forward(params, X)
    dZ2 = A2 - Y
    dW2 = 1 / m * np.dot(dZ2, A1.T)
    dZ1 = np.dot(params["W2"].T, dZ2) * dsigmoid(A1)
    dW1 = 1 / m * np.dot(dZ1, X.T)
    db1 = 1 / m * np.sum(dZ1, axis=1, keepdims=True)
    return {"W1": dW1, "b1": db1, "W2": dW2}
'''
NEIGHBOUR = "def dsigmoid(A):\n    return A * (1 - A)\n"
TEMPLATE = Path(verify_command.__file__).with_name("verify_template.py").read_text(encoding="utf-8")
SMALL = """import jax
import numpy as np
from jax import numpy as jnp

def example(key):
    return jax.random.normal(key, (3,)), np.arange(3.0, dtype=np.float32)

def cost(w, x):
    return ((w - x) ** 2).sum() / 2

def grad(w, x):
    return w - x
"""


@pytest.fixture
def here(tmp_path, monkeypatch, standard_promotion):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setattr(own_process, "ask", own_process.answer)  # what the child does, without one
    Path("slopes.py").write_text(NEIGHBOUR)
    Path("lecture.py").write_text(LECTURE)
    with jax.numpy_rank_promotion("allow"):  # as in a process of its own
        yield tmp_path
    sys.modules.pop("slopes", None)


def changed(source, old, new):
    assert old in source
    Path("mine.py").write_text(source.replace(old, new))
    return "mine.py"


def jaxnn_verify(*args):
    return cli.main(["verify", *map(str, args)])


def refused(capsys, *args):
    """What a command given bad input says; it writes nothing."""
    before = {*Path().rglob("*")}
    assert jaxnn_verify(*args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert {*Path().rglob("*")} == before
    assert err.startswith("jaxnn: ")
    assert err.endswith("\n")
    return err.removeprefix("jaxnn: ").removesuffix("\n")


# In a process of its own


def test_help_imports_nothing_slow():
    code = "import sys, jaxnn.cli\ntry: jaxnn.cli.main(sys.argv[1:])\nfinally: print(*sys.modules, file=sys.stderr)"
    ended = subprocess.run([sys.executable, "-c", code, "verify", "--help"], capture_output=True, encoding="utf-8")
    assert ended.returncode == 0
    for word in ("--new", "--html", "--json", "--key", "--points", "--digits", "--strict", "--require", "Exit code"):
        assert word in ended.stdout
    assert not {"jax", "numpy", "rich", "flint"} & {*ended.stderr.split()}


def test_a_right_lecture_in_numpy_from_another_folder(here):
    """The file's neighbour is found, nothing is left behind, nothing of the training is imported, and JAX is only where
    the formulas run."""
    Path("elsewhere").mkdir()
    modules = "import atexit, sys\natexit.register(lambda: print('child', *sys.modules, file=sys.stderr, flush=True))\n"
    Path("slopes.py").write_text(modules + NEIGHBOUR)
    code = "import sys, jaxnn.cli\ncode = jaxnn.cli.main(sys.argv[1:])\nprint('parent', *sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", f"{code}\nexit(code)", "verify", "../lecture.py", "--json", "found.json"]
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", cwd="elsewhere")
    assert ended.returncode == 0
    assert ended.stdout.startswith("PASS  gradient in lecture.py: right, ")
    assert ended.stdout.endswith("replay     jaxnn verify ../lecture.py\n")
    assert not {"\x1b", "\r"} & {*ended.stdout}
    lines = [line.split() for line in ended.stderr.splitlines()]  # among them, on a slow machine, that it takes long
    child, parent = ({*line} for line in lines if line[0] in ("child", "parent"))
    assert {"child", "jax", "slopes"} <= child
    assert not {"optax", "jaxnn.commands.train", "jaxnn.training", "jaxnn.data", "lecture"} & child
    assert not {"jax", "numpy", "rich", "lecture", "slopes"} & parent
    assert {str(path) for path in Path().rglob("*")} == {
        *("elsewhere", "elsewhere/found.json", "lecture.py", "slopes.py")
    }


def test_a_name_without_an_ending_is_a_python_file_everywhere(here, capsys):
    assert jaxnn_verify("--new", "net") == 0
    assert capsys.readouterr().out == "Written to net.py: put your formulas in, then run: jaxnn verify net.py\n"
    Path("mine.py").write_text(SMALL)
    assert jaxnn_verify("mine", "--points", "given") == 0
    assert capsys.readouterr().out.endswith("replay     jaxnn verify mine.py --points given\n")
    assert cli.main(["explain", "mine"]) == 0
    assert "∂J/∂w" in capsys.readouterr().out
    Path("iris.py").write_text(SMALL)
    assert cli.main(["explain", "iris", "--hidden"]) == 0  # the data set
    assert capsys.readouterr().out.startswith("6 examples of iris; ")
    Path("mine").touch()
    assert "mine is no .py file" in refused(capsys, "mine")


def test_ctrl_c_leaves_nothing(here):
    """No file, and no process of the two, at once."""
    sleep = "print(__import__('os').getpid(), flush=True)\n    __import__('time').sleep(60)"
    changed(SMALL, "def example(key):", f"def example(key):\n    {sleep}")
    before = {*Path().iterdir()}
    command = [JAXNN, "verify", "mine.py", "--html", "page.html"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "jaxnn: interrupted; nothing is written.\n"
    assert process.returncode == 130
    assert time.monotonic() - start < 2
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert {*Path().iterdir()} == before


# A user's file


def test_the_template_passes_as_written(here, capsys):
    assert jaxnn_verify("--new", "net.py") == 0
    assert capsys.readouterr().out == "Written to net.py: put your formulas in, then run: jaxnn verify net.py\n"
    assert jaxnn_verify("net.py") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("PASS  gradient in net.py: right, ")
    assert "precision  float32: hand " in out


@pytest.mark.parametrize(
    ("old", "new", "leaves"),
    [
        ("dZ2 = A2 - Y", "dZ2 = (A2 - Y) / m", {"W1", "b1", "W2"}),
        ("dsigmoid(A1)", "dsigmoid(Z1)", {"W1", "b1"}),
        ("db1 = 1 / m * np.sum(", "db1 = 1 / m * np.mean(", {"b1"}),
        ("np.dot(dZ1, X.T)", "np.dot(dZ1, X.T).T.reshape(5, 3)", {"W1"}),
        ("dZ2 = A2 - Y", "dZ2 = (A2 - Y) * (1 + 1e-7)", {"W1", "b1", "W2"}),
    ],
    ids=["1/m twice", "sigmoid′ at z", "bias averaged", "transposed", "in the 7th digit"],
)
def test_classic_faults_in_numpy(here, capsys, old, new, leaves):
    assert jaxnn_verify(changed(LECTURE, old, new)) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("FAIL  gradient in mine.py: ")
    assert {*re.findall(r"^\['(\w+)'\] +FAIL", out, re.M)} == leaves


def test_a_fault_in_jax(here, capsys):
    assert jaxnn_verify(changed(TEMPLATE, "1 - a1**2", "1 - a1")) == 1
    assert {*re.findall(r"^\['(\w+)'\] +FAIL", capsys.readouterr().out, re.M)} == {"W1", "b1"}


def test_value_and_gradient_and_the_same_points_again(here, capsys):
    source = SMALL.replace("return jax", "print('drawn', jax.random.key_data(key))\n    return jax")
    path = changed(source, "return w - x", "return cost(w, x), w - x")
    said = []
    for key in (3, 3, 4):
        assert jaxnn_verify(path, "--key", key, "--digits", 20, "--strict", "--require", "exact") == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]
    assert said[0].startswith("drawn [0 3]\ndrawn [")  # and data are drawn anew
    assert said[0].endswith("replay     jaxnn verify mine.py --key 3 --digits 20 --strict --require exact\n")
    assert jaxnn_verify(path, "--points", "given") == 0
    assert "points: given\n" in capsys.readouterr().out


def test_inconclusive(here, capsys):
    path = changed(SMALL, "return ((w - x) ** 2).sum() / 2", "return jnp.log(-((w - x) ** 2)).sum()")
    assert jaxnn_verify(path) == 3
    assert capsys.readouterr().out.startswith("INCONCLUSIVE  gradient in mine.py: the true value is not finite")


def test_what_is_understood_is_said(here, capsys):
    source = SMALL.replace("jax.random.normal(key, (3,))", "np.array([3, 1, 2])").replace(".sum() / 2", ".sum() / 2, x")
    for factor, code in (("", 0), (" * 2", 1)):
        assert (
            jaxnn_verify(changed(source, "return w - x", f"return (w - x)[None]{factor}"), "--points", "given") == code
        )
        notes = re.findall(r"^note +(.+)", capsys.readouterr().out, re.M)
        assert notes[:3] == [
            "whole numbers are taken as floats: w",
            "cost returned 2 things: J is the first, the only number",
            "grad returned shape (1, 3) for the argument, whose shape is (3,): its entries are taken in their order; "
            "an update with it has another shape",
        ]


def test_verdicts_are_coloured_on_a_terminal(here, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert jaxnn_verify(changed(LECTURE, "A2 - Y", "Y - A2")) == 1
    assert "\x1b[1;31mFAIL\x1b[0m  gradient" in capsys.readouterr().out


NEEDED = "A file to verify defines cost(params, *data), grad(params, *data) and example(key) -> (params, *data)."


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def grad", "def gradient", f"mine.py defines no grad, but gradient: rename it? {NEEDED}"),
        ("def cost", "def loss", f"mine.py defines no cost, but loss: rename it? {NEEDED}"),
        ("def cost", "def costs", f"mine.py defines no cost, but costs: rename it? {NEEDED}"),
        ("def example", "def hello", f"mine.py defines no example. {NEEDED}"),
        ("def grad(w, x)", "grad = 3\ndef other(w, x)", f"grad in mine.py is no function: a {NEEDED[2:]}"),
        (
            "def example(key)",
            "def example()",
            "mine.py: example() does not take one argument, a JAX key: too many positional arguments.",
        ),
        (
            "return w - x",
            "return w - x\nexample = lambda key: np.ones(3)",
            "example in mine.py returns ndarray: it must return a tuple (params, *data).",
        ),
        (
            "return w - x",
            "return w - x\nexample = lambda key: ()",
            "example in mine.py returns an empty tuple: it must return a tuple (params, *data).",
        ),
        (
            "def cost(w, x)",
            "def cost(w)",
            "mine.py: cost(w) does not take what example returns, params and data: too many positional arguments.",
        ),
        (
            "def grad(w, x)",
            "def grad(w, x, y)",
            "mine.py: grad(w, x, y) does not take what example returns, params and data: missing a required argument: "
            "'y'.",
        ),
        (
            "import jax\n",
            "import jaxx\n",
            "mine.py does not run. ModuleNotFoundError: No module named 'jaxx'\n"
            "  mine.py, line 1, in <module>: import jaxx",
        ),
        (
            "def cost(w, x)",
            "def cost(w, x",
            "mine.py does not run. SyntaxError: '(' was never closed (mine.py, line 8)",
        ),
        (
            "import jax\n",
            "raise SystemExit\n",
            "mine.py does not run. It ends Python: only what is under if __name__ == '__main__' may do so.\n"
            "  mine.py, line 1, in <module>: raise SystemExit",
        ),
        (
            "return jax.random",
            "np.random.default_rng(key)\n    return jax.random",
            "mine.py does not run. TypeError: SeedSequence expects int or sequence of ints for entropy not ",
        ),
        (
            "return w - x",
            "return helper(w, x)\ndef helper(w, x):\n    raise KeyError('two\\nlines')",
            "mine.py does not run. KeyError: 'two\\nlines'\n  mine.py, line 12, in grad: return helper(w, x)\n"
            "  mine.py, line 14, in helper: raise KeyError('two\\nlines')",
        ),
        (
            "return w - x",
            "raise ValueError('one\\ntwo')",
            "mine.py does not run. ValueError: one\n  mine.py, line 12, in grad: raise ValueError('one\\ntwo')",
        ),
        (".sum() / 2", "", "cost returned shape (3,): a cost is one number, a sum or a mean."),
        ("return w - x", "return {'w': w - x}", "grad returned nothing for"),
        ("return w - x", "return (w - x)[:2]", "grad returned shape (2,) for"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(here, capsys, old, new, message):
    said = refused(capsys, changed(SMALL, old, new))
    assert said.startswith(message)
    assert said == message or not message.endswith((".", ")"))


def test_an_error_in_a_neighbour_names_its_line(here, capsys):
    Path("slopes.py").write_text("half = 1 /\n")
    assert (
        refused(capsys, "lecture.py") == "lecture.py does not run. SyntaxError: invalid syntax (slopes.py, line 1)\n"
        "  lecture.py, line 4, in <module>: from slopes import dsigmoid"
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["none.py"], "There is no file none.py; jaxnn verify --new none.py writes an example."),
        (["folder"], "folder is a folder: give a Python file that defines cost(params, *data), "),
        (["notes.txt"], "notes.txt is no .py file: give a Python file that defines cost(params, *data), "),
        (["json.py"], "json.py has the name of a module that is in use, json: rename the file."),
        (["lecture.py", "--html", "folder"], "Cannot write folder: it is a folder."),
        (["--json", "no/found.json"], "Cannot write no/found.json: No such file or directory."),
        (["--html", "lecture.py/page.html"], "Cannot write lecture.py/page.html: Not a directory."),
        (["lecture.py", "--json", "./lecture.py"], "Cannot write lecture.py: it is the file to verify."),
        (["--json", "x", "--html", "x"], "--html and --json are both x: give them different names."),
        (["--new", "lecture.py"], "lecture.py is there already: give another name."),
        (["--new", "net.txt"], "--new net.txt: the name of a Python file ends in .py."),
        (["--new", "folder"], "--new folder: the name of a Python file ends in .py."),
        (["none"], "There is no file none.py; jaxnn verify --new none.py writes an example."),
        (["none.txt"], "none.txt is no .py file: give a Python file that defines cost(params, *data), "),
        (["--new", "lecture"], "lecture.py is there already: give another name."),
        (["lecture", "--json", "lecture.py"], "Cannot write lecture.py: it is the file to verify."),
        (["--new", "no/net.py"], "Cannot write no/net.py: No such file or directory."),
        (
            ["lecture.py", "--new", "net.py"],
            "--new writes a file and verifies nothing: give it alone, then verify the file.",
        ),
        (["--key", "-1"], "--key is -1: it must be 0 or more, and below 2³¹."),
        (["--digits", "0"], "--digits is 0.0: it must be a positive number, 1000 at most."),
        (["--digits", "nan"], "--digits is nan: it must be a positive number, 1000 at most."),
        (["--rules", "a.py"], "--rules a.py: give a file and a function in it, such as train.py:step."),
        (["--rules", "none.py:step"], "There is no file none.py; jaxnn verify --new none.py writes an example."),
        (["--rules", "json.py:cost"], "json.py has the name of a module that is in use, json: rename the file."),
        (
            ["--rules", "lecture.py:cost", "lecture.py"],
            "--rules asks of the rules in its own file: give it without FILE.py, --new and --power.",
        ),
        (["--rules", "lecture.py:cost", "--json", "lecture.py"], "Cannot write lecture.py: it is the file to verify."),
        (
            ["--rules", "lecture.py:step"],
            "lecture.py defines no function step: a file whose rules are verified defines step and example(key), which "
            "returns the tuple of the arguments of step.",
        ),
    ],
)
def test_bad_arguments_are_named_at_once(here, capsys, monkeypatch, args, message):
    monkeypatch.setattr(verify_command, "rules", None)  # not reached
    Path("folder").mkdir()
    Path("notes.txt").touch()
    Path("json.py").write_text(SMALL)
    said = refused(capsys, *args)
    assert said == message or (said.startswith(message) and message.endswith(", "))
    assert Path("lecture.py").read_text() == LECTURE


def test_flags_are_the_verifiers():
    defaults = config.Verify()
    assert all(
        getattr(defaults, name) == getattr(Options(), name) for name in ("points", "digits", "strict", "require")
    )


# The rules that a step calls

STEP = """import jax
from jax import numpy as jnp

@jax.custom_jvp
def cube(x):
    return x**3

cube.defjvps(lambda dx, out, x: 3 * x**2 * dx)

def example(key):
    return jax.random.normal(key, (40, 30)), 0.1

def cost(w):
    return cube(jax.nn.relu(w)).sum()

@jax.jit
def step(w, rate):
    return w - rate * jax.grad(cost)(w)

def plain(w, rate):
    return w - rate
"""


@pytest.mark.parametrize(("new", "code", "verdict"), [("3", 0, "PASS"), ("2", 1, "FAIL")])
def test_the_rules_of_a_step(here, capsys, new, code, verdict):
    changed(STEP, "3 * x**2", f"{new} * x**2")
    assert jaxnn_verify("--rules", "mine.py:step", "--json", "found.json", "--html", "page.html") == code
    out = capsys.readouterr().out
    assert out.startswith(f"{verdict}  custom rules in step: 1 {verdict}\n")
    assert re.search(rf"cube +mine.py:4 +mine.py:14 +\(40, 30\) +\(4, 3\) +{verdict} +exact ", out)
    assert "skipped    relu" in out
    found = json.loads(Path("found.json").read_text())
    assert (found["verdict"], found["reports"][0]["title"]) == (
        verdict,
        "rule of cube at mine.py:4, of (40, 30) cut to (4, 3)",
    )
    assert verdict in Path("page.html").read_text()


def test_a_step_without_rules_or_with_an_error(here, capsys):
    changed(STEP, "w - rate\n", "w['b'] - rate\n")
    Path("step.py").write_text(STEP)
    assert refused(capsys, "--rules", "step.py:plain") == ("plain calls no custom derivative rule that can be checked.")
    assert refused(capsys, "--rules", "mine.py:plain").startswith("mine.py does not run. ")


# Pages and JSON


def test_html_and_json_are_written_whole(here, capsys):
    path = changed(LECTURE, "A2 - Y", "Y - A2")
    Path("page.html").write_text("of yesterday")
    assert jaxnn_verify(path, "--html", "page.html", "--json", "found.json") == 1
    assert capsys.readouterr().err == ""
    page = Path("page.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert page.endswith("</html>\n")
    assert "gradient in mine.py" in page
    found = json.loads(Path("found.json").read_text(encoding="utf-8"))
    assert found["verdict"] == "FAIL"
    assert found["versions"] == {"jaxnn": "0.1.0", "jax": jax.__version__, "python": sys.version.split()[0]}
    assert [r["title"] for r in found["reports"]] == ["gradient in mine.py"]
    assert {leaf["path"]: leaf["verdict"] for leaf in found["reports"][0]["leaves"]} == {
        f"['{name}']": "FAIL" for name in ("W1", "b1", "W2")
    }


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_write_leaves_what_was_there(here, monkeypatch, error):
    def replace(*_):
        raise error

    monkeypatch.setattr(os, "replace", replace)
    Path("page.html").write_text("of yesterday")
    before = {*Path().iterdir()}
    with pytest.raises((KeyboardInterrupt, ValueError), match=r"^$|Cannot write page.html: No space left on device\."):
        text_file.write(Path("page.html"), "new")
    assert Path("page.html").read_text() == "of yesterday"
    assert {*Path().iterdir()} == before


# Everything that ships


ALL = [*verify_command.rules({"key": 0})]
PARTS = 4


@pytest.mark.sample
@pytest.mark.parametrize("part", range(PARTS))
def test_all_that_ships_is_right(here, capsys, monkeypatch, part):
    monkeypatch.setattr("jaxnn.verify.decide.grades", lambda *_, **__: ())  # compiling takes as long as all the rest
    monkeypatch.setattr(verify_command, "rules", lambda options: ALL[part::PARTS])
    assert jaxnn_verify("--json", "found.json", "--html", "page.html") == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(Path("found.json").read_text(encoding="utf-8"))
    assert out.endswith(f"\n{len(ALL[part::PARTS])} rules: all PASS\n")
    assert len(found["reports"]) == len(ALL[part::PARTS])


def test_all_that_ships_is_asked():
    """Every layer and loss is in it, each activation and loss in a network, no two sizes of which are equal."""
    titles = [title for title, _ in ALL]
    assert {*LAYERS, *LOSSES, *(f"{name}, weighted" for name in LOSSES)} <= {*titles}
    networks = [title for title in titles if re.match(r"\d+–\d+", title)]
    assert all(any(f", {name}" in title for title in networks) for name in (*names("activations"), *LOSSES))
    assert all(len({*sizes}) == len(sizes) for sizes in (title.split(",")[0].split("–") for title in networks))
    for extra in ("L2", "one example", "–1–"):
        assert any(extra in title for title in networks)


@pytest.mark.parametrize("rules", ["train.py:", "train.py:a step", ":step"])
def test_a_step_is_a_function_in_a_file(here, capsys, rules):
    assert f"--rules {rules}: give a file and a function in it" in refused(capsys, "--rules", rules)


def asked(cost, grad):
    return partial(verify.gradient, cost, grad, np.float32([0.5, -0.25]), points="given")


@pytest.mark.parametrize(
    ("names", "code", "last"),
    [
        (["right", "wrong", "blind"], 1, "3 rules: 1 FAIL, 1 INCONCLUSIVE, 1 PASS: wrong; blind"),
        (["right", "blind"], 3, "2 rules: 1 INCONCLUSIVE, 1 PASS: blind"),
        (["right"], 0, "1 rules: all PASS"),
    ],
)
def test_rules_that_do_not_pass_are_printed_in_full(here, capsys, monkeypatch, names, code, last):
    rules = {
        "right": asked(lambda w: (w**2).sum(), lambda w: 2 * w),
        "wrong": asked(lambda w: (w**2).sum(), lambda w: w),
        "blind": asked(lambda w: jax.numpy.log(w).sum(), lambda w: 1 / w),
    }
    monkeypatch.setattr(verify_command, "rules", lambda options: [(name, rules[name]) for name in names])
    monkeypatch.setenv("COLUMNS", "120")
    assert jaxnn_verify() == code
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[-1] == last
    table, _, rest = out.partition("correct digits of the least accurate array")
    assert all(re.search(rf"│ {name} +│", table) for name in names)
    assert ("FAIL  wrong: " in rest, "INCONCLUSIVE  blind: " in rest) == ("wrong" in names, "blind" in names)
    assert "PASS  right" not in rest


def test_a_report_keeps_what_it_found_under_the_rules_name(here, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(verify_command, "page", lambda reports: seen.extend(reports) or "")
    rule = asked(lambda w: (w**2).sum(), lambda w: 2 * w)
    monkeypatch.setattr(verify_command, "rules", lambda options: [("rule", rule)])
    assert jaxnn_verify("--html", "page.html") == 0
    report = rule()
    assert replace(seen[0], seconds=0, title=report.title) == replace(report, seconds=0)
    assert seen[0].precision == tuple(g for g in report.precision if g.dtype == "float32") != ()
