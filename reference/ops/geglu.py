"""out = gelu(g) u, of one number each."""

from reference.activations import gelu, gelu_tanh

CORE = {"gate": 0, "up": 0}


def forward(gate, up, approximate):
    return rule(approximate).g(gate) * up


def jacobians(gate, up, approximate):
    """∂out/∂g = gelu′(g) u,   ∂out/∂u = gelu(g)"""
    return {"gate": rule(approximate).dg(gate) * up, "up": rule(approximate).g(gate)}


def rule(approximate):
    return gelu_tanh if approximate == "tanh" else gelu
