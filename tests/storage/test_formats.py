"""Model files of every format that was ever written are read for ever, and predict what they predicted then.

In formats/: a run of `jaxnn train iris` and one of `jaxnn train linnerud`, of each format; and a language model.
"""

from pathlib import Path

import jax
import numpy as np
import pytest

from jaxnn.cli import main
from jaxnn.storage import model_file

FORMATS = Path(__file__).with_name("formats")
X = {
    "classes": np.array([[5.1, 3.5, 1.4, 0.2], [6.9, 3.1, 5.4, 2.1]]),
    "values": np.array([[5.0, 162.0, 60.0], [12.0, 110.0, 60.0]]),
}
Y_HAT = {
    "classes": [[0.32902175, 0.49330732, 0.17767085], [0.31417397, 0.35119015, 0.33463591]],
    "values": [
        [184.60294689181535, 35.4363914644806, 55.5473212306444],
        [182.034917064891, 36.06484968141756, 54.266839159671],
    ],
}
NAMES = {
    "classes": {"features": 4, "classes": 3, "targets": 0},
    "values": {"features": 3, "classes": 0, "targets": 3},
}


@pytest.mark.parametrize("kind", X)
@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_any_format_predicts_what_it_did(version, kind):
    with jax.enable_x64(True):
        trained, settings, remark = model_file.read(FORMATS / f"model_{version}_{kind}.safetensors")
        np.testing.assert_allclose(trained.predict(X[kind]), Y_HAT[kind], rtol=1e-6)
    assert {name: len(getattr(trained, name)) for name in NAMES[kind]} == NAMES[kind]
    assert settings["epochs"] == 20
    assert bool(remark) == (version == 1)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("command", ["predict", "explain"])
def test_the_commands_say_that_there_is_no_checksum(tmp_path, monkeypatch, capsys, command, version):
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    Path("run/model.safetensors").write_bytes((FORMATS / f"model_{version}_classes.safetensors").read_bytes())
    Path("rows.csv").write_text("5.1,3.5,1.4,0.2\n")
    assert main([command, "run", *(["rows.csv"] if command == "predict" else [])]) == 0
    shown = capsys.readouterr()
    assert shown.out
    assert shown.err.count("\n") == (version == 1)
    assert ("model.safetensors is a jaxnn model 1, which has no checksum" in shown.err) == (version == 1)


def test_a_prediction_that_is_not_finite_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    Path("run/model.safetensors").write_bytes((FORMATS / "model_2_classes.safetensors").read_bytes())
    Path("rows.csv").write_text("5.1,3.5,1.4,0.2\n5.1,1e300,1.4,0.2\n")
    assert main(["predict", "run", "rows.csv"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "The prediction of row 1 of rows.csv is not finite" in shown.err
    assert shown.err.count("\n") == 1


def test_the_format_that_is_written_is_among_them(tmp_path):
    trained = model_file.load(FORMATS / "model_2_classes.safetensors")
    model_file.save(tmp_path / "m", trained, model_file.settings(FORMATS / "model_2_classes.safetensors"))
    assert (tmp_path / "m").stat().st_size == (FORMATS / "model_2_classes.safetensors").stat().st_size


def test_a_language_model_goes_on_as_it_did(tmp_path, capsys):
    (tmp_path / "model.safetensors").write_bytes((FORMATS / "language_1.safetensors").read_bytes())
    assert main(["sample", str(tmp_path), "--prompt", "34", "--tokens", "12", "--temperature", "0"]) == 0
    assert capsys.readouterr().out == "34560123456012\n"
