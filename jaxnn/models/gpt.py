"""GPT-2: a language model of blocks of attention and a perceptron, each behind a LayerNorm and beside a residual."""

from jaxnn.layers.activation import Activation
from jaxnn.layers.attention import Attention
from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.layers.dropout import Dropout
from jaxnn.layers.embedding import Embedding
from jaxnn.layers.layer_norm import LayerNorm
from jaxnn.layers.learned_positions import LearnedPositions
from jaxnn.layers.repeat import Repeat
from jaxnn.layers.residual import Residual
from jaxnn.layers.tied import Tied
from jaxnn.layers.unembedding import Unembedding


def gpt(
    vocabulary: int,
    context: int,
    *,
    layers: int = 4,
    heads: int = 4,
    width: int = 128,
    keep: float = 1.0,
    recompute: bool = False,
) -> Tied:
    """x (…, T) whole numbers 0 … vocabulary − 1, T at most context; z (…, T, vocabulary), `Factored`, of the next one.

    With n the width and h = W[x] + P, each block is
    h ← h + W_o attention(W_qkv LayerNorm(h)),
    h ← h + W_d gelu(W_u LayerNorm(h)), with 4 n units;
    and z = LayerNorm(h) Wᵀ: the first and the last W are one. All start as N(0, 0.02²), biases as 0.

    keep: the probability that `Dropout` keeps an entry of the first h, and of what is added to it. recompute: that of
    `Repeat`. Source: Radford et al. (2019), section 2.3.
    ValueError: what the layers refuse, or heads that do not divide the width.
    """
    if width % heads:
        raise ValueError(f"{heads} heads do not divide a width of {width}.")
    drop = (Dropout(keep),) if keep < 1 else ()

    def dense(n_in: int, n_out: int) -> Dense:
        return Dense(n_in, n_out, "gpt")

    mixing = LayerNorm(width), dense(width, 3 * width), Attention(heads), dense(width, width), *drop
    units = LayerNorm(width), dense(width, 4 * width), Activation("gelu_tanh"), dense(4 * width, width), *drop
    block = Chain((Residual(Chain(mixing)), Residual(Chain(units))))
    of_words = Embedding(vocabulary, width, "gpt"), LearnedPositions(context, width), *drop
    ending = LayerNorm(width), Unembedding(vocabulary, width, "gpt")
    whole = Chain((*of_words, Repeat(block, layers, recompute), *ending))
    return Tied(whole, "0/W", f"{len(whole.layers) - 1}/W")
