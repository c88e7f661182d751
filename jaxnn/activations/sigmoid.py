"""a = σ(z) = 1 / (1 + e⁻ᶻ)"""

from jax.nn import sigmoid

from jaxnn.protocols import Elementwise

RULE = Elementwise(
    g=sigmoid,
    dg=lambda a: a * (1 - a),
    of="a",
    formula="σ({z})",
    derivative="{a} ⊙ (1 − {a})",
    steepest=0.25,
)
