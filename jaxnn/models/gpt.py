"""GPT-2: a language model of blocks of causal attention and a perceptron."""

from jaxnn.layers.chain import Chain
from jaxnn.layers.embedding import Embedding
from jaxnn.layers.layer_norm import LayerNorm
from jaxnn.layers.learned_positions import LearnedPositions
from jaxnn.layers.repeat import Repeat
from jaxnn.layers.tied import Tied
from jaxnn.layers.unembedding import Unembedding
from jaxnn.models.block import block, dropout
from jaxnn.protocols import Layer


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

    h = W[x] + P, then the blocks of `jaxnn.models.block`, then z = LayerNorm(h) Wᵀ: the first and the last W are one.
    All W and P start as N(0, 0.02²), biases as 0 (those of the paper that end a block are smaller, by 1/√(2 layers)).

    keep: the probability that `Dropout` keeps an entry of the first h, and of what is added to it. recompute: that of
    `Repeat`. Source: Radford et al. (2019), section 2.3.
    ValueError: what the layers refuse, or heads that do not divide the width.
    """
    words: tuple[Layer, ...] = Embedding(vocabulary, width, "gpt"), LearnedPositions(context, width), *dropout(keep)
    blocks = Repeat(block(width, heads, True, keep), layers, recompute)
    whole = Chain((*words, blocks, LayerNorm(width), Unembedding(vocabulary, width, "gpt")))
    return Tied(whole, "0/W", f"{len(whole.layers) - 1}/W")
