"""Where an argument has another type than the output, its cotangent has the argument's: inside `jax.shard_map`, where x
is each device's own and the other argument one for all."""

import jax
import numpy as np
from jax import numpy as jnp
from jax.sharding import PartitionSpec as P

from jaxnn import ops

GAMMA = np.array([2.0, -1.0, 0.5], np.float32)


def of_all(x, other):
    """Of each op its outputs: a dictionary."""
    key = jax.random.fold_in(jax.random.key(0), jax.lax.axis_index("data"))
    return {
        "add_rms_norm": ops.add_rms_norm(x, other, GAMMA),
        "add_rms_norm, the residual its own": ops.add_rms_norm(other, x, GAMMA),
        "add_layer_norm": ops.add_layer_norm(x, other, GAMMA),
        "layer_scale": ops.layer_scale(other, x, GAMMA),
        "dropout": ops.dropout(other, key, 0.5) + x,
    }


def test_what_all_devices_hold_has_one_cotangent_for_all():
    """JAX raises where a cotangent lacks the sum over the devices, on a mesh of one too."""

    def gradients(x, other):
        outs, pullback = jax.vjp(of_all, x, other)
        douts = jax.tree.map(jnp.cos, outs)
        none = jax.tree.map(jnp.zeros_like, outs)
        return tuple(zip(*(pullback(none | {op: douts[op]}) for op in outs), strict=True))  # all dx, all dother

    x, other = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    specs = P("data"), P()
    on_devices = jax.jit(jax.shard_map(gradients, mesh=mesh, in_specs=specs, out_specs=specs))(x, other)
    alone = jax.jit(jax.vmap(gradients, axis_name="data", in_axes=(0, None)))(x[None], other)
    jax.tree.map(lambda dv, true: np.testing.assert_allclose(dv, true[0], rtol=1e-5, atol=1e-6), on_devices, alone)
