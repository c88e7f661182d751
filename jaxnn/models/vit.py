"""A vision transformer: a classifier of images by their patches."""

from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.layers.layer_norm import LayerNorm
from jaxnn.layers.learned_positions import LearnedPositions
from jaxnn.layers.mean_pool import MeanPool
from jaxnn.layers.patches import Patches
from jaxnn.layers.repeat import Repeat
from jaxnn.models.block import block, dropout
from jaxnn.protocols import Layer


def vit(
    image_height: int,
    image_width: int,
    classes: int,
    *,
    patch: int = 2,
    channels: int = 1,
    layers: int = 4,
    heads: int = 4,
    width: int = 64,
    keep: float = 1.0,
    recompute: bool = False,
) -> Chain:
    """x (…, image_height · image_width · channels), the entries of images; z (…, classes).

    h = W_p x_t + b_p + P_t for each patch t of patch × patch pixels, then the blocks of `jaxnn.models.block`, in which
    every patch sees every other, then z = W mean_t LayerNorm(h_t) + b.

    keep, recompute: as those of `gpt`. Source: Dosovitskiy et al. (2021), eq. 1 to 4, with the mean over the patches in
    place of a class token. ValueError: what the layers refuse, or heads that do not divide the width.
    """
    patches = Patches(image_height, image_width, patch, channels)
    entries, T = patch**2 * channels, image_height * image_width // patch**2
    of_patches: tuple[Layer, ...] = patches, Dense(entries, width), LearnedPositions(T, width), *dropout(keep)
    blocks = Repeat(block(width, heads, False, keep), layers, recompute)
    return Chain((*of_patches, blocks, LayerNorm(width), MeanPool(), Dense(width, classes)))
