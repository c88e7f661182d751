"""w_k = g v_k / s, s² = Σ_l v_l² + ε, of one row."""

from reference.ops import l2_normalize

CORE = {"v": 1, "g": 0}


def forward(v, g, epsilon):
    return g * l2_normalize.forward(v, epsilon)


def jacobians(v, g, epsilon):
    """∂w_k/∂g = v_k / s,   ∂w_k/∂v_l = g ∂(v_k / s)/∂v_l"""
    return {"v": g * l2_normalize.jacobians(v, epsilon)["x"], "g": l2_normalize.forward(v, epsilon)}
