"""Every op, layer and loss with its examples split over 8 devices, in all modes of JAX: the same gradients, each where
it belongs, and no row moved between devices."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PARTS = 8  # of all of them; one a day, all with --all


@pytest.mark.sample(lambda part: "")
@pytest.mark.parametrize("part", range(PARTS))
def test_gradients_are_those_of_one_device(part):
    environment = {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "8",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE.parent)]),
    }
    command = [sys.executable, str(HERE / "on_devices.py"), str(part), str(PARTS)]
    run = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert run.returncode == 0, run.stderr
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(found) > 10
    assert not [case for case in found if case[-1]]
