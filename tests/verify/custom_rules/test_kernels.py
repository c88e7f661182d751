"""Custom rules whose passes are Pallas kernels: written here, and those of JAX; and what `plain=` says is meant."""

import warnings
from functools import partial

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.experimental import pallas as pl

from jaxnn import verify
from jaxnn.verify.tracing import jaxprs

with warnings.catch_warnings(action="ignore"):  # since JAX 0.12 they are deprecated
    from jax.experimental.pallas.ops.gpu import attention, layer_norm, rms_norm, softmax
    from jax.experimental.pallas.ops.tpu import flash_attention, matmul

draw = np.random.default_rng(0).normal


def f32(*shape):
    return np.float32(draw(size=shape))


def of_rows(kernel, *args, outputs=1, rows=2, at=lambda i: (i, 0)):
    """A kernel on blocks of `rows` rows of arguments of one shape."""
    shape = jax.ShapeDtypeStruct(args[0].shape, jnp.float32)
    block = pl.BlockSpec((rows, shape.shape[1]), lambda i: (i, 0))
    to = pl.BlockSpec((rows, shape.shape[1]), at)
    grid = pl.cdiv(len(args[0]), rows)
    return pl.pallas_call(
        kernel, out_shape=[shape] * outputs, grid=grid, in_specs=[block] * len(args), out_specs=[to] * outputs
    )(*args)


def square(x_ref, o_ref):
    o_ref[...] = x_ref[...] ** 2


def squares(factor=2, **settings):
    """x² by a kernel, with factor · x dout by another."""

    def slope(x_ref, d_ref, o_ref):
        o_ref[...] = factor * x_ref[...] * d_ref[...]

    @jax.custom_vjp
    def squares(x):
        return of_rows(square, x)[0]

    squares.defvjp(lambda x: (squares(x), x), lambda x, d: (of_rows(slope, x, d, **settings)[0],))
    return squares


def test_a_rule_of_kernels_has_an_exact_truth():
    report = verify.custom_vjp(squares(), f32(3, 2))
    assert (report.verdict, report.evidence) == (verify.PASS, "exact")
    assert report.digits > 30
    assert any("does not run here" in note for note in report.notes)  # these kernels are for no CPU
    assert verify.custom_vjp(squares(3), f32(4, 2)).verdict == verify.FAIL
    assert verify.custom_vjp(squares(2 + 2e-6), f32(4, 2)).verdict == verify.FAIL
    assert verify.custom_vjp(squares(at=lambda i: (i + 1, 0)), f32(4, 2)).verdict == verify.FAIL


def test_a_rule_of_kernels_that_runs_is_asked_all_that_a_rule_is():
    def doubled(x_ref, o_ref):
        o_ref[...] = 2 * x_ref[...]

    call = pl.pallas_call(doubled, out_shape=jax.ShapeDtypeStruct((2,), jnp.float32), interpret=True)
    f = jax.custom_vjp(call)
    f.defvjp(lambda x: (call(x), None), lambda _, d: (jnp.where((d == 0).all(), 1, call(d)),))
    report = verify.custom_vjp(f, f32(2), points="given")
    assert report.verdict == verify.FAIL
    assert "for a cotangent of zeros" in report.reason


def test_two_passes_of_kernels():
    def forward(x):
        return of_rows(square, x)[0], x

    def backward(x, d):
        def slope(x_ref, d_ref, o_ref):
            o_ref[...] = 2 * x_ref[...] * d_ref[...]

        return of_rows(slope, x, d)[0]

    assert verify.vjp(forward, backward, f32(3, 2), points="given").ok
    assert verify.vjp(forward, lambda x, d: backward(x, x * d), f32(3, 2), points="given").verdict == verify.FAIL


def rule(primal, forward, slope):
    f = jax.custom_vjp(primal)
    f.defvjp(lambda x: (forward(x), x), lambda x, d: (slope(x) * d,))
    return f


VALUES, RULE = "does not compute what sin does", "but its rule is not the derivative"


@pytest.mark.parametrize(
    ("f", "what"),
    [
        (rule(jnp.sin, jnp.sin, jnp.cos), None),
        (rule(jnp.sin, jnp.sin, jnp.sin), RULE),
        (rule(jnp.cos, jnp.cos, lambda x: -jnp.sin(x)), VALUES),
        (rule(jnp.cos, jnp.sin, jnp.cos), VALUES),  # where nothing is differentiated
        (rule(jnp.sin, jnp.cos, jnp.cos), VALUES),
    ],
)
def test_plain_says_what_is_meant(f, what):
    report = verify.custom_vjp(f, f32(3), plain=jnp.sin)
    assert report.ok if what is None else report.verdict == verify.FAIL and what in report.reason
    assert "plain=sin" in report.replay


def test_plain_has_the_shapes_of_f():
    f = rule(jnp.sin, jnp.sin, jnp.cos)
    with pytest.raises(ValueError, match="plain= must compute what it does"):
        verify.custom_vjp(f, f32(3), plain=lambda x: jnp.sin(x).sum())
    with pytest.raises(AssertionError, match=RULE):
        verify.assert_custom_vjp(rule(jnp.sin, jnp.sin, jnp.sin), f32(3), plain=jnp.sin)


def test_a_kernel_against_its_plain_formula():
    assert verify.custom_vjp(squares(), f32(3, 2), plain=lambda x: x**2, points="given").ok
    report = verify.custom_vjp(squares(), f32(3, 2), plain=lambda x: x**3, points="given")
    assert VALUES.replace("sin", "<lambda>") in report.reason


NORM = f32(1, 2, 6), f32(6), f32(6)
QKV = tuple(f32(1, 4, 1, 2) for _ in range(3))
BLOCKS = attention.BlockSizes(2, 2, 2, 2, 2, 2)


def mha(q, k, v, causal=True, blocks=BLOCKS):
    return attention.mha(q, k, v, None, 0.5, causal, blocks, "triton", None, 2, None, False)


@pytest.mark.parametrize(
    ("f", "plain", "args"),
    [
        (rms_norm.rms_norm, rms_norm.rms_norm_reference, NORM),
        (layer_norm.layer_norm, layer_norm.layer_norm_reference, NORM),
        (mha, lambda q, k, v: attention.mha_reference(q, k, v, None, 0.5, True), QKV),
    ],
)
def test_jax_own_kernels_and_their_rules(f, plain, args):
    report = verify.custom_vjp(f, *args, plain=plain, points="given")
    assert (report.verdict, report.evidence) == (verify.PASS, "exact"), report
    assert report.digits > 3


def test_attention_without_its_mask_fails():
    plain = partial(attention.mha_reference, segment_ids=None, sm_scale=0.5)
    report = verify.custom_vjp(partial(mha, causal=False), *QKV, plain=partial(plain, causal=True), points="given")
    assert report.verdict == verify.FAIL


def test_kernels_without_a_rule():
    assert verify.same(jax.nn.softmax, softmax.softmax, f32(3, 5), points="given").ok
    tiles = partial(matmul.matmul, block_shape=(4, 4), block_k=2)
    assert verify.same(jnp.matmul, tiles, f32(8, 4), f32(4, 8), points="given").ok


def test_flash_attention_of_a_tpu():
    args = [f32(1, 1, 128, 1) for _ in range(3)]
    plain = partial(flash_attention.mha_reference_no_custom_vjp, ab=None)
    ours = partial(flash_attention.flash_attention, causal=True)
    assert verify.same(partial(plain, causal=True), ours, *args, points="given").ok
    assert verify.same(partial(plain, causal=False), ours, *args, points="given").verdict == verify.FAIL


def log_of_sum(x):
    return jnp.logaddexp(x, jnp.float32(1))


OWN = [f for f in (jax.nn.relu, log_of_sum, jnp.sinc) if "custom_jvp" in str(jax.make_jaxpr(f)(np.float32(1)))]


@pytest.mark.parametrize("ask", [verify.custom_vjp, verify.custom_jvp])
@pytest.mark.parametrize("f", OWN)
def test_jax_own_rules_are_accepted(ask, f):
    report = ask(f, np.float32([0, 0.5, -2]))
    assert report.ok
    assert any("JAX's own" in note for note in report.notes)


@pytest.mark.parametrize("by", [1, 2])
def test_a_rule_of_ones_own_of_a_function_of_jax_is_not_its_own(by):
    one, two = jax.custom_jvp(jnp.sin), jax.custom_jvp(jnp.sin)
    one.defjvp(lambda x, dx: (jnp.sin(*x), by * jnp.cos(*x) * dx[0]))
    two.defjvps(lambda dx, out, x: by * jnp.cos(x) * dx)
    for f in (one, two):
        report = verify.custom_jvp(f, f32(3))
        assert report.ok == (by == 1)
        assert not any("JAX's own" in note for note in report.notes)
        summed = lambda x, f=f: f(x).sum()  # noqa: E731
        assert verify.gradient(summed, jax.grad(summed), f32(3)).ok == (by == 1)


def test_a_wrong_rule_of_jax_own_is_found(monkeypatch):
    monkeypatch.setattr(jaxprs, "is_jax_own", lambda f: True)
    for ask in (verify.custom_vjp, verify.custom_jvp):
        f = jax.custom_jvp(jnp.sin)
        f.defjvp(lambda primals, tangents: (jnp.sin(*primals), 2 * jnp.cos(*primals) * tangents[0]))
        assert ask(f, f32(3)).verdict == verify.FAIL


@pytest.mark.parametrize(
    ("wrap", "captured"), [(jax.jit, np.array([2, 0, 1])), (lambda f: f, np.array([2.0, 0.0, 1.0]))]
)
def test_a_captured_array_of_64_bits(wrap, captured):
    """Both verdicts, and the function and the array are as they were."""
    x = f32(2, 3)
    is_index = captured.dtype == np.int64

    def taken(x):
        return jnp.take(x, captured, axis=-1) if is_index else x * jnp.asarray(captured, x.dtype)[None]

    for factor in (2, 3):
        f = jax.custom_vjp(wrap(taken))
        back = np.argsort(captured) if is_index else None
        f.defvjp(
            lambda x, f=f: (f(x), None),
            lambda _, d, c=factor / 2, back=back: (c * (jnp.take(d, back, axis=-1) if is_index else taken(d)),),
        )
        assert verify.custom_vjp(f, x, points="given").ok == (factor == 2)
        assert np.array_equal(f(x), jax.jit(f)(x))
        assert jnp.asarray(captured).dtype.itemsize == 4


@pytest.mark.parametrize("nothing", [None, np.zeros(3, jax.dtypes.float0)])
def test_the_cotangent_of_integers(nothing):
    @jax.custom_vjp
    def take(x, i):
        return 2 * x[i]

    def backward(residuals, d):
        x, i = residuals
        return jnp.zeros_like(x).at[i].add(2 * d), nothing

    take.defvjp(lambda x, i: (take(x, i), (x, i)), backward)
    ask = partial(verify.custom_vjp, take, f32(4), np.array([2, 0, 2]), points="given")
    assert ask().ok
    assert ask(plain=lambda x, i: 2 * x[i]).ok
    assert ask(plain=lambda x, i: 3 * x[i]).verdict == verify.FAIL
