"""The folder of a run: its own, however many begin at once; and found again, if it was killed."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from jaxnn.storage import hold, run_record, whole_file
from jaxnn.storage.run_record import MODEL, RECORD, STATES


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def begun(stack, wanted=None, name="r", command="train"):
    return stack.enter_context(run_record.begun(wanted, name, command, {"data": "iris"}, []))


def killed(folder, state=True):
    """What a run leaves that is killed."""
    with ExitStack() as stack:
        folder = begun(stack, folder)
        if state:
            (folder / STATES / "4.safetensors").touch()
        else:
            (folder / MODEL).touch()
    (folder / MODEL).unlink(missing_ok=True)
    return folder


def test_runs_that_begin_at_once_have_each_a_folder_of_their_own():
    Path("runs").mkdir()
    Path("runs/r").symlink_to("nowhere")
    Path("runs/r-2").write_text("a file")
    Path("runs/r-3").mkdir()
    Path("runs/r-3/mine").touch()
    with ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: begun(stack), range(40)))
        assert {*map(str, folders)} == {f"runs/r-{n}" for n in range(4, 44)}
        assert all(json.loads((folder / RECORD).read_text())["command"] == "train" for folder in folders)
    assert {path.name for path in Path("runs").iterdir()} == {"r", "r-2", "r-3"}


@pytest.mark.parametrize("left", [[], [whole_file.partial_of(Path(RECORD)).name]], ids=["empty", "half a record"])
def test_what_a_run_left_that_was_killed_before_its_record_is_taken(left):
    Path("runs/r").mkdir(parents=True)
    for name in left:
        Path("runs/r", name).touch()
    with ExitStack() as stack:
        assert [begun(stack), begun(stack)] == [Path("runs/r"), Path("runs/r-2")]
        assert {path.name for path in Path("runs/r").iterdir()} == {RECORD, STATES}


@pytest.mark.parametrize("there", ["folder", "file", "link"])
def test_a_folder_that_is_there_is_refused(there):
    path = Path("out")
    Path("mine").touch()
    of = {"folder": lambda: os.renames("mine", "out/mine"), "file": path.touch}
    of.get(there, lambda: path.symlink_to("nowhere"))()
    with pytest.raises(ValueError, match=r"^out is there already: give --out another name, or move it away\.$"):
        begun(ExitStack(), path)


def test_one_that_was_not_finished_is_offered():
    killed(Path("out"))
    with pytest.raises(ValueError, match=r"out is there already: .*, or go on with it: jaxnn train --resume out\."):
        begun(ExitStack(), Path("out"))


def test_runs_that_were_killed_are_found():
    assert run_record.left(Path("runs")) == []
    for name in "edcba":
        killed(Path("runs", name), state=name != "b")
    (line,) = run_record.left(Path("runs"))
    assert line == (
        "Left by runs that were killed: runs/a, runs/b, runs/c (and 2 more). "
        "To go on with one: jaxnn train --resume runs/a; or remove it."
    )
    (Path("runs/a") / MODEL).touch()
    run_record.finish(Path("runs/a"))
    (Path("runs/c") / MODEL).touch()  # interrupted: what it had learned is there
    for name, record in {"of another": '{"lr": 1}', "damaged": "[1"}.items():
        Path("runs", name, STATES).mkdir(parents=True)
        Path("runs", name, RECORD).write_text(record)
    with hold.held(Path("runs/b")):
        (line,) = run_record.left(Path("runs"))
    assert "runs/d, runs/e. " in line


@pytest.mark.parametrize("states", [(), ("4.safetensors",), ("width-8/4.safetensors",)])
def test_a_run_without_a_state_leaves_nothing_and_one_with_a_state_stays(states):
    def interrupted():
        with ExitStack() as stack:
            folder = begun(stack, Path("a/b/c"))
            for name in states:
                (folder / STATES / name).parent.mkdir(exist_ok=True)
                (folder / STATES / name).touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert run_record.is_unfinished(Path("a/b/c")) == bool(states) == Path("a").exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", "[" * 100_000, '{"format": "jaxnn run 1"}', "\0", '"x"'])
def test_a_record_that_is_none_is_refused(content):
    folder = killed(Path("run"))
    (folder / RECORD).write_text(content)
    with pytest.raises(ValueError, match=rf"^run/{RECORD} is .*: begin the run anew\.$"):
        run_record.settings_of(folder, "train")


def test_the_settings_of_a_run():
    assert run_record.settings_of(killed(Path("run")), "train") == {"data": "iris"}
    with pytest.raises(ValueError, match="run is of another command: jaxnn train --resume run"):
        run_record.settings_of(Path("run"), "sweep")
    with pytest.raises(ValueError, match=f"There is no run in nowhere: it has no {RECORD}"):
        run_record.settings_of(Path("nowhere"), "train")


def test_a_process_that_ends_lets_go():
    Path("run").mkdir()
    code = "from jaxnn.storage import hold; import os, pathlib; hold.held(pathlib.Path('run')).__enter__(); os._exit(0)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not hold.is_held(Path("run"))
