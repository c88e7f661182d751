"""Where an argument has another type than the output, its cotangent has the argument's: inside `jax.shard_map`, where x
is each device's own and the other argument one for all."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.sharding import PartitionSpec as P

from jaxnn import ops

X = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
GAMMA = np.array([2.0, -1.0, 0.5], np.float32)
OPS = {
    "add_rms_norm": lambda x, other: ops.add_rms_norm(x, other, GAMMA),
    "add_rms_norm, the residual its own": lambda x, other: ops.add_rms_norm(other, x, GAMMA),
    "add_layer_norm": lambda x, other: ops.add_layer_norm(x, other, GAMMA),
    "add_layer_norm, the residual its own": lambda x, other: ops.add_layer_norm(other, x, GAMMA),
    "layer_scale": lambda x, other: ops.layer_scale(other, x, GAMMA),
    "swiglu": lambda x, other: ops.swiglu(other, x),
    "batch_norm": lambda x, other: ops.batch_norm(x, other[0], other[1]),
    "dropout": lambda x, other: (
        ops.dropout(other, jax.random.fold_in(jax.random.key(0), jax.lax.axis_index("data")), 0.5) + x
    ),
}


@pytest.mark.parametrize("op", OPS)
def test_what_all_devices_hold_has_one_cotangent_for_all(op):
    def J(x, other):
        return jax.lax.psum(sum(jnp.cos(out).sum() for out in jax.tree.leaves(OPS[op](x, other))), "data")

    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    on_devices = jax.shard_map(jax.grad(J, (0, 1)), mesh=mesh, in_specs=(P("data"), P()), out_specs=(P("data"), P()))
    grads = on_devices(*X)
    alone = jax.vmap(jax.grad(J, (0, 1)), axis_name="data", in_axes=(0, None))(X[:1], X[1])
    np.testing.assert_allclose(grads[0], alone[0][0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(grads[1], alone[1][0], rtol=1e-5, atol=1e-6)
