"""Pallas kernels in balls, and unrolled, against plain formulas; and what a kernel must not read."""

from functools import partial
from typing import NamedTuple

import flint
import jax
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax import numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu, triton

from jaxnn import verify
from jaxnn.verify.arithmetic.balls import enter, is_float
from jaxnn.verify.arithmetic.evaluation import Evaluation
from jaxnn.verify.arithmetic.refs import Why, nothing
from jaxnn.verify.evidence.undefined import UndefinedEntry, check_defined
from jaxnn.verify.tracing.jaxprs import own_derivative

draw = np.random.default_rng(0).normal
Block = pl.BlockSpec
same = partial(verify.same, points="given")


def f32(*shape):
    return np.float32(draw(size=shape))


def out(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def entrywise(f, *, rows=4, at=lambda i: i, **settings):
    """o = f(x) by blocks of so many entries."""

    def kernel(x_ref, o_ref):
        o_ref[...] = f(x_ref[...])

    def call(x):
        specs = {"in_specs": [Block((rows,), lambda i: i)], "out_specs": Block((rows,), at)}
        return pl.pallas_call(kernel, out_shape=out(*x.shape), grid=pl.cdiv(len(x), rows), **specs, **settings)(x)

    return call


def row_sums(mask, rows):
    """Sums of `rows` entries each, the last of those that there are."""

    def kernel(x_ref, o_ref, *, n):
        i = pl.program_id(0)
        o_ref[i] = mask(i * rows + jnp.arange(rows) < n, x_ref[...]).sum()

    def call(x):
        m = pl.cdiv(len(x), rows)
        specs = {"in_specs": [Block((rows,), lambda i: i)]}
        return pl.pallas_call(partial(kernel, n=len(x)), out_shape=out(m), grid=m, **specs)(x)

    return call


def plain_row_sums(rows):
    return lambda x: jnp.pad(x, (0, -len(x) % rows)).reshape(-1, rows).sum(1)


def selected(mask, x):
    return jnp.where(mask, x, 0)


def multiplied(mask, x):
    return mask.astype(x.dtype) * x


def unmasked(mask, x):
    return x


def matmul(is_reset=lambda k: k == 0, *, x_block=lambda i, j, k: (i, k), steps=3, in_output=False):
    """x y of (8, 6) and (6, 8) by tiles, summed over k in scratch or in the output."""

    def kernel(x_ref, y_ref, o_ref, acc_ref=None):
        total = o_ref if in_output else acc_ref

        @pl.when(is_reset(pl.program_id(2)))
        def _():
            total[...] = jnp.zeros(total.shape, total.dtype)

        total[...] += x_ref[...] @ y_ref[...]

        @pl.when(pl.program_id(2) == pl.num_programs(2) - 1)
        def _():
            o_ref[...] = total[...]

    return pl.pallas_call(
        kernel,
        out_shape=out(8, 8),
        grid=(2, 2, steps),
        in_specs=[Block((4, 2), x_block), Block((2, 4), lambda i, j, k: (k, j))],
        out_specs=Block((4, 4), lambda i, j, k: (i, j)),
        scratch_shapes=[] if in_output else [tpu.VMEM((4, 4), jnp.float32)],
    )


class Right(NamedTuple):
    """A right kernel."""

    kernel: object
    plain: object
    args: tuple


def loop(x_ref, o_ref):
    """Running sums of pairs, with slices whose start is computed."""

    def body(i, total):
        o_ref[i] = total + x_ref[pl.ds(2 * i, 2)].sum()
        return o_ref[i]

    jax.lax.fori_loop(0, 4, body, jnp.float32(0))


def triangle(x_ref, o_ref):
    """Row i is the sum of the rows up to i: the length of the loop depends on the step."""
    i = pl.program_id(0)
    o_ref[...] = jax.lax.fori_loop(0, i + 1, lambda j, total: total + x_ref[pl.ds(j, 1), :], jnp.zeros((1, 3)))


def scoped(x_ref, o_ref):
    def body(t_ref):
        t_ref[...] = x_ref[...].T
        o_ref[...] = t_ref[1:3, ::2]

    pl.run_scoped(body, tpu.VMEM((4, 6), jnp.float32))


def chosen(i_ref, x_ref, o_ref):
    o_ref[...] = x_ref[...] * (i_ref[pl.program_id(0)] + 1).astype(jnp.float32)


def masked(x_ref, o_ref):
    """Triton's way: a mask for what is read and written."""
    at = pl.program_id(0) * 4 + jnp.arange(4)
    x = triton.load(x_ref.at[at], mask=at < 10, other=0.0)
    triton.store(o_ref.at[at], jnp.exp(x), mask=at < 10)


def histogram(i_ref, x_ref, zeros_ref, o_ref):
    """Sums at indices, some of them the same."""
    triton.atomic_add(o_ref, i_ref[...], x_ref[...])


def positive(x_ref, o_ref):
    """A branch that numbers decide."""
    o_ref[...] = -x_ref[...]

    @pl.when(x_ref[...].sum() > 0)
    def _():
        o_ref[...] *= x_ref[...]


def rolled(x_ref, o_ref):
    """What has no derivative in JAX."""
    o_ref[...] = tpu.roll(x_ref[...], 3, 1) + tpu.roll(x_ref[...], 1, 1, stride=2, stride_axis=0)


def halves(x_ref, o_ref):
    """A function with a rule inside a kernel, a reshaped ref, a stride."""
    o_ref[...] = jax.nn.relu(x_ref.reshape(2, 4)[:, 1::2])


def of_scalars(x, indices=(2, 0, 1)):
    specs = tpu.PrefetchScalarGridSpec(
        num_scalar_prefetch=1,
        grid=(3,),
        in_specs=[Block((pl.squeezed, 4), lambda i, index: (index[i], 0))],
        out_specs=Block((pl.squeezed, 4), lambda i, index: (i, 0)),
    )
    return pl.pallas_call(chosen, out_shape=out(3, 4), grid_spec=specs)(jnp.asarray(indices, jnp.int32), x)


def plain_of_scalars(x):
    return x[jnp.array([2, 0, 1])] * jnp.array([[3.0], [1.0], [2.0]])


def softmax(x):
    e = jnp.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_of_rows(x):
    def kernel(x_ref, o_ref):
        o_ref[...] = softmax(x_ref[...])

    rows = Block((2, 5), lambda i: (i, 0))
    return pl.pallas_call(kernel, out_shape=out(6, 5), grid=3, in_specs=[rows], out_specs=rows)(x)


BIN = np.int32([1, 0, 1, 1])
RIGHT = {
    "blocks that do not divide": Right(entrywise(jnp.tanh), jnp.tanh, (f32(10),)),
    "half of it aliased": Right(
        lambda x: pl.pallas_call(
            lambda x_ref, o_ref: o_ref.__setitem__(slice(4), jnp.exp(x_ref[:4])),
            out_shape=out(8),
            input_output_aliases={0: 0},
        )(x),
        lambda x: x.at[:4].set(jnp.exp(x[:4])),
        (f32(8),),
    ),
    "a mask": Right(row_sums(selected, 4), plain_row_sums(4), (f32(10),)),
    "scratch": Right(matmul(), jnp.matmul, (f32(8, 6), f32(6, 8))),
    "sums in the output": Right(matmul(in_output=True), jnp.matmul, (f32(8, 6), f32(6, 8))),
    "vmapped": Right(jax.vmap(softmax_of_rows), softmax, (f32(2, 6, 5),)),
    "vmapped steps": Right(jax.vmap(row_sums(selected, 4)), jax.vmap(plain_row_sums(4)), (f32(2, 10),)),
    "a loop": Right(pl.pallas_call(loop, out_shape=out(4)), lambda x: jnp.cumsum(x.reshape(4, 2).sum(1)), (f32(8),)),
    "a loop as long as the step says": Right(
        pl.pallas_call(triangle, out_shape=out(4, 3), grid=4, out_specs=Block((1, 3), lambda i: (i, 0))),
        lambda x: jnp.cumsum(x, 0),
        (f32(4, 3),),
    ),
    "run_scoped": Right(pl.pallas_call(scoped, out_shape=out(2, 3)), lambda x: x.T[1:3, ::2], (f32(6, 4),)),
    "prefetched scalars": Right(of_scalars, plain_of_scalars, (f32(3, 4),)),
    "masked loads and stores": Right(pl.pallas_call(masked, out_shape=out(10), grid=3), jnp.exp, (f32(10),)),
    "atomic sums": Right(
        lambda x: pl.pallas_call(histogram, out_shape=out(2), input_output_aliases={2: 0})(BIN, x, jnp.zeros(2)),
        lambda x: jnp.zeros(2).at[BIN].add(x),
        (f32(4),),
    ),
    "scalars that numbers decide": Right(
        lambda x: of_scalars(x, (2 * jnp.array([1.4, 0.1, 0.7])).astype(jnp.int32)), plain_of_scalars, (f32(3, 4),)
    ),
    "a branch": Right(
        pl.pallas_call(positive, out_shape=out(4)), lambda x: jnp.where(x.sum() > 0, -(x**2), -x), (f32(4),)
    ),
    "roll": Right(
        pl.pallas_call(rolled, out_shape=out(3, 8)),
        lambda x: jnp.roll(x, 3, 1) + jnp.stack([jnp.roll(x[i], 1 + 2 * i) for i in range(3)]),
        (f32(3, 8),),
    ),
    "a reshaped ref": Right(
        pl.pallas_call(halves, out_shape=out(2, 2)), lambda x: jax.nn.relu(x.reshape(2, 4)[:, 1::2]), (f32(8),)
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_kernel_is_its_plain_formula(name):
    report = same(RIGHT[name].plain, RIGHT[name].kernel, *RIGHT[name].args)
    assert (report.verdict, report.evidence) == (verify.PASS, "exact"), report
    assert report.digits > 30


@pytest.mark.sample(lambda name: [*RIGHT].index(name) // 4)
@pytest.mark.parametrize("name", RIGHT)
def test_a_kernel_is_unrolled_for_autodiff(name):
    kernel, plain, args = RIGHT[name]

    def weighted(f):
        def J(*args):
            v = f(*args)
            return (v * jnp.sin(jnp.arange(1.0, v.size + 1, dtype=v.dtype).reshape(v.shape))).sum()

        return J

    ours = jax.grad(own_derivative(weighted(kernel))[0])
    report = same(jax.grad(weighted(plain)), ours, *args)
    assert report.ok, report
    assert report.digits > 12


def undefined(f, *args):
    """The `Origin` of what is undefined in f(*args)."""
    closed, ev = jax.make_jaxpr(f)(*args), Evaluation(200)
    balls = [enter(v) if is_float(v) else v for v in args]
    with flint.ctx.workprec(200), pytest.raises(UndefinedEntry) as error:
        check_defined(ev.steps, ev(closed, balls))
    return error.value.origin


def masked_loads(x_ref, o_ref):
    at = pl.program_id(0) * 4 + jnp.arange(4)
    o_ref[at] = triton.load(x_ref.at[at], mask=at < 10, other=0.0)


def accumulated(x_ref, o_ref, acc_ref):
    acc_ref[...] += x_ref[...]
    o_ref[...] = acc_ref[...]


WRONG = {
    "the last block is not masked": (
        row_sums(unmasked, 4),
        f32(10),
        {"ref": "x_ref", "why": Why.BEYOND, "block": (8,), "step": (2,), "entry": (2,)},
    ),
    "a mask that multiplies": (
        row_sums(multiplied, 4),
        f32(10),
        {"ref": "x_ref", "why": Why.BEYOND, "block": (8,), "step": (2,)},
    ),
    "an index map off by one": (
        entrywise(jnp.exp, at=lambda i: i + 1),
        f32(12),
        {"ref": "o_ref", "why": Why.UNWRITTEN, "step": None, "entry": (0,)},
    ),
    "scratch that is not set": (
        pl.pallas_call(accumulated, out_shape=out(4), scratch_shapes=[tpu.VMEM((4,), jnp.float32)]),
        f32(4),
        {"kernel": "accumulated", "ref": "acc_ref", "why": Why.UNWRITTEN, "step": ()},
    ),
    "a masked load without other": (
        pl.pallas_call(
            lambda x_ref, o_ref: o_ref.__setitem__(..., triton.load(x_ref, mask=jnp.arange(4) < 3)), out_shape=out(4)
        ),
        f32(4),
        {"ref": "x_ref", "why": Why.MASKED, "entry": (3,)},
    ),
    "a store that is not masked": (
        pl.pallas_call(masked_loads, out_shape=out(10), grid=3),
        f32(10),
        {"ref": "o_ref", "why": Why.ASTRAY, "step": (2,), "entry": (2,)},
    ),
    "a slice beyond the end": (
        pl.pallas_call(lambda x_ref, o_ref: o_ref.__setitem__(..., x_ref[pl.ds(jnp.int32(2), 4)]), out_shape=out(4)),
        f32(5),
        {"ref": "x_ref", "why": Why.BEYOND, "entry": (3,)},
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_nobody_wrote_is_a_fail(name):
    f, x, facts = WRONG[name]
    origin = undefined(f, x)
    assert {key: getattr(origin, key) for key in facts} == facts


def test_the_reason_names_block_and_step_whichever_side_it_is():
    kernel, plain, x = row_sums(multiplied, 4), plain_row_sums(4), f32(10)
    for report in (same(plain, kernel, x), same(kernel, plain, x)):
        assert report.verdict == verify.FAIL
        assert "x_ref beyond its end, at [2] of the block that begins at [8], grid step [2]" in report.reason


def test_padding_that_is_cut_off_is_no_fault():
    """Only what the result depends on counts."""
    kernel = entrywise(jnp.exp)
    assert same(lambda x: jnp.exp(x)[:2], lambda x: kernel(x)[:2], f32(5)).ok
    half = entrywise(jnp.exp, at=lambda i: i + 1)
    assert same(lambda x: jnp.exp(x)[:4], lambda x: half(x)[4:], f32(8)).ok


@settings(max_examples=12)
@given(st.integers(1, 9), st.integers(1, 4))
@example(3, 4)
@example(5, 4)
def test_a_mask_is_needed_unless_blocks_divide(n, rows):
    x = f32(n)
    assert same(plain_row_sums(rows), row_sums(selected, rows), x).ok
    for mask in (unmasked, multiplied):
        assert same(plain_row_sums(rows), row_sums(mask, rows), x).ok == (n % rows == 0)


@pytest.mark.parametrize(
    "wrong",
    [
        matmul(lambda k: k == 1),
        matmul(lambda k: k >= 0),
        matmul(lambda k: k < 0, in_output=True),
        matmul(x_block=lambda i, j, k: (i, (k + 1) % 3)),
        matmul(x_block=lambda i, j, k: (j, k)),
        matmul(steps=2),
        matmul(steps=4),
    ],
)
def test_wrong_tiles_fail(wrong):
    assert same(jnp.matmul, wrong, f32(8, 6), f32(6, 8)).verdict == verify.FAIL


ON_GPU, PARALLEL, IN_ORDER = (
    triton.CompilerParams(),
    tpu.CompilerParams(dimension_semantics=("parallel",)),
    tpu.CompilerParams(dimension_semantics=("arbitrary",)),
)


@pytest.mark.parametrize(
    ("params", "verdict"), [(ON_GPU, "FAIL"), (PARALLEL, "FAIL"), (IN_ORDER, "PASS"), (None, "PASS")]
)
def test_the_order_of_the_grid(params, verdict):
    race = entrywise(jnp.exp, at=lambda i: 0, compiler_params=params)
    report = same(lambda x: jnp.exp(x)[8:], lambda x: race(x)[:4], f32(12))
    assert report.verdict == verdict
    assert "order of a kernel's grid" in report.reason + " ".join(report.notes)
    right = same(jnp.exp, entrywise(jnp.exp, compiler_params=params), f32(12))
    assert (right.verdict, right.notes) == (verify.PASS, ())


def test_what_is_not_known_of_a_kernel_is_named():
    def copied(x_ref, o_ref, done):
        copy = tpu.make_async_copy(x_ref, o_ref, done)
        copy.start()
        copy.wait()

    def noisy(x_ref, o_ref):
        tpu.prng_seed(0)
        o_ref[...] = x_ref[...] * (tpu.prng_random_bits(x_ref.shape) > 0).astype(jnp.float32)

    anywhere = Block(memory_space=pl.ANY)
    copy = pl.pallas_call(
        copied,
        out_shape=out(4),
        in_specs=[anywhere],
        out_specs=anywhere,
        scratch_shapes=[tpu.SemaphoreType.DMA],
    )
    for kernel, name in ((copy, "dma_start"), (pl.pallas_call(noisy, out_shape=out(4)), "prng_random_bits")):
        report = same(lambda x: x, kernel, f32(4))
        assert report.verdict == verify.INCONCLUSIVE
        assert name in report.reason


def test_what_stands_for_an_entry_that_nobody_wrote():
    """No ball, no mask, and an index that is out of bounds."""
    assert [nothing(np.dtype(dtype)) for dtype in (object, bool, np.int8)] == [None, False, -128]
