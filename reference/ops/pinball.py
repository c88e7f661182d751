"""L = max(q (y − z), (1 − q) (z − y))."""

CORE = {"z": 0, "y": 0}


def forward(z, y, quantile):
    return quantile * (y - z) if y >= z else (1 - quantile) * (z - y)


def jacobians(z, y, quantile):
    """∂L/∂z = −∂L/∂y = −q if y > z, 1 − q if y < z."""
    slope = (-quantile if y > z else 1 - quantile) + 0 * z
    return {"z": slope, "y": -slope}
