"""Bad input to the norms and gates is one sentence, which says what to give."""

import jax
import pytest
from jax import numpy as jnp

from jaxnn import ops


def of(*shape, dtype=jnp.float32):
    return jnp.ones(shape, dtype)


half = jnp.bfloat16
WRONG_SHAPES = {
    "rms_norm, γ": (lambda: ops.rms_norm(of(2, 3), of(2)), r"rms_norm was given gamma of shape \(2,\).*give \(3,\)"),
    "layer_norm, β": (lambda: ops.layer_norm(of(2, 3), of(3), of(1, 3)), r"beta of shape \(1, 3\).*give \(3,\)"),
    "add_rms_norm, residual": (
        lambda: ops.add_rms_norm(of(2, 3), of(3), of(3)),
        r"add_rms_norm was given x of shape \(2, 3\) and residual of shape \(3,\)",
    ),
    "add_rms_norm, γ": (lambda: ops.add_rms_norm(of(2, 3), of(2, 3), of(2)), r"add_rms_norm was given gamma"),
    "add_layer_norm, residual": (lambda: ops.add_layer_norm(of(2, 3), of(2, 1), of(3)), "must have one shape"),
    "add_layer_norm, γ": (lambda: ops.add_layer_norm(of(2, 3), of(2, 3), of(1)), "add_layer_norm was given gamma"),
    "gated_rms_norm, gate": (lambda: ops.gated_rms_norm(of(2, 3), of(3), of(3)), "x of .* and gate of "),
    "gated_rms_norm, γ": (lambda: ops.gated_rms_norm(of(2, 3), of(2), of(2, 3)), "gated_rms_norm was given gamma"),
    "swiglu": (lambda: ops.swiglu(of(2, 3), of(3)), "swiglu was given gate of .* and up of "),
    "geglu": (lambda: ops.geglu(of(2, 3), of(2, 4)), "geglu was given gate of .* and up of "),
    "batch_norm, γ": (lambda: ops.batch_norm(of(2, 3), of(2), of(3)), r"batch_norm was given gamma .*give \(3,\)"),
    "batch_norm, no examples": (lambda: ops.batch_norm(of(0, 3), of(3), of(3)), "give one example or more"),
    "batch_norm, no axis of examples": (lambda: ops.batch_norm(of(3), of(3), of(3)), "give one example or more"),
    "group_norm, groups": (
        lambda: ops.group_norm(of(2, 6), of(6), of(6), 4),
        r"x of shape \(2, 6\) for 4 groups: give \(m, …, n\) with an n that they divide",
    ),
    "group_norm, no groups": (lambda: ops.group_norm(of(2, 6), of(6), of(6), 0), "for 0 groups"),
    "group_norm, no axis of examples": (lambda: ops.group_norm(of(6), of(6), of(6), 2), r"give \(m, …, n\)"),
    "weight_norm, g": (lambda: ops.weight_norm(of(2, 3), of(3)), r"weight_norm was given g of shape \(3,\).*\(2,\)"),
    "dyt, α": (lambda: ops.dyt(of(2, 3), of(3), of(3), of(3)), r"dyt was given alpha of shape \(3,\).*give \(\)"),
    "dyt, β": (lambda: ops.dyt(of(2, 3), of(), of(3), of(2)), "dyt was given beta"),
    "layer_scale, f": (lambda: ops.layer_scale(of(2, 3), of(3), of(3)), "x of .* and f of "),
    "layer_scale, λ": (lambda: ops.layer_scale(of(2, 3), of(2, 3), of(1)), "layer_scale was given lam"),
    "lora, B": (lambda: ops.lora(of(4, 3), of(2, 3), of(1, 3), of(1, 2)), r"B of \(1, 2\): give .* B \(n_out, r\)"),
    "lora, W": (lambda: ops.lora(of(4, 3), of(3), of(1, 3), of(2, 1)), "three matrices"),
}
OTHER_SETTINGS = {
    "geglu": (lambda: ops.geglu(of(3), of(3), "exact"), "give one of 'tanh', 'none'"),
    "dropout, 0": (lambda: ops.dropout(of(3), jax.random.key(0), 0.0), r"keep=0\.0: .* above 0 and at most 1"),
    "dropout, a percentage": (lambda: ops.dropout(of(3), jax.random.key(0), 80), "keep=80"),
}
OTHER_DTYPES = {
    "add_rms_norm": lambda: ops.add_rms_norm(of(2, 3), of(2, 3, dtype=half), of(3)),
    "add_layer_norm": lambda: ops.add_layer_norm(of(2, 3), of(2, 3), of(3), of(3, dtype=half)),
    "gated_rms_norm": lambda: ops.gated_rms_norm(of(2, 3), of(3), of(2, 3, dtype=half)),
    "swiglu": lambda: ops.swiglu(of(3), of(3, dtype=half)),
    "geglu": lambda: ops.geglu(of(3), of(3, dtype=half)),
    "softmax": lambda: ops.softmax(of(3, dtype=jnp.int32)),
    "batch_norm": lambda: ops.batch_norm(of(2, 3, dtype=half), of(3), of(3)),
    "group_norm": lambda: ops.group_norm(of(2, 4, dtype=half), of(4), of(4), 2),
    "l2_normalize": lambda: ops.l2_normalize(of(3, dtype=jnp.int32)),
    "weight_norm": lambda: ops.weight_norm(of(2, 3), of(2, dtype=half)),
    "dyt": lambda: ops.dyt(of(2, 3), of(dtype=half), of(3), of(3)),
    "layer_scale": lambda: ops.layer_scale(of(2, 3), of(2, 3), of(3, dtype=half)),
    "lora": lambda: ops.lora(of(4, 3), of(2, 3, dtype=half), of(1, 3), of(2, 1)),
    "dropout": lambda: ops.dropout(of(3, dtype=jnp.int32), jax.random.key(0), 0.5),
}


@pytest.mark.parametrize(
    ("call", "sentence"), [*WRONG_SHAPES.values(), *OTHER_SETTINGS.values()], ids=[*WRONG_SHAPES, *OTHER_SETTINGS]
)
def test_what_does_not_fit_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence) as refusal:
        call()
    assert str(refusal.value).count("\n") == 0


@pytest.mark.parametrize("op", OTHER_DTYPES)
def test_dtypes_that_differ_or_are_no_floats_are_refused(op):
    with pytest.raises(TypeError, match=f"^{op} was given .*: they must have one float dtype; cast with .astype"):
        OTHER_DTYPES[op]()
