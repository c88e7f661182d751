"""Runs that are killed, interrupted, refused a disk: as a user has them, in processes of their own."""

import itertools
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import jax
import pytest

from jaxnn import cli
from jaxnn.commands import train as command
from jaxnn.storage import checkpoints, run_folder, run_record

JAXNN = Path(sysconfig.get_path("scripts"), "jaxnn")
LEARNED = ("model.safetensors", "history.csv", "iterations.csv")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, standard_promotion):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setattr(run_folder, "write_figure", lambda *_: None)  # a picture takes longer than its run


def jaxnn(*args):
    return cli.main([*map(str, args)])


def learned(folder):
    return [Path(folder, name).read_bytes() for name in LEARNED]


def begun(*args):
    """A process, and the first state of its run is written."""
    line, pipe = [JAXNN, *map(str, args)], subprocess.PIPE
    process = subprocess.Popen(line, text=True, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    while not [*Path().rglob("*.safetensors")]:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return process


def test_a_run_that_was_killed_goes_on_to_the_same_files(capsys):
    settings = ("train", "iris", "--hidden", 8, "--epochs", 10_000)
    with begun(*settings, "--out", "run") as process:
        process.kill()
    assert run_record.is_unfinished(Path("run"))
    assert jaxnn("train", "--resume", "run") == 0
    assert "Written to run" in capsys.readouterr().out
    assert jaxnn(*settings, "--out", "alone") == 0
    assert learned("run") == learned("alone")
    assert not Path("run", run_record.STATES).exists()
    assert jaxnn("train", "--resume", "run") == 0
    assert "run is finished" in capsys.readouterr().out


@pytest.mark.sample
@pytest.mark.parametrize("moment", [1, 3])
def test_a_sweep_that_was_killed_goes_on_to_the_same_files(monkeypatch, moment):
    """In the first group of networks, and in the second."""
    settings = ("sweep", "iris", "--widths", 2, 3, "--learning-rates", 0.1, "--seeds", 2, "--epochs", 20)
    killed_at(monkeypatch, moment, *settings)
    assert jaxnn("sweep", "--resume", "run") == 0
    assert jaxnn(*settings, "--out", "alone") == 0
    assert learned("run") == learned("alone")
    assert Path("run/results.csv").read_bytes() == Path("alone/results.csv").read_bytes()


def killed_at(monkeypatch, moment, *args):
    """A run that was killed after so many states."""
    save, left = checkpoints.save, itertools.count(1)

    def dies(*given):
        save(*given)
        if next(left) >= moment:
            raise SystemExit(9)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "save", dies)
        with pytest.raises(SystemExit):
            jaxnn(*args, "--out", "run")
    return Path("run")


ENDLESS = ("train", "iris", "--hidden", 2, "--epochs", 10_000_000)


@pytest.mark.sample
@pytest.mark.parametrize(("name", "code", "times"), [("SIGTERM", 143, 1), ("SIGINT", 130, 3)])
def test_a_signal_keeps_what_was_learned(name, code, times):
    with begun(*ENDLESS) as process:
        for _ in range(times):
            process.send_signal(getattr(signal, name))
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "")
    assert "Interrupted in epoch" in out or "Interrupted after epoch" in out
    assert "To go on: jaxnn train --resume runs/iris" in out
    assert {*LEARNED, run_record.STATES} <= {path.name for path in Path("runs/iris").iterdir()}


def test_a_sweep_that_is_interrupted_says_how_to_go_on():
    with begun("sweep", "iris", "--epochs", 1_000_000) as process:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err == "jaxnn: interrupted; to go on: jaxnn sweep --resume runs/iris-sweep\n"


@pytest.mark.sample
@pytest.mark.parametrize("moment", ["tyro", "jax"])
def test_ctrl_c_while_it_starts_is_130_without_a_word(tmp_path, moment):
    """Sent by the import of a module, the earliest of which is the command's own."""
    code = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {moment!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.argv = ['jaxnn', 'train', 'iris', '--epochs', '1']\n"
        "from jaxnn.__main__ import main\n"
        "sys.exit(main())\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (130, "")


def test_after_written_to_the_exit_code_is_0():
    code = (
        "import os, signal, jaxnn.commands.train as c\n"
        "written = c.written\n"
        "def late(folder):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return written(folder)\n"
        "c.written = late\n"
        "import atexit; atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "import sys; sys.argv = ['jaxnn', 'train', 'iris', '--epochs', '1']\n"
        "from jaxnn.__main__ import main\n"
        "sys.exit(main())\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Written to runs/iris" in ended.stdout


@pytest.fixture
def killed(monkeypatch):
    """A run that was killed when its first state was kept."""
    settings = ("train", "data.csv", "--epochs", 6, "--hidden", 2)
    Path("data.csv").write_text("".join(f"{n % 7},{n % 5},{n % 3}\n" for n in range(40)))
    assert jaxnn(*settings, "--out", "alone") == 0
    return killed_at(monkeypatch, 1, *settings)


def refused(capsys, *args):
    capsys.readouterr()
    assert jaxnn(*args) == 2
    return capsys.readouterr().err


def test_other_settings_are_refused(killed, capsys):
    for flags, words in (
        (["--epochs", 7], "--epochs is 7, and run was begun with 6: leave it out"),
        (["--learning-rate", 0.5], "--learning-rate is 0.5, and run was begun with None: leave it out"),
        (["--no-shuffle"], "--shuffle is False, and run was begun with True"),
        (["--hidden", 3, 4], "--hidden is (3, 4), and run was begun with (2,)"),
        (["--out", "x"], "--out is x, and run was begun with run"),
        (["--hidden"], "--hidden is (), and run was begun with (2,)"),
        (["--epochs", 50], "--epochs is 50, and run was begun with 6"),  # what it would be if it were not given
    ):
        assert words in refused(capsys, "train", "--resume", killed, *flags)


def test_the_same_settings_and_those_of_the_process_are_taken(killed):
    again = ("train", "data.csv", "--resume", killed, "--out", killed, "--epochs", 6, "--hidden", 2)
    assert jaxnn(*again, "--no-cache", "--checkpoint-every", "2s") == 0
    assert learned("run") == learned("alone")


def test_a_record_of_another_version_is_refused(killed, capsys):
    record = json.loads((killed / run_record.RECORD).read_text())
    record["settings"]["of tomorrow"] = 3
    (killed / run_record.RECORD).write_text(json.dumps(record))
    assert "run is of another version of jaxnn" in refused(capsys, "train", "--resume", killed)


def test_states_that_the_user_removed_are_made_again(killed):
    shutil.rmtree(killed / run_record.STATES)
    assert jaxnn("train", "--resume", killed) == 0
    assert learned("run") == learned("alone")


def test_other_data_are_refused(killed, capsys):
    Path("data.csv").write_text(Path("data.csv").read_text().replace("6,", "6.5,"))
    assert "is of another run: x differs" in refused(capsys, "train", "--resume", killed)


@pytest.mark.parametrize("text", ["1", "m", "-1s", "1d", "", "nan s", "infs"])
def test_how_often_is_a_number_and_a_unit(capsys, text):
    assert "give a number and s, m or h" in refused(capsys, "train", "iris", f"--checkpoint-every={text}")


def test_a_sweep_looks_at_every_width_before_it_trains_one(capsys):
    said = refused(capsys, "sweep", "iris", "--widths", 2, 1_000_000_000, "--epochs", 1)
    assert "of memory at least" in said
    assert not [*Path().iterdir()]


def test_a_terminal_that_is_closed_ends_no_training():
    """Its end is a SIGHUP, and then nothing can be written to it."""
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [JAXNN, *map(str, ENDLESS)], stdout=end, stderr=end, stdin=end, start_new_session=True
    ) as process:
        os.close(end)
        while not [*Path().rglob("*.safetensors")]:
            os.read(terminal, 10_000)
        os.close(terminal)
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 129
    assert {*LEARNED, run_record.STATES} <= {path.name for path in Path("runs/iris").iterdir()}


def no_room(*_):
    raise OSError(28, "No space left on device", "there")


def test_a_picture_that_cannot_be_drawn_loses_nothing(monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(run_folder, "write_figure", no_room)
    assert jaxnn("train", "iris", "--epochs", 1) == 0
    out = capsys.readouterr().out
    assert "There is no picture, for there: No space left on device." in out
    assert "Written to runs/iris: history.csv, iterations.csv, model.safetensors, run.json" in out


@pytest.mark.parametrize("message", ["", "\n$x^$\n     ^\nParseSyntaxException"])
def test_whatever_matplotlib_makes_of_a_title_is_said_on_one_line(monkeypatch, capsys, message):
    pytest.importorskip("matplotlib")

    def fails(*_):
        raise ValueError(message)

    monkeypatch.setattr(run_folder, "write_figure", fails)
    assert jaxnn("train", "iris", "--epochs", 1) == 0
    (said,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("There is no picture: "))
    assert said.removeprefix("There is no picture: ").startswith(r"\n$x^$" if message else "ValueError")


def test_a_model_that_cannot_be_written_keeps_the_run(monkeypatch, capsys):
    with monkeypatch.context() as patched:
        patched.setattr(run_folder.model_file, "save", no_room)
        said = refused(capsys, "train", "iris", "--epochs", 2)
    assert said == (
        "jaxnn: Cannot write there: No space left on device. The run is kept in runs/iris; make room, then: "
        "jaxnn train --resume runs/iris\n"
    )
    assert jaxnn("train", "--resume", "runs/iris") == 0
    assert jaxnn("train", "iris", "--epochs", 2) == 0
    assert learned("runs/iris") == learned("runs/iris-2")


def test_a_folder_that_vanished_is_made_again(monkeypatch, capsys):
    trained = command.fitted

    def and_vanished(*args):
        fit = trained(*args)
        shutil.rmtree("runs")
        return fit

    monkeypatch.setattr(command, "fitted", and_vanished)
    assert jaxnn("train", "iris", "--epochs", 1) == 0
    assert "Written to runs/iris" in capsys.readouterr().out
    assert Path("runs/iris/model.safetensors").is_file()


def test_runs_that_were_killed_are_offered_at_the_next_start(killed, capsys):
    os.rename("run", "killed-run")
    assert jaxnn("train", "iris", "--epochs", 1, "--out", "next") == 0
    assert "Left by runs that were killed: killed-run. To go on with one: jaxnn train --resume killed-run" in (
        capsys.readouterr().out.replace("\n", " ")
    )
