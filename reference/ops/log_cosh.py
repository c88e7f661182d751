"""L = log ((e^{z − y} + e^{y − z}) / 2)."""

import numpy as np

CORE = {"z": 0, "y": 0}


def forward(z, y):
    return np.log((np.exp(z - y) + np.exp(y - z)) / 2)


def jacobians(z, y):
    """∂L/∂z = −∂L/∂y = (e^{z − y} − e^{y − z}) / (e^{z − y} + e^{y − z})."""
    up, down = np.exp(z - y), np.exp(y - z)
    slope = (up - down) / (up + down)
    return {"z": slope, "y": -slope}
