"""The block of a GPT and of a vision transformer: attention, then a perceptron, each behind a LayerNorm and beside a
residual."""

from jaxnn.layers.activation import Activation
from jaxnn.layers.attention import Attention
from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.layers.dropout import Dropout
from jaxnn.layers.layer_norm import LayerNorm
from jaxnn.layers.residual import Residual


def dropout(keep: float) -> tuple[Dropout, ...]:
    """The layer that keeps an entry with this probability; none for 1."""
    return () if keep == 1 else (Dropout(keep),)


def check_heads(width: int, heads: int) -> None:
    """ValueError: heads that do not divide the width."""
    if heads < 1 or width % heads:
        raise ValueError(f"{heads} heads do not divide a width of {width}.")


def block(width: int, heads: int, causal: bool, keep: float) -> Chain:
    """h ← h + W_o attention(W_qkv LayerNorm(h)),   h ← h + W_d gelu(W_u LayerNorm(h)), with 4 n units; h (…, T, n).

    keep: of `Dropout`, on what is added to h. Source: Radford et al. (2019), section 2.3.
    ValueError: heads that do not divide the width n.
    """
    check_heads(width, heads)

    def dense(n_in: int, n_out: int) -> Dense:
        return Dense(n_in, n_out, "gpt")

    attention = dense(width, 3 * width), Attention(heads, causal=causal), dense(width, width)
    perceptron = dense(width, 4 * width), Activation("gelu_tanh"), dense(4 * width, width)
    parts = ((LayerNorm(width), *part, *dropout(keep)) for part in (attention, perceptron))
    return Chain(tuple(Residual(Chain(part)) for part in parts))
