"""out = P v of each head, P = softmax(q kᵀ / √d), from q, k, v side by side"""

from dataclasses import dataclass

from jax import Array
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxnn.ops.attention import bwd, fwd
from jaxnn.ops.rope import rotated
from jaxnn.protocols import LayerExample, Residuals


@dataclass(frozen=True)
class Attention:
    """out_t = Σ_s P_ts v_s of each head, P_ts = softmax_s(q_t · k_s / √d) over the positions s that t sees.

    x (…, T, (H + 2K) d): the queries of the H heads, then the keys and the values of K, each head's d numbers side by
    side; out (…, T, H d). Between two `Dense` it is multi-head self-attention:
    Chain((Dense(n, (H + 2 * K) * d), Attention(H, K), Dense(H * d, n))).

    heads, kv_heads: H and K, H if None. causal: t sees s ≤ t; with a window of those the last so many; without
    causal those nearer than the window on both sides. rotary: the base of `jaxnn.ops.rope`, by which q and k are
    turned; None for no turning.

    The rules are those of `jaxnn.ops.attention` and `jaxnn.ops.rope`; x, out and the log-sum-exp are kept, q and k
    turned again. Source: Vaswani et al. (2017), section 3.2.2; Ainslie et al. (2023).
    ValueError: settings out of range, heads that kv_heads does not divide, or an x whose last axis they do not divide.
    """

    heads: int
    kv_heads: int | None = None
    causal: bool = True
    window: int | None = None
    rotary: float | None = None
    block: int = 128

    def __post_init__(self) -> None:
        if self.heads < 1 or self.K < 1 or self.heads % self.K:
            raise ValueError(f"{self}: heads and kv_heads are 1 or more, and kv_heads divides heads.")
        if self.block < 1 or (self.window is not None and self.window < 1):
            raise ValueError(f"{self}: window and block are 1 or more.")
        if self.rotary is not None:
            if not self.rotary > 0:
                raise ValueError(f"{self}: rotary, the base of the angles, is a positive number.")
            object.__setattr__(self, "rotary", float(self.rotary))

    @property
    def K(self) -> int:
        """Heads of keys and values."""
        return self.heads if self.kv_heads is None else self.kv_heads

    def init(self, key: Array, dtype: DTypeLike = jnp.float32) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, key: Array | None = None) -> tuple[Array, Residuals]:
        (out, lse), _ = fwd(*self.qkv(x), None, None, None, None, self.causal, self.window, None, self.block)
        out = out.reshape(*out.shape[:-2], out.shape[-2] * out.shape[-1])
        return out, (x, out, lse)

    def backward(self, residuals: Residuals, dout: Array) -> tuple[tuple[()], Array]:
        x, out, lse = residuals
        q, k, v = self.qkv(x)
        of_heads = q.shape[:-1] + v.shape[-1:]
        saved = q, k, v, None, None, None, None, out.reshape(of_heads), lse
        douts = dout.reshape(of_heads), jnp.zeros_like(lse)
        dq, dk, dv, *_ = bwd(self.causal, self.window, None, self.block, saved, douts)
        return (), jnp.concatenate([self.turned(dq, -1), self.turned(dk, -1), dv], -2).reshape(x.shape)

    def again(self, residuals: Residuals) -> Array:
        return residuals[1]

    def apply(self, params: tuple[()], x: Array) -> Array:
        return self.forward(params, x)[0]

    def qkv(self, x: Array) -> tuple[Array, Array, Array]:
        """q (…, T, H, d), k and v (…, T, K, d), q and k turned."""
        parts = self.heads + 2 * self.K
        d, rest = divmod(x.shape[-1], parts) if x.ndim > 1 else (0, 0)
        if rest or not d or not x.shape[-2] or (self.rotary is not None and d % 2):
            pairs = "" if self.rotary is None else ", an even number, for they turn in pairs"
            raise ValueError(
                f"{self} was given x of shape {x.shape}: its axes are (…, T, {parts} d), for {self.heads} heads of "
                f"queries and {self.K} of keys and of values, each d wide{pairs}."
            )
        q, k, v = jnp.split(x.reshape(*x.shape[:-1], parts, d), (self.heads, self.heads + self.K), -2)
        return self.turned(q, 1), self.turned(k, 1), v

    def turned(self, v: Array, sign: int) -> Array:
        """v (…, T, H, d) turned by its positions, or back."""
        return v if self.rotary is None else rotated(v, None, self.rotary, "halves", None, sign)


EXAMPLES = {
    "attention, one head": LayerExample(Attention(1), (4, 6), inner=2),
    "attention, two heads, both ways": LayerExample(Attention(2, causal=False), (2, 3, 6), inner=2),
    "attention, grouped queries, rotary": LayerExample(Attention(2, 1, rotary=100.0, block=2), (2, 3, 8), inner=2),
    "attention, a window, blocks": LayerExample(Attention(1, window=2, block=2), (2, 3, 3), inner=2),
}
