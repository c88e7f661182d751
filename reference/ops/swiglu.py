"""out = g σ(g) u, of one number each."""

from reference.activations import silu

CORE = {"gate": 0, "up": 0}


def forward(gate, up):
    return silu.g(gate) * up


def jacobians(gate, up):
    """∂out/∂g = silu′(g) u,   ∂out/∂u = g σ(g)"""
    return {"gate": silu.dg(gate) * up, "up": silu.g(gate)}
