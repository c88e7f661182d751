"""A file of each format that a run was ever kept in: it is read for ever."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from jaxnn import Activation, Chain, Checkpoint, Dense, HalfSquaredError, prepare
from jaxnn.commands import config
from jaxnn.storage import run_record, tree_file
from jaxnn.training.checkpoint import Kept

FORMATS = Path(__file__).parents[1] / "storage" / "formats"
NET = Chain((Dense(3, 2), Activation("tanh"), Dense(2, 1)))


@pytest.mark.usefixtures("standard_promotion")
def test_a_run_goes_on_from_its_state(tmp_path):
    shutil.copy(FORMATS / "checkpoint_1.safetensors", tmp_path / "4.safetensors")
    content = tree_file.read(FORMATS / "checkpoint_1.safetensors")
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    settings = {"epochs": 3, "batch_size": 2, "optimizer": optax.adam, "learning_rate": 0.01, "patience": 5}
    training = prepare(
        NET, HalfSquaredError(), x, x[:, :1], key=jax.random.key(0), validation=(x, x[:, :1]), **settings
    )
    keeper = Kept(Checkpoint(tmp_path, say=lambda _: None), json.loads(content.texts["run"]), axis=0)
    state, parts = keeper.start(training.start())
    assert np.array_equal(state.params[0].W, content.arrays["state/params/0/W"])
    assert (int(state.epoch), len(parts[0].cost)) == (2, 2)
    *_, (last, _) = training.states(state)
    assert int(last.epoch) == 3


def test_a_record_is_a_command_line(tmp_path):
    shutil.copy(FORMATS / "run_1.json", tmp_path / run_record.RECORD)
    settings = config.parsed(["train", "--resume", str(tmp_path)])
    assert settings == config.Train("iris", hidden=(8,), epochs=5, resume=tmp_path)
