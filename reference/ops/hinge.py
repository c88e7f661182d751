"""L = h or h², h = max(0, 1 − y z)."""

CORE = {"z": 0, "y": 0}


def forward(z, y, squared):
    h = 1 - y * z if y * z < 1 else 0 * z
    return h * h if squared else h


def jacobians(z, y, squared):
    """∂h/∂z = −y, ∂h/∂y = −z where y z < 1; ∂h²/∂v = 2 h ∂h/∂v."""
    by_h = (2 * (1 - y * z) if squared else 1) if y * z < 1 else 0
    return {"z": -by_h * y, "y": -by_h * z}
