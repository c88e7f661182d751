"""a = z if z > 0 else slope·z, with g′(0) = slope.   Source: Maas et al. (2013), with a slope of 0.01"""

from jax import numpy as jnp

from jaxnn.protocols import Elementwise

RULE = Elementwise(
    g=lambda z, slope: jnp.where(z > 0, z, slope * z),
    dg=lambda z, slope: jnp.where(z > 0, 1.0, slope).astype(z.dtype),
    of="z",
    formula="{z} if {z} > 0 else {slope} {z}",
    derivative="1 if {z} > 0 else {slope}",
    slope=0.01,
    kinks=(0.0,),
)
