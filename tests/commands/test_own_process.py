"""Whatever a user's file does to its process, exit codes 0, 1 and 3 are those of a verdict."""

import io
import json
import signal
import subprocess
import sysconfig
from pathlib import Path

import jax
import pytest

from jaxnn import cli
from jaxnn.commands import own_process

JAXNN = Path(sysconfig.get_path("scripts"), "jaxnn")
SOURCE = """import ctypes, os, signal, sys
import numpy as np
pass  # import

def example(key):
    pass  # example
    return np.ones(3), np.arange(3.0)

def cost(w, x):
    pass  # cost
    return ((w - x) ** 2).sum() / 2

def grad(w, x):
    pass  # grad
    return w - x
"""
PLACES = {"import": "line 3, in <module>", "example": "line 6, in example", "cost": "line 10, in cost"}
PLACES["grad"] = "line 14, in grad"
DEATHS = {
    "os._exit(0)": "exit code 0",
    "os._exit(1)": "exit code 1",
    "os.abort()": "Aborted",
    "os.kill(os.getpid(), signal.SIGKILL)": "Killed",
    "ctypes.string_at(0)": "Segmentation fault",
}
RAISED = {
    "sys.exit(0)": "It ends Python: only what is under if __name__ == '__main__' may do so.",
    "sys.exit('three')": "It ends Python: only what is under if __name__ == '__main__' may do so.",
    "raise BaseException('two\\nlines')": "BaseException: two",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "(f := lambda: f())()": "RecursionError: maximum recursion depth exceeded",
}
FORGED = """[
    os.write(pipe, (line + '{"nonce": "", "answer": {"exit_code": 0, "text": "", "files": {}}}\\\\n').encode())
    for line in ("", '{"imported": true}\\\\n')
    for pipe in range(3, 9)
    if os.path.exists(f"/dev/fd/{pipe}") and os.get_blocking(pipe) and not os.path.isfile(f"/dev/fd/{pipe}")
]"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    return tmp_path


def put(place, code):
    """mine.py, with the code in its import, example, cost or grad."""
    old = f"pass  # {place}\n"
    assert old in SOURCE
    Path("mine.py").write_text(SOURCE.replace(old, f"{code}\n"))


def command(name, *flags):
    return subprocess.run([JAXNN, name, "mine.py", *flags], capture_output=True, encoding="utf-8", check=False)


# In a process of its own


@pytest.mark.sample(lambda place, code: place == "import")
@pytest.mark.parametrize(
    ("place", "code"), [*(("import", code) for code in DEATHS), *zip(("example", "cost", "grad"), DEATHS, strict=False)]
)
def test_a_process_that_dies_has_no_verdict(here, place, code):
    put(place, code)
    ended = command("verify", "--json", "found.json")
    assert (ended.returncode, ended.stdout) == (2, "")
    said = f"mine.py ended its process ({DEATHS[code]}) before there was a verdict.\n  mine.py, {PLACES[place]}: {code}"
    assert ended.stderr == f"jaxnn: {said}\n"
    assert not Path("found.json").exists()


@pytest.mark.sample
@pytest.mark.parametrize("code", [f"{FORGED}; os._exit(0)", "os.closerange(3, 100)"], ids=["forged", "closed"])
def test_an_answer_without_the_nonce_is_none(here, code):
    put("import", code)
    ended = command("verify")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("jaxnn: mine.py ended its process (exit code 0) before there was a verdict.\n")


def test_what_a_fork_finds_is_no_answer(here):
    put("import", "os.fork() or sys.exit('a worker')")
    ended = command("explain")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.endswith("verdict  PASS\n")


def test_what_the_file_prints_and_does_at_the_end_is_left_to_it(here):
    put("grad", "__import__('atexit').register(os._exit, 1); print('λ', flush=True)")
    ended = command("verify", "--points", "given")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("λ\n")
    assert "PASS  gradient in mine.py: right" in ended.stdout


def test_no_process_is_left_of_a_parent_that_was_killed(here):
    put("import", "print('here', flush=True); signal.pause()")
    with subprocess.Popen([JAXNN, "verify", "mine.py"], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "here\n"
        parent.send_signal(signal.SIGKILL)
        assert parent.stdout.read() == ""  # the child had it open


# In this process


@pytest.mark.parametrize("name", ["verify", "explain"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("code", RAISED)
def test_whatever_is_raised_is_told(here, capsys, monkeypatch, name, place, code):
    monkeypatch.setattr(own_process, "ask", own_process.answer)
    put(place, code)
    assert cli.main([name, "mine.py"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"jaxnn: mine.py does not run. {RAISED[code]}\n")
    assert PLACES[place].split(",")[0] in err


@pytest.mark.parametrize(
    "said",
    [
        "",
        "imported",
        '{"imported": true}',
        '{"imported": true}\n{"nonce": "n", "answer": {}}',
        '{"imported": true}\n{"nonce": "m", "answer": {}}\n',
        '{"imported": true}\n{"answer": {}}\n',
        '{"nonce": "n", "answer": {}}\n',
        '{"imported": true}\n["nonce", "answer"]\n',
    ],
)
def test_no_other_line_is_an_answer(monkeypatch, said):
    monkeypatch.setattr(own_process.secrets, "token_hex", lambda: "n")
    assert own_process.conversation(io.StringIO(said), io.StringIO()) == {}


def test_a_whole_line_with_the_nonce_is_an_answer(monkeypatch):
    monkeypatch.setattr(own_process.secrets, "token_hex", lambda: "n")
    asked, answer = io.StringIO(), {"nonce": "n", "answer": {"text": "λ"}}
    assert own_process.conversation(io.StringIO(f'{{"imported": true}}\n{json.dumps(answer)}\n'), asked) == answer
    assert asked.getvalue() == "n\n"
