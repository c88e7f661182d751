"""Llama: a language model of blocks of rotary attention and SwiGLU, each behind an RMSNorm and beside a residual."""

from jaxnn.layers.attention import Attention
from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.layers.embedding import Embedding
from jaxnn.layers.repeat import Repeat
from jaxnn.layers.residual import Residual
from jaxnn.layers.rms_norm import RmsNorm
from jaxnn.layers.swiglu import Swiglu
from jaxnn.layers.unembedding import Unembedding
from jaxnn.models.block import check_heads, dropout
from jaxnn.protocols import Layer


def llama(
    vocabulary: int,
    *,
    layers: int = 4,
    heads: int = 4,
    kv_heads: int | None = None,
    width: int = 128,
    units: int | None = None,
    base: float = 10000.0,
    keep: float = 1.0,
    recompute: bool = False,
) -> Chain:
    """x (…, T) whole numbers 0 … vocabulary − 1; z (…, T, vocabulary), `Factored`, of the next one.

    With n the width and h = W[x], each block is
    h ← h + W_o attention(W_qkv RMSNorm(h)), queries and keys turned by their positions,
    h ← h + W_d (silu(g) ⊙ u), (g, u) = W_gu RMSNorm(h);
    and z = RMSNorm(h) W_zᵀ. No layer has a bias; all W start as N(0, 0.02²).

    kv_heads: heads of keys and values, as many as `heads` if None. units: numbers in g, 8 n / 3 rounded up to a
    multiple of 8 if None. base: of the rotary positions. keep, recompute: as those of `gpt`.
    Source: Touvron et al. (2023), section 2.2; Ainslie et al. (2023) for kv_heads.
    ValueError: what the layers refuse, or heads that do not divide the width.
    """
    check_heads(width, heads)
    if width // heads % 2:
        raise ValueError(
            f"{heads} heads of a width of {width} have {width // heads} numbers each: these turn in pairs."
        )
    of_kv = 2 * (width // heads) * (heads if kv_heads is None else kv_heads)
    units = -(-width // 3) * 8 if units is None else units

    def dense(n_in: int, n_out: int) -> Dense:
        return Dense(n_in, n_out, "gpt", bias=False)

    rotary = Attention(heads, kv_heads, rotary=base)
    mixing: tuple[Layer, ...] = RmsNorm(width), dense(width, width + of_kv), rotary, dense(width, width), *dropout(keep)
    gated: tuple[Layer, ...] = RmsNorm(width), dense(width, 2 * units), Swiglu(), dense(units, width), *dropout(keep)
    block = Chain((Residual(Chain(mixing)), Residual(Chain(gated))))
    words: tuple[Layer, ...] = Embedding(vocabulary, width, "gpt"), *dropout(keep)
    ending = RmsNorm(width), Unembedding(vocabulary, width, "gpt")
    return Chain((*words, Repeat(block, layers, recompute), *ending))
