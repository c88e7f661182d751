"""Every op, layer and loss with its examples split over 8 devices, in all modes of JAX: the same gradients, each where
it belongs, no row moved between devices, and each device with its share of the work. And with arrays split along the
model axis, and with matrices that are `reduced` along the data axis."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PARTS = 8  # of all of them; one a day, all with --all


def told(program, devices, *arguments, flags=""):
    """What a program here prints that runs on so many devices, with these flags for XLA."""
    environment = {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "XLA_FLAGS": f"--xla_backend_optimization_level=0 {flags}",
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


@pytest.mark.sample(lambda part: "")
@pytest.mark.parametrize("part", range(2 * PARTS))
def test_each_device_does_its_share_of_the_work(part):
    # A fusion may compute a number twice, in one program and not in the other: no work could be compared.
    found = told("work_on_devices.py", 8, part, 2 * PARTS, flags="--xla_disable_hlo_passes=fusion")
    assert len(found) > 3
    assert not [case for case in found if case[2] > 1.1 or case[3] not in (0, 1)]


def test_arrays_split_along_the_model_axis():
    found = told("on_model_axis.py", 4)
    assert len(found) == 12
    assert not [case for case in found if case[-1]]


def test_the_sum_over_a_reduced_axis_is_left_to_the_caller():
    found = told("on_reduced_axes.py", 4)
    assert len(found) == 5
    assert not [case for case in found if case[-1]]
