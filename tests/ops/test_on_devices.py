"""Every op, layer and loss with its examples split over 8 devices, in all modes of JAX: the same gradients, each where
it belongs, and no row moved between devices. And with arrays split along the model axis."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PARTS = 8  # of all of them; one a day, all with --all


def told(program, devices, *arguments):
    """What a program here prints that runs on so many devices."""
    environment = {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE.parent)]),
    }
    command = [sys.executable, str(HERE / program), *map(str, arguments)]
    run = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.mark.sample(lambda part: "")
@pytest.mark.parametrize("part", range(PARTS))
def test_gradients_are_those_of_one_device(part):
    found = told("on_devices.py", 8, part, PARTS)
    assert len(found) > 10
    assert not [case for case in found if case[-1]]


def test_arrays_split_along_the_model_axis():
    found = told("on_model_axis.py", 4)
    assert len(found) == 12
    assert not [case for case in found if case[-1]]
