"""out_i = x_i / p where u_i < p, else 0; u, in the place of the key, are numbers drawn from it, even from 0 to 1."""

CORE = {"x": 0, "key": 0}


def forward(x, key, keep):
    return x / keep if key < keep else 0 * x


def jacobians(x, key, keep):
    """∂out/∂x = 1 / p or 0"""
    return {"x": (key < keep) / keep}
