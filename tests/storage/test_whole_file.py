"""Whatever happens while a file is written, it is there as a whole, or as it was."""

import os

import jax
import numpy as np
import pytest

from jaxnn import Dense, HalfSquaredError
from jaxnn.data.scale import Scale
from jaxnn.storage import model_file, text_file, whole_file
from jaxnn.trained import Trained


def save_model(path):
    scale = Scale(np.zeros(3), np.ones(3))
    params = Dense(3, 3).init(jax.random.key(0))
    model_file.save(path, Trained(Dense(3, 3), HalfSquaredError(), params, scale, scale, (), (), ("u", "v", "w")), {})


WRITERS = {
    "bytes": lambda path: whole_file.write(path, b"new"),
    "text": lambda path: text_file.write(path, "new"),
    "model": save_model,
}


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")], ids=["Ctrl-C", "full"])
@pytest.mark.parametrize("stage", ["fsync", "replace"])
@pytest.mark.parametrize("there", [True, False], ids=["over another", "new"])
@pytest.mark.parametrize("writer", WRITERS)
def test_an_exception_leaves_what_was_there(tmp_path, monkeypatch, writer, there, stage, error):
    def fails(*_):
        raise error

    path = tmp_path / "file"
    if there:
        path.write_text("old")
    monkeypatch.setattr(os, stage, fails)
    with pytest.raises((KeyboardInterrupt, OSError, ValueError)):
        WRITERS[writer](path)
    assert [file.name for file in tmp_path.iterdir()] == (["file"] if there else [])
    assert not there or path.read_text() == "old"


@pytest.mark.parametrize("writer", WRITERS)
def test_it_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch, writer):
    calls = []
    for name in ("fsync", "replace"):
        true = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, true=true: (calls.append(name), true(*args)))
    WRITERS[writer](tmp_path / "file")
    assert calls == ["fsync", "replace", "fsync"]  # the file, then its name, and the folder that has it
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("path", ["no folder/file", "file/in a file"])
def test_where_no_file_can_be_is_said(tmp_path, path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"Cannot write .*: (No such file or directory|Not a directory)"):
        text_file.write(tmp_path / path, "new")


def test_whether_it_could_be_written_is_seen_without_a_file(tmp_path):
    text_file.write(tmp_path / "file", None)
    assert not [*tmp_path.iterdir()]
    with pytest.raises(ValueError, match="it is a folder"):
        text_file.write(tmp_path, None)
