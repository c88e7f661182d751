"""Our own layers and losses, proven by our own verifier, with the NumPy twin as one more witness."""

import numpy as np
import pytest
from columns import from_columns, params_from_columns, to_columns
from witnesses import in_columns, target

from jaxnn import verify
from jaxnn.examples import LAYERS, LOSSES, draw_params, draw_x, draw_y, draw_z
from reference import losses as twin_losses
from reference.vjp import vjp


@pytest.mark.sample(lambda name: [*LAYERS].index(name) // 2)
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_is_proven(name):
    layer, _, inner, _ = LAYERS[name]
    rng = np.random.default_rng(0)
    params, x = draw_params(layer, rng, np.float32), np.asarray(draw_x(LAYERS[name], rng, np.float32))

    def twin(params, x, dout):
        dparams, dx = vjp(layer, *in_columns(layer, params, x, dout, inner))
        return params_from_columns(dparams, params), from_columns(dx, np.shape(x))

    report = verify.assert_layer(layer, x, params, reference=twin, require="exact", strict=True)
    assert {w.name: w.agrees_with_truth for w in report.witnesses} == dict.fromkeys(
        ("differences at high precision", "reference"), True
    )


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_proven(name):
    loss, shape, kind = LOSSES[name]
    rng = np.random.default_rng(0)
    z, y = np.asarray(draw_z(LOSSES[name], rng, np.float32)), draw_y(kind, rng, shape, np.float32)

    def twin(z, y):
        return from_columns(twin_losses.twin(loss).gradient(loss, to_columns(z), target(z, y), None), np.shape(z))

    report = verify.assert_loss(loss, z, y, reference=twin, require="exact", strict=True)
    assert all(w.agrees_with_truth for w in report.witnesses)
    assert "reference" in {w.name for w in report.witnesses}


def test_the_twin_as_a_witness_can_disagree():
    layer, shape, *_ = LAYERS["dense"]
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    report = verify.layer(layer, x, reference=lambda params, x, dout: (params, x))
    assert [w.agrees_with_truth for w in report.witnesses if w.name == "reference"] == [False]
    assert any("The reference is wrong" in note for note in report.notes)
