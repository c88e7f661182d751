"""Placement on a mesh of devices: formulas stay as they are, XLA adds the sums between devices."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxnn.protocols import Params
from jaxnn.training.feed import Batch


def place(params: Params, data: Batch, mesh: Mesh) -> tuple[Params, Batch]:
    """(params on every device, data with its rows split over the mesh's first axis). Whatever the mesh's axes are, XLA
    decides how the arrays between are laid out.

    ValueError: rows that do not divide over the devices.
    """
    axis, devices = mesh.axis_names[0], mesh.devices.shape[0]
    mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))
    if len(data.y) % devices:
        raise ValueError(f"{len(data.y)} rows do not divide over {devices} devices: add rows of weight 0.")
    rows, everywhere = NamedSharding(mesh, PartitionSpec(axis)), NamedSharding(mesh, PartitionSpec())
    return jax.device_put(params, everywhere), jax.device_put(data, rows)
