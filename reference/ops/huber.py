"""L = ½ e² if |e| ≤ δ, else δ (|e| − ½ δ), e = z − y."""

CORE = {"z": 0, "y": 0}


def forward(z, y, delta):
    size = abs(z - y)
    return size * size / 2 if size <= delta else delta * (size - delta / 2)


def jacobians(z, y, delta):
    """∂L/∂z = −∂L/∂y = e if |e| ≤ δ, else ± δ."""
    e = z - y
    slope = e if abs(e) <= delta else delta * e / abs(e)
    return {"z": slope, "y": -slope}
