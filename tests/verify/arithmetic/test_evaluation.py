"""The evaluator against JAX: every function of jax.nn, every optax loss, every Flax and Equinox layer, and its rules.

The libraries are scanned, so a function or a primitive that a later version adds is met here first. The tables hold
only how arguments of a name are made, and what has no forward pass in real numbers.
"""

import contextlib
import functools
import inspect
import math
import warnings

import equinox as eqx
import jax
import numpy as np
import optax
import pytest
from flax import linen, nnx
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import lax
from jax import numpy as jnp
from jax.extend.core import jaxpr_as_fun

from jaxnn.verify.arithmetic.balls import midpoints
from jaxnn.verify.arithmetic.decisions import Undecided, Unsupported
from jaxnn.verify.arithmetic.evaluation import Evaluation

ENOUGH = 1e-12  # of the scale of a leaf: the largest radius of what counts as decided
CLOSE = 1e-9  # of the scale: JAX's own rounding errors in float64


@contextlib.contextmanager
def as_others_write():
    """float64, NumPy's promotion, and their own warnings."""
    with (
        jax.enable_x64(True),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(autouse=True)
def others():
    with as_others_write():
        yield


# Evaluation beside JAX


def is_floats(v):
    return isinstance(v, (np.ndarray, jax.Array)) and jnp.issubdtype(v.dtype, jnp.floating)


def with_gradient(f, args):
    """The jaxpr of the float outputs of f and of the gradient of their sum, weighted at random; and its inputs."""
    leaves, tree = jax.tree.flatten(args)

    def both(*values):
        def cost(values):
            left = iter(values)
            out = f(*tree.unflatten([next(left) if is_floats(v) else v for v in leaves]))
            out = [v for v in jax.tree.leaves(out) if is_floats(v)]
            assert out, "no float output"
            weights = np.random.default_rng(7)
            return sum(jnp.vdot(weights.uniform(0.5, 1.5, v.shape), v) for v in out), out

        gradient, out = jax.grad(cost, has_aux=True)(values)
        return [*out, *gradient]

    values = [np.asarray(v, np.float64) for v in leaves if is_floats(v)]
    return jax.make_jaxpr(both)(*values), values


def compiled(jaxprs):
    """JAX's own values as one program, not optimised, which compiles in a tenth of the time."""
    program = jax.jit(lambda inputs: [jaxpr_as_fun(c)(*v) for c, v in zip(jaxprs, inputs, strict=True)])
    shapes = [[jax.ShapeDtypeStruct(a.shape, a.dtype) for a in c.in_avals] for c in jaxprs]
    return program.lower(shapes).compile({"xla_backend_optimization_level": 0})


def evaluate(closed, inputs, precision=200):
    ev = Evaluation(precision)
    return ev(closed, [ev.enter(v) for v in inputs])


def scales(leaves):
    """The largest entry that is not 0 of a leaf; of all where a leaf has none, for 0 is then its true value."""
    largest = [max((float(abs(v.mid())) for v in leaf.flat if 0 not in v), default=0.0) for leaf in leaves]
    return [n or max(largest) or 1.0 for n in largest]


def beside(out, reference):
    return zip(out, reference, scales(out), strict=True)


def gaps(out, reference):
    """How far every output is from JAX's, by its scale."""
    return [np.abs(midpoints(v) - r).max(initial=0) / s for v, r, s in beside(out, reference)]


def decided(closed, inputs):
    """All outputs as balls, or the reason why there are none."""
    for precision in (200, 400, 800, 1600):
        try:
            out = evaluate(closed, inputs, precision)
        except Undecided:
            reason = "undecided"
            continue
        except Unsupported as error:
            return None, str(error)
        if all(v.rad() <= ENOUGH * s for leaf, s in zip(out, scales(out), strict=True) for v in leaf.flat):
            return out, ""
        reason = "a radius that stays large"
    return None, reason


# The scan


def public(module, kind):
    return {name: f for name, f in sorted(vars(module).items()) if name[0] != "_" and kind(f)}


def is_class(base):
    return lambda f: inspect.isclass(f) and issubclass(f, base)


def arguments(name, f, table):
    """What f requires, and what the table says of its name and the parameter's, or of any parameter of that name."""
    many = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    wanted = [p for p in inspect.signature(f).parameters.values() if p.kind not in many and p.name != "self"]
    chosen = {p.name: table.get((name, p.name), table.get(p.name)) for p in wanted}
    missing = [p.name for p in wanted if p.default is p.empty and chosen[p.name] is None]
    if missing:
        raise LookupError(f"what are {', '.join(missing)}?")
    return {p: v for p, v in chosen.items() if v is not None}


def floats(*shape):
    return np.random.default_rng(math.prod(shape)).normal(size=shape)


def probabilities(*shape):
    x = np.exp(-2 * floats(*shape))  # not the softmax of the logits, where gradients are 0
    return x / x.sum(-1, keepdims=True)


def drawn(f, *args):
    """What f returns, without running it: its floats at random, variances positive; integers 0."""

    def draw(path, v):
        if not isinstance(v, jax.ShapeDtypeStruct):
            return v
        if jnp.issubdtype(v.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        if not jnp.issubdtype(v.dtype, jnp.floating):
            return np.zeros(v.shape, v.dtype)
        return np.array(abs(floats(*v.shape)) if "var" in jax.tree_util.keystr(path) else floats(*v.shape))

    return jax.tree_util.tree_map_with_path(draw, eqx.filter_eval_shape(f, *args))


CLASSES, SIGNS = np.array([0, 2]), np.array([[1, -1, 1], [1, 1, -1]])

NO_FORWARD = {  # by library: no function of real numbers
    "jax.nn": {"get_scaled_dot_general_config", "scaled_matmul"},  # settings; it rounds to 8 bits
    "optax": set(),
    "linen": {
        *("Module", "RNNCellBase"),
        *("Fp8DirectDotGeneralOp", "Fp8DotGeneral", "Fp8DotGeneralOp", "Fp8Einsum", "NANOOFp8DotGeneralOp"),  # round
    },
    "nnx": {"Module", "RNNCellBase", "Dict", "List"},
    "equinox": {"StatefulLayer", "StateIndex"},
}
UNDECIDED: dict[str, set] = {"jax.nn": set(), "optax": set(), "linen": set(), "nnx": set(), "equinox": set()}
COARSE = {"dot_product_attention", "scaled_dot_general", "nnx.MultiHeadAttention"}  # float32 inside

JAX_NN = {
    **dict.fromkeys(("x", "a"), floats(2, 4)),
    **dict.fromkeys(("query", "key", "value"), floats(1, 3, 2, 2)),
    **{"lhs": floats(2, 3), "rhs": floats(3, 2), "dimension_numbers": (((1,), (0,)), ((), ()))},
    ("one_hot", "x"): CLASSES,
    ("one_hot", "num_classes"): 3,
    ("log1mexp", "x"): abs(floats(2, 4)),
}


def call(f, chosen):
    """f and its arguments, of which only arrays and trees of them are handed over."""
    arrays = {p: v for p, v in chosen.items() if any(map(is_floats, jax.tree.leaves(v)))}

    def called(arrays):
        bound = inspect.signature(f).bind_partial()
        bound.arguments.update(chosen | arrays)
        return f(*bound.args, **bound.kwargs)

    return called, (arrays,)


OPTAX = {
    **dict.fromkeys(("logits", "predictions", "scores", "anchors", "embeddings", "predictor_outputs"), floats(2, 3)),
    **{"positives": floats(3, 2).T, "negatives": floats(6).reshape(2, 3)},
    **{"targets": probabilities(2, 3), "labels": probabilities(2, 3), "log_targets": np.log(probabilities(2, 3))},
    **{"log_predictions": np.log(probabilities(3, 2).T), "alpha": 0.1, "max_fun": jax.nn.logsumexp},
    **{
        (f"ctc_loss{suffix}", p): v
        for suffix in ("", "_with_forward_probs")
        for p, v in {
            "logits": floats(1, 4, 3),
            "logit_paddings": np.zeros((1, 4), int),
            "labels": np.array([[1, 2]]),
            "label_paddings": np.zeros((1, 2), int),
        }.items()
    },
    **{
        (name, "labels"): CLASSES
        for name in (
            "multiclass_hinge_loss",
            "multiclass_perceptron_loss",
            "multiclass_sparsemax_loss",
            "softmax_cross_entropy_with_integer_labels",
        )
    },
    **{(name, "targets"): SIGNS for name in ("hinge_loss", "perceptron_loss")},
    **{("ntxent", "embeddings"): floats(4, 3), ("ntxent", "labels"): np.array([0, 1, 0, 1])},
}


def optax_loss(name, f):
    f, arrays = call(f, arguments(name, f, OPTAX))
    return (
        lambda arrays: f(arrays)(floats(2, 3), probabilities(2, 3))
    ) if name == "make_fenchel_young_loss" else f, arrays


FLOAT64 = {"param_dtype": np.float64, "dtype": np.float64}

LINEN = {
    **FLOAT64,
    **{"features": 3, "num_heads": 2, "num_embeddings": 4, "num_groups": 2, "kernel_size": (2, 2), "rate": 0.5},
    **{"deterministic": False, "use_running_average": False, ("Einsum", "shape"): (4, 3)},
    **{("Einsum", "einsum_str"): "nt,tc->nc", "layers": [linen.Dense(3), jnp.tanh], "layer_instance": linen.Dense(3)},
    **{
        "cell": linen.GRUCell(3, **FLOAT64),
        "forward_rnn": linen.RNN(linen.GRUCell(3, **FLOAT64)),
        "backward_rnn": linen.RNN(linen.GRUCell(3, **FLOAT64)),
    },
}
LINEN_INPUTS = {
    **dict.fromkeys(("Conv", "ConvLocal", "ConvTranspose"), (floats(1, 4, 3, 2),)),
    **dict.fromkeys(("GroupNorm", "InstanceNorm"), (floats(2, 3, 4),)),
    **dict.fromkeys(("MultiHeadAttention", "MultiHeadDotProductAttention", "SelfAttention"), (floats(1, 3, 4),)),
    **dict.fromkeys(("RNN", "Bidirectional"), (floats(2, 3, 4),)),
    **dict.fromkeys(("LSTMCell", "OptimizedLSTMCell"), ((floats(2, 3), floats(2, 3)), floats(2, 4))),
    **dict.fromkeys(("GRUCell", "MGUCell", "SimpleCell"), (floats(2, 3), floats(2, 4))),
    "ConvLSTMCell": ((floats(1, 3, 4, 3), floats(1, 3, 4, 3)), floats(1, 3, 4, 2)),
    "Embed": (CLASSES,),
}


def linen_layer(name, cls):
    chosen = arguments(name, cls, LINEN)
    layer, inputs = cls(**chosen), LINEN_INPUTS.get(name, (floats(2, 4),))
    later = {"update_stats": True} if name == "SpectralNorm" else {}
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = drawn(lambda: layer.init(keys, *inputs, **later))
    return lambda variables, *x: layer.apply(variables, *x, rngs=keys, mutable=True, **later), (variables, *inputs)


NNX = {
    **FLOAT64,
    **{"in_features": 4, "out_features": 3, "hidden_features": 3, "num_features": 4, "features": 3, "lora_rank": 2},
    **{"num_heads": 2, "num_embeddings": 4, "num_groups": 2, "kernel_size": (2, 2), "rate": 0.5, "head_dim": 4},
    **{"einsum_str": "nt,tc->nc", "kernel_shape": (4, 3), ("MultiHeadAttention", "decode"): False},
    **{("Conv", "in_features"): 2, ("ConvTranspose", "in_features"): 2},
}
NNX_INPUTS = LINEN_INPUTS | {"RoPE": (floats(1, 3, 2, 4),)}


def nnx_layer(name, cls):
    graphs = []

    def state():
        rngs = nnx.Rngs(0)
        linear, cell = nnx.Linear(4, 3, rngs=rngs), functools.partial(nnx.GRUCell, 4, 3, **FLOAT64, rngs=rngs)
        rnns = {"cell": cell(), "forward_rnn": nnx.RNN(cell()), "backward_rnn": nnx.RNN(cell())}
        table = NNX | rnns | {"rngs": rngs, "layer_instance": linear}
        layer = (
            nnx.Sequential(linear, jnp.tanh) if name == "Sequential" else cls(**arguments(name, cls.__init__, table))
        )
        graph, state = nnx.split(layer)
        graphs.append(graph)
        return state

    values = drawn(state)
    return lambda state, *x: nnx.merge(graphs[0], state)(*x), (values, *NNX_INPUTS.get(name, (floats(2, 4),)))


EQUINOX = {
    **{"in_features": 4, "out_features": 3, "in_size": 4, "out_size": 3, "width_size": 3, "depth": 2, "shape": 4},
    **{"in_channels": 2, "out_channels": 3, "kernel_size": 2, "num_spatial_dims": 2, "groups": 2, "target_shape": 2},
    **{"num_heads": 2, "query_size": 4, "embedding_size": 4, "num_embeddings": 4, "input_size": 4, "hidden_size": 3},
    **{(f"Conv{kind}{n}", "groups"): 1 for kind in ("", "Transpose") for n in ("", "1d", "2d", "3d")},
    **{"channels": 4, "operation": lax.add, "init": 0.0, ("AdaptivePool", "operation"): jnp.max, "fn": jnp.tanh},
    **{"axis_name": "batch", "mode": "ema", "weight_name": "weight"},
}
EQUINOX_INPUTS = {
    "MultiheadAttention": (floats(3, 4),) * 3,
    **dict.fromkeys(("Conv", "ConvTranspose", "AdaptivePool", "Pool"), (floats(2, 4, 4),)),
    **{"GRUCell": (floats(4), floats(3)), "LSTMCell": (floats(4), (floats(3), floats(3))), "Embedding": (np.array(2),)},
    **{"RotaryPositionalEmbedding": (floats(3, 4),), "GroupNorm": (floats(4, 3),)},
}


def equinox_layer(name, cls):
    key = jax.random.key(0)
    linear = eqx.nn.Linear(4, 3, key=key)
    inner = {
        "key": key,
        "layer": linear,
        "layers": [linear, eqx.nn.Lambda(jnp.tanh)],
        "pytree": [linear, linear],
        "where": lambda v: v[1].weight,
        "get": lambda v: v[0].weight,
    }
    layer, state = drawn(lambda: eqx.nn.make_with_state(cls)(**arguments(name, cls, EQUINOX | inner)))
    state = jax.tree.map(lambda v: abs(v) if is_floats(v) else v, state)  # running variances
    dimensions = [4] * int(name[-2]) if name[-2:] in ("1d", "2d", "3d") else []
    inputs = EQUINOX_INPUTS.get(name, (floats(2, *dimensions) if dimensions else floats(4),))
    if name == "BatchNorm":
        return lambda layer, *x: jax.vmap(layer, (0, None), (0, None), axis_name="batch")(*x), (
            layer,
            floats(2, 4),
            state,
        )
    if name == "Shared":
        return lambda shared, x: [one(x) for one in shared()], (layer, *inputs)
    keywords = {"Dropout": {"key": key}, "SpectralNorm": {"state": state}}.get(name, {})
    return lambda layer, *x: layer(*x, **keywords), (layer, *inputs)


LIBRARIES = {
    "jax.nn": (jax.nn, callable, lambda name, f: call(f, arguments(name, f, JAX_NN))),
    "optax": (optax.losses, callable, optax_loss),
    "linen": (linen, is_class(linen.Module), linen_layer),
    "nnx": (nnx, is_class(nnx.Module), nnx_layer),
    "equinox": (eqx.nn, is_class(eqx.Module), equinox_layer),
}


PARTS = 4


@pytest.mark.sample(lambda library, part: library)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("library", LIBRARIES)
def test_what_others_wrote_is_decided(library, part):
    module, kind, made = LIBRARIES[library]
    jaxprs, undecided = {}, {}
    functions = [(name, f) for name, f in public(module, kind).items() if name not in NO_FORWARD[library]]
    for name, f in functions[part::PARTS]:
        try:
            jaxprs[name] = with_gradient(*made(name, f))
        except Exception as error:
            undecided[name] = f"{type(error).__name__}: {error}"
    reference = compiled([closed for closed, _ in jaxprs.values()])([inputs for _, inputs in jaxprs.values()])
    wrong = {}
    for (name, (closed, inputs)), right in zip(jaxprs.items(), reference, strict=True):
        out, reason = decided(closed, inputs)
        if out is None:
            undecided[name] = reason
        elif not max(gaps(out, right)) <= (1e-6 if {name, f"{library}.{name}"} & COARSE else CLOSE):
            wrong[name] = gaps(out, right)
    print(f"{library}: {len(jaxprs) + len(undecided)} functions, undecided: {undecided or 'none'}")
    assert not wrong
    assert undecided.keys() == UNDECIDED[library] & {name for name, _ in functions[part::PARTS]}, undecided
    assert len(UNDECIDED[library]) <= 0.05 * len(functions)
    assert not [name for name in NO_FORWARD[library] if not hasattr(module, name)]


# The rules, by family, on numbers that tie, vanish and change sign


def unary(x):
    inside, positive = jnp.tanh(x / 4), abs(x) + 0.25
    return [
        *(f(x) for f in (lax.exp, lax.exp2, lax.expm1, lax.sin, lax.cos, lax.tan, lax.sinh, lax.cosh, lax.tanh)),
        *(f(x) for f in (lax.asinh, lax.atan, lax.erf, lax.erfc, lax.abs, lax.sign, lax.floor, lax.ceil, lax.neg)),
        *(f(x) for f in (lax.logistic, lax.square, lax.bessel_i0e, lax.bessel_i1e, jnp.trunc)),
        *(f(positive) for f in (lax.log, lax.log1p, lax.sqrt, lax.rsqrt, lax.cbrt, lax.lgamma, lax.digamma, jnp.log2)),
        *(f(inside) for f in (lax.asin, lax.acos, lax.atanh, lax.erf_inv, lax.acosh(positive + 1).__add__)),
        *(lax.round(x, mode) for mode in lax.RoundingMethod),
        *(lax.integer_pow(positive, n) for n in (-3, 0, 2, 5)),
        *(lax.polygamma(lax.full_like(x, n), positive) for n in (0, 1, 3)),
        *(x.astype(t).astype(float) for t in (bool, np.int32, np.int8, np.uint8)),
        jnp.where(jnp.isfinite(x) & ~jnp.isnan(x), x, 0) * jnp.signbit(x),
        jnp.polyval(np.array([0.5, -2, 3]), x),
    ]


def binary(x, y):
    a, b = abs(x) + 0.25, abs(y) + 0.5
    return [
        *(f(x, y) for f in (lax.add, lax.sub, lax.mul, lax.max, lax.min, lax.atan2, jnp.hypot, jnp.logaddexp)),
        *(f(x, b) for f in (lax.div, lax.rem, jnp.remainder, jnp.floor_divide)),
        *(f(-a, jnp.sign(y) * b) for f in (lax.rem, jnp.remainder) if f),
        *(lax.pow(a, b), lax.igamma(lax.stop_gradient(a), b), lax.igammac(lax.stop_gradient(a), b)),
        *(lax.pow(-a, jnp.round(y)), lax.pow(-a, jnp.round(y).astype(int))),
        *(jnp.clip(x, y - 1, y + 1), lax.clamp(y - 1, x, y + 1)),
        *(f(x, y) * x for f in (lax.gt, lax.ge, lax.lt, lax.le, lax.eq, lax.ne)),
        jnp.where((x > y) & (x <= 1) | ~(y >= 0) ^ (x == y), x, y * (x != 1)),
        jnp.where((x > y) == (y > 0), x, y) * jnp.any(x > y, 0) + jnp.all(x > -2, 1, keepdims=True),
        lax.select_n(jnp.clip(x, 0, 2).astype(int), x, y, x * y),
        jnp.select([x > 0, y > 0], [x, y], 0.5),
    ]


CUMULATIVE = (lax.cumsum, lax.cumprod, lax.cummax, lax.cummin, lax.cumlogsumexp, jnp.prod)


def reductions(x):
    axes = (0, -1, (0, 1), None)
    return [
        *(f(x, axis) for f in (jnp.sum, jnp.prod, jnp.max, jnp.min, jnp.mean, jnp.std) for axis in axes),
        *(f(x, axis=axis) * x.sum() for f in (jnp.argmax, jnp.argmin) for axis in (0, 1, None)),
        *(f(x, axis=1, reverse=r) for f in CUMULATIVE[:4] for r in (False, True)),
        *(lax.cumlogsumexp(x, axis=0, reverse=r) for r in (False, True)),
        jax.nn.logsumexp(x, 1, b=jnp.sign(x) ** 2 + 1),
        *(f(lax.stop_gradient(x), 1) for f in CUMULATIVE),  # a derivative is said in terms of other primitives
        lax.reduce(lax.stop_gradient(x), 2.0, lambda a, b: a * b, (1,))
        + lax.reduce(x, 1.0, lambda a, b: a * b + a, (1,)),
        *(x[:, :0].sum(1) + x[:, :0].prod(1), jnp.max(x[:, :0], 1, initial=0.5) - jnp.min(x[:0], 0, initial=0.5)[:3]),
    ]


def orders(x):
    values, places = lax.top_k(x, 2)
    keys, carried = lax.sort((jnp.round(x), x * 2), dimension=0, num_keys=1)
    return [
        *(jnp.sort(x, axis, descending=d) for axis in (0, 1) for d in (False, True)),
        *(jnp.argsort(x, axis) * x for axis in (0, 1)),
        *(values, places * values, keys, carried, jnp.median(x, 1), jnp.sort(x[:0], 0)),
        *lax.sort((jnp.sign(x), -x), dimension=1, num_keys=2),
        *(jnp.searchsorted(jnp.sort(x[0]), x[1], side=side) * x[1] for side in ("left", "right")),
    ]


ROWS = np.array([0, -1, 7, 2, -9, 2])  # out of bounds on both sides, and twice the same


def scattering(x, u):
    once = np.array([0, -1, 7, 2, -9, 1])
    return [
        *(x.at[ROWS].get(mode=mode, fill_value=0.5) for mode in ("fill", "clip")),
        *(x.at[:, ROWS].get(mode="clip")[:, :2], jnp.take_along_axis(x, jnp.argsort(x, 1), 1)),
        *(x.at[once].set(u, mode=mode) for mode in ("drop", "clip")),
        *(x.at[ROWS].add(u, mode=mode) for mode in ("drop", "clip")),
        *(x.at[once].multiply(u, mode=mode, unique_indices=True) for mode in ("drop", "clip")),
        *(x.at[np.array([1, -1, 1])].max(u[:3]), x.at[np.array([1, -1, 1])].min(u[:3]), x.at[ROWS].subtract(u)),
        *(x[1, 2], x[-1], x[::-2, ::2], x[np.array([1, 2]), np.array([0, 3])], x.at[1].set(0), x.at[1, 2].add(x[0, 0])),
    ]


def only_forward(x, u):  # JAX has no derivative of these, or one that is of its own choice
    return [
        *(x.at[ROWS].max(u, mode=mode) + x.at[ROWS].min(u, mode=mode) for mode in ("drop", "clip")),
        *(x.at[ROWS].apply(jnp.exp), lax.zeta(abs(x) + 1.5, abs(u[:4]) + 0.25)),
        lax.stop_gradient(jnp.bincount(jnp.abs(jnp.round(x[0])).astype(int), length=4) * x[1, 0]),
    ]


def moving(x):
    i = (x > 0).sum()  # an index that is not known beforehand
    return [
        *(lax.dynamic_slice(x, at, (2, 3)) for at in ((1, 9), (-1, -2), (i, i))),
        *(lax.dynamic_update_slice(x, x[:2, :2] * 2, at) for at in ((3, 3), (i, -i))),
        *(
            lax.pad(x, x[0, 0], c)
            for c in (((1, -1, 2), (-2, 3, 1)), ((-1, -1, 0), (-1, 2, 0)), ((0, 2, 0), (1, 0, 3)))
        ),
        *(jnp.pad(x, 1, mode=mode) for mode in ("edge", "reflect", "wrap")),
        *(jnp.roll(x, 2, 1), jnp.flip(x, 0), jnp.tile(x, (2, 1)), jnp.stack([x, -x], 1), jnp.repeat(x, 2, 0)),
        *(*jnp.split(x, [1, 3], 1), *jnp.unstack(x), jnp.concatenate([x, x * 2]), jnp.moveaxis(x, 0, 1), jnp.triu(x)),
        *(
            lax.reshape(x, (x.size,), (1, 0)),
            x.reshape(-1, 2) if x.size % 2 == 0 else x,
            jnp.diag(x),
            x[None, ..., None],
        ),
        jnp.where(jnp.pad(x > 0, 1)[1:-1, 1:-1][::-1], x, lax.dynamic_slice(x > 0, (i, 0), x.shape) * 1.0),
    ]


def products(a, b):
    big = jnp.outer(a, b)[:12, :12]
    return [
        *(a @ b.T, jnp.einsum("ij,ij->i", a, b), jnp.einsum("ij,kl->ikjl", a, b), jnp.vdot(a, b), jnp.kron(a, b)),
        *(jnp.einsum("ai,aj->aij", a, b) @ b.T[None], jnp.maximum(big, 0) @ jnp.minimum(big, 0), a[:, :0] @ b.T[:0]),
    ]


CONVOLUTIONS = [  # strides, padding, lhs dilation, rhs dilation, feature groups, batch groups
    ((1, 1), "SAME", (1, 1), (1, 1), 1, 1),
    ((2, 1), "VALID", (1, 1), (1, 1), 4, 1),
    ((1, 2), ((1, 2), (0, 1)), (2, 1), (1, 2), 1, 1),
    ((1, 1), ((-1, 1), (1, 0)), (1, 2), (1, 1), 2, 1),
    ((2, 1), "SAME", (1, 1), (1, 1), 1, 2),
]


def convolutions(x, k):
    return [
        *(
            lax.conv_general_dilated(x, k[:, : 4 // c[4]], *c[:4], feature_group_count=c[4], batch_group_count=c[5])
            for c in CONVOLUTIONS
        ),
        lax.conv_general_dilated(
            x, k.transpose(2, 3, 1, 0), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "HCNW")
        ),
        lax.conv_transpose(x[0], k[0], (2,), "SAME", dimension_numbers=("NHC", "HIO", "NHC"))
        if x[0].shape[-1] == k[0].shape[-2]
        else x,
    ]


WINDOWS = [  # sizes, strides, padding, base dilation, window dilation
    ((1, 2, 3), (1, 1, 2), "VALID", None, None),
    ((1, 2, 2), (1, 2, 2), "SAME", None, None),
    ((2, 2, 2), (1, 1, 1), ((0, 0), (1, 0), (0, 2)), None, None),
    ((1, 9, 9), (1, 1, 1), "VALID", None, None),
]


DILATED = ((1, 2, 2), (1, 1, 1), ((0, 0), (1, 1), (0, 2)), (1, 2, 1), (1, 1, 2))


def windows(x):
    extremes = ((-jnp.inf, lax.max), (jnp.inf, lax.min))
    return [
        *(lax.reduce_window(x, 0.0, lax.add, *w) for w in [*WINDOWS, DILATED]),
        *(lax.reduce_window(x, start, f, *w) for w in WINDOWS for start, f in extremes),
    ]


def other_windows(x):
    extreme = lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2), (1, 1, 1), "SAME")  # noqa: E731
    return [
        *(lax.reduce_window(x, 1.0, lax.mul, *w) for w in [*WINDOWS, DILATED]),
        *(lax.reduce_window(x, -jnp.inf, lax.max, *DILATED), *jax.jvp(extreme, (x,), (x * 2,))),
    ]


def loops(x, w):
    def step(c, v):
        return jnp.tanh(w @ c + v), c * v[0]

    return [
        *(lax.scan(step, w[0], x, reverse=r, unroll=n) for r, n in ((False, 1), (True, 2))),
        *lax.scan(step, w[0], x[:0]),
        lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) + i, x),
        lax.scan(lambda c, k: (c + jax.random.normal(k, c.shape), None), x, jax.random.split(jax.random.key(0), 2))[0],
        lax.scan(lambda c, i: ((c[0] * i, c[1] & (c[0].sum() > 0)), c[1] * c[0]), (x, True), np.arange(3))[1],
        *(lax.switch(i, [jnp.sin, jnp.cos, lambda v: v**2], x) for i in (-1, 1, 5)),
        lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x),
        jax.vmap(lambda v: lax.cond(v > 0, jnp.sin, jnp.cos, v))(x[0]),
        jax.checkpoint(lambda v: jnp.sin(jnp.exp(v) * w[0, 0]))(x),
        jax.checkpoint(lambda v: jnp.tanh(v @ w), policy=jax.checkpoint_policies.dots_saveable)(x),
        lax.associative_scan(jnp.multiply, x),
        lax.map(lambda v: v * v.sum(), x),
        *(custom(x), jax.vmap(custom)(x), batched_by_hand(lax.stop_gradient(x))),
        lax.composite(jnp.sin, "test.sine")(lax.stop_gradient(x)),
    ]


@jax.custom_vjp
def custom(x):
    return jnp.sin(x)


custom.defvjp(lambda x: (custom(x), x), lambda x, g: (g * jnp.cos(x) * CLASSES[1] / 2,))


@jax.custom_batching.custom_vmap
def batched_by_hand(x):
    return jnp.sin(x)


@batched_by_hand.def_vmap
def batched_by_hand_rule(axis_size, in_batched, x):
    return jnp.sin(x), True


def unknown_ends(x):  # no derivative in reverse
    grow = lambda s: (abs(s[0]) * 1.5 + 0.25, s[1] + 1)  # noqa: E731
    trips = jax.vmap(lambda v: lax.while_loop(lambda s: s[0] < 20, grow, (v, 0)))(x[0])
    return [trips[0], trips[1] * 1.0, lax.while_loop(lambda s: s[0].sum() < 20, grow, (x, 0))[0]]


def random(x):
    key = jax.random.key(5)
    keys = jnp.stack([key, jax.random.fold_in(key, 1), *jax.random.split(key)])
    chosen = jnp.where(x[0, 0] > 0, keys[1], keys[2])
    return [
        *(jnp.where(jax.random.bernoulli(k, 0.5, x.shape), x / 0.5, 0) for k in (key, keys[3], chosen)),
        x * jax.random.normal(chosen, x.shape) + jax.random.uniform(key, x.shape, minval=-1),
        jax.vmap(lambda k, v: v * jax.random.normal(k))(keys[: len(x)], x[:4]),
        jax.random.permutation(key, x) + jax.random.randint(key, x.shape, -3, 9) / 3 + jax.random.gumbel(key, x.shape),
        x * jax.random.bernoulli(jax.random.PRNGKey(0), 0.3, x.shape),
    ]


def batched(x, y):
    i = np.array([[0, 9], [1, -1], [2, -7]])
    return [
        *jax.vmap(lambda v, i: [v[i], v.at[i].set(0.0), v.at[i].add(v[0]), lax.dynamic_slice(v, (i[1],), (2,))])(x, i),
        *jax.vmap(lambda v: [jnp.sort(v), jnp.cumsum(v), jnp.max(v), lax.top_k(v, 2)[0], jax.nn.softmax(v)])(x),
        jax.vmap(lambda v: lax.reduce_window(v, -jnp.inf, lax.max, (2,), (1,), "SAME"))(x),
        jax.vmap(jnp.outer)(x, y),
        jax.vmap(lambda v: v * lax.psum(v, "i") - lax.pmean(v, "i"), axis_name="i")(x),
        jax.vmap(lambda v: v * lax.pmax(v, "i") - lax.pmin(v, "i"), axis_name="i")(lax.stop_gradient(x)),
        jax.vmap(lambda v, k: jnp.convolve(v, k))(x, y[:, :2]),
    ]


def integers(x):
    i, u = jnp.arange(-4, 5, dtype=np.int32), jnp.arange(250, 256).astype(np.uint8)
    return [
        *(v * x[0, 0] for v in (i * 2147483647 + 7, i // 3, i % 3, lax.div(i, jnp.int32(3)), lax.rem(i, jnp.int32(3)))),
        *(
            v * x[0, 0]
            for v in (i << 3, i >> 1, i.astype(np.int8) * np.int8(100), abs(i), jnp.sign(i), i**3, i ^ 5, i / 2)
        ),
        *(v * x[0, 0] for v in (u * 3, u - 251, ~u, u.astype(np.int8), jnp.clip(i, 0, 3), jnp.where(i > 2, i, 0))),
        (jnp.float32(0.1) * x, x * 0.1, jnp.array(0.1, np.float16).astype(float) * x),
    ]


def linear_algebra(a, b):
    s = a @ a.T + 5 * jnp.eye(len(a))
    m = s + jnp.triu(a)
    inverse = jnp.linalg.inv(m)
    transposed = inverse.T
    triangles = ((low, t, left, unit) for low in (0, 1) for t in (0, 1) for left in (0, 1) for unit in (0, 1))
    return [
        *(jnp.linalg.cholesky(s), jnp.linalg.solve(s, b.T), jnp.linalg.inv(s), jnp.linalg.det(s)),
        *(jnp.linalg.solve(a, b.T), jnp.linalg.slogdet(a)[1], lax.linalg.lu(lax.stop_gradient(a))[0]),
        lax.custom_linear_solve(lambda v: m @ v, b[0], lambda _, v: inverse @ v, lambda _, v: transposed @ v),
        jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(s), b.T),
        *(
            lax.linalg.triangular_solve(
                s,
                b.T if left else b,
                left_side=bool(left),
                lower=bool(low),
                transpose_a=bool(t),
                unit_diagonal=bool(unit),
            )
            for low, t, left, unit in triangles
        ),
    ]


FAMILIES = {  # with the shapes of its arguments; those of the second row have no gradient
    **{unary: [(3, 4)], binary: [(3, 4), (3, 4)], reductions: [(3, 4)], orders: [(3, 4)], moving: [(4, 5)]},
    **{scattering: [(4, 5), (6, 5)], products: [(3, 4), (3, 4)], convolutions: [(2, 4, 5, 4), (4, 4, 2, 3)]},
    **{windows: [(2, 5, 6)], loops: [(3, 4), (4, 4)], random: [(4, 3)], batched: [(3, 4), (3, 4)]},
    **{integers: [(1, 2)], linear_algebra: [(4, 4), (2, 4)]},
}
FORWARD = {only_forward: [(4, 5), (6, 5)], other_windows: [(2, 5, 6)], unknown_ends: [(3, 4)]}


@functools.cache
def program(family):
    """Its jaxpr, and JAX's own values of it, compiled once."""
    args = [floats(*shape) for shape in (FAMILIES | FORWARD)[family]]
    closed = with_gradient(family, args)[0] if family in FAMILIES else jax.make_jaxpr(family)(*args)
    return closed, compiled([closed])


@pytest.mark.parametrize("family", FAMILIES | FORWARD, ids=lambda f: f.__name__)
def test_a_family_of_rules_is_decided(family):
    closed, run = program(family)
    inputs = [floats(*shape) for shape in (FAMILIES | FORWARD)[family]]
    out, reason = decided(closed, inputs)
    assert out is not None, reason
    assert all(np.allclose(midpoints(v), r, rtol=0, atol=1e-11 * s) for v, r, s in beside(out, run([inputs])[0]))


NUMBERS = st.one_of(st.integers(-12, 12).map(lambda n: n / 4), st.floats(-3, 3, width=16).map(lambda x: x + 0))  # no −0


@pytest.mark.parametrize("family", [f for f in FAMILIES | FORWARD if f is not linear_algebra], ids=lambda f: f.__name__)
@settings(max_examples=6)
@given(data=st.data())
def test_a_family_of_rules_at_ties_and_zeros(family, data):
    draw = lambda n: data.draw(st.lists(NUMBERS, min_size=n, max_size=n))  # noqa: E731
    with as_others_write():
        closed, run = program(family)
        inputs = [np.array(draw(math.prod(shape))).reshape(shape) for shape in (FAMILIES | FORWARD)[family]]
        out = evaluate(closed, inputs)
        for k, (balls, right, scale) in enumerate(beside(out, run([inputs])[0])):
            for ball, x in zip(balls.flat, np.asarray(right).flat, strict=True):
                assert not ball.is_finite() or abs(ball.mid() - x) <= ball.rad() + 1e-11 * scale, (k, ball, x)


# What must hold whatever the rules are


ONE, TWO = (
    {
        "exp": jnp.exp,
        "tanh": jnp.tanh,
        "sin": jnp.sin,
        "relu": jax.nn.relu,
        "abs": jnp.abs,
        "floor": jnp.floor,
        "round": jnp.round,
        "sign": jnp.sign,
        "square": jnp.square,
        "log": lambda x: jnp.log(abs(x) + 0.1),
        "root": lambda x: jnp.sqrt(abs(x)),
        "logistic": jax.nn.sigmoid,
        "erf": lax.erf,
        "softmax": jax.nn.softmax,
        "max": lambda x: x - x.max(),
        "cumsum": jnp.cumsum,
        "cummax": lambda x: lax.cummax(x, 0),
        "pool": lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2,), (1,), "SAME"),
        "pad": lambda x: jnp.pad(x, (1, 0))[:-1],
        "outer": lambda x: jnp.outer(x, x) @ x,
        "where": lambda x: jnp.where((x > 0.3) | (x * 3 < -1.0), x * 0.7, -x),
        "scan": lambda x: lax.scan(lambda c, v: (jnp.sin(c * v), c + v), x[0], x)[1],
    },
    {
        "add": jnp.add,
        "mul": jnp.multiply,
        "sub": jnp.subtract,
        "div": lambda x, y: x / (y**2 + 1),
        "max": jnp.maximum,
        "min": jnp.minimum,
        "atan2": jnp.arctan2,
        "rem": lambda x, y: lax.rem(x, abs(y) + 0.2),
        "pow": lambda x, y: (abs(x) + 0.1) ** y,
        "clip": lambda x, y: jnp.clip(x, -0.3, abs(y)),
        "same": lambda x, y: jnp.where(x == y, x, y),
    },
)


def expression(draw):
    """A function of x, composed at random."""
    plan = draw(
        st.lists(
            st.one_of(st.sampled_from([*ONE]), st.tuples(st.sampled_from([*TWO]), st.integers(0, 5))),
            min_size=2,
            max_size=7,
        )
    )

    def f(x):
        values = [x]
        for op in plan:
            values.append(
                ONE[op](values[-1]) if isinstance(op, str) else TWO[op[0]](values[-1], values[op[1] % len(values)])
            )
        return values[-1]

    return f


@settings(max_examples=20)
@given(data=st.data())
def test_a_ball_holds_what_more_precision_finds(data):
    f = expression(data.draw)
    x = np.array(data.draw(st.lists(st.floats(-2, 2, width=32, allow_subnormal=False), min_size=4, max_size=4)))
    with as_others_write():
        try:
            gradient = jax.make_jaxpr(lambda x: (f(x), jax.grad(lambda x: (f(x) * CLASSES.repeat(2)).sum())(x)))(x)
            coarse, fine = (evaluate(gradient, [x], precision) for precision in (64, 800))
        except Undecided:
            assume(False)
    for a, b in zip(coarse, fine, strict=True):
        assert all(v.overlaps(w) or v.is_nan() for v, w in zip(a.flat, b.flat, strict=True)), (coarse, fine)


THIRD = np.array([1.0, 3.0])  # x[0] / x[1] is no binary fraction, so 3 (1 / 3) - 1 is a ball around 0


def near_zero(x):
    return x[0] / x[1] * 3 - 1


def ball(f, x=THIRD):
    out = evaluate(jax.make_jaxpr(f)(x), [x])
    return out[0][()] if len(out) == 1 and out[0].shape == () else out


def test_the_ball_around_0_is_none_of_its_neighbours():
    zero = ball(near_zero)
    assert 0 in zero
    assert not zero.is_exact()


@pytest.mark.parametrize(
    "f",
    [
        lambda x, u: jnp.where(u > 0, 5.0, 7.0),
        lambda x, u: jnp.where(u == 0, 5.0, 7.0),
        lambda x, u: jnp.where((u >= 0) | (x[0] > 2), 5.0, 7.0),
        lambda x, u: jnp.where(jnp.all(x * u > 0), 5.0, 7.0),
        lambda x, u: jnp.where((u > 0)[None][::-1].reshape(()), 5.0, 7.0),
        lambda x, u: jnp.where(lax.cond(x[0] > 0, lambda: u > 0, lambda: False), 5.0, 7.0),
        lambda x, u: 5.0 + 2.0 * (u > 0),
        lambda x, u: jnp.where((u > 0) == (x[0] / x[1] < 1 / x[1]), 5.0, 7.0),  # two unknowns are not one
        lambda x, u: jnp.where((u > 0) * 1.0 == (u * 2 > 0) * 1.0, 5.0, 7.0),
        lambda x, u: lax.scan(lambda c, v: (c | (v > 0), None), False, u[None])[0] * 2.0 + 5.0,
        lambda x, u: 5 + 2 * jnp.ceil(u),
        lambda x, u: jnp.where(jnp.where(u > 0, x[0] > 0, x[0] < 0), 5.0, 7.0),
    ],
)
def test_a_select_that_is_undecided_is_the_union_of_both_sides(f):
    out = ball(lambda x: f(x, near_zero(x)))
    assert 5 in out
    assert 7 in out
    assert out.rad() < 1.5


@pytest.mark.parametrize(
    "f",
    [
        lambda x, u: jnp.arange(3.0)[(u > 0).astype(int)],
        lambda x, u: u.astype(int) * 1.0,
        lambda x, u: jnp.argmax(jnp.stack([u, u * 2])) * 1.0,
        lambda x, u: jnp.sort(jnp.stack([u, u * 2])),
        lambda x, u: lax.top_k(jnp.stack([u, u * 2]), 1)[0],
        lambda x, u: lax.cond(u > 0, jnp.sin, jnp.cos, u),
        lambda x, u: lax.while_loop(lambda c: c > 0, lambda c: c - 1, u),
        lambda x, u: jnp.sum(u > 0) * 1.0,
        lambda x, u: jnp.argmax(jnp.stack([u > 0, u < 0])) * 1.0,
        lambda x, u: jnp.where(u > 0, 1, 2) * 1.0,
        lambda x, u: jnp.signbit(u) * 1.0,
        lambda x, u: jax.random.normal(jnp.where(u > 0, jax.random.key(0), jax.random.key(1))),
        lambda x, u: jax.grad(lambda v: lax.reduce_window(v, -jnp.inf, lax.max, (2,), (1,), "VALID").sum())(u * x),
    ],
)
def test_an_integer_that_is_undecided_stops_the_evaluation(f):
    with pytest.raises(Undecided):
        ball(lambda x: f(x, near_zero(x)))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x - x,
        lambda x: jax.nn.relu(-abs(x)),
        lambda x: x.at[0].set(0.0)[:1],
        lambda x: jax.nn.relu(-x) @ jnp.outer(x, x),
        lambda x: jnp.where(jnp.exp(x) > 0, 0.0, 1.0),
        lambda x: jnp.where(jnp.exp(x).max() == jnp.exp(x)[1], 0.0, 1.0),  # the winner itself
        lambda x: jnp.exp(-jnp.inf * x),
        lambda x: jnp.sin(x * 0),
        lambda x: jnp.round(jnp.exp(x)) - jnp.array([3, 20.0]),
    ],
)
def test_an_exact_zero_stays_exact(f):
    assert all(v.is_zero() for v in np.ravel(ball(f)[0] if isinstance(ball(f), list) else ball(f)))


@pytest.mark.parametrize(
    "f", [lambda x: abs(jnp.fft.fft(x)), lambda x: jnp.real(x * 1j), lambda x: jnp.linalg.svd(x[None])]
)
def test_what_has_no_rule_is_unsupported(f):
    with pytest.raises(Unsupported):
        ball(f)


def test_what_was_traced_in_32_bits_draws_and_rounds_its_literals_so():
    def f(x):
        key = jax.random.PRNGKey(3)
        return x * jax.random.normal(key, x.shape) + jnp.where(jax.random.bernoulli(key, 0.5, x.shape), 0.1, 0)

    x = np.linspace(-1, 1, 8, dtype=np.float32)
    with jax.enable_x64(False):
        closed, right = jax.make_jaxpr(f)(x), f(x)
    assert np.allclose(midpoints(evaluate(closed, [x])[0]), right, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, jnp.bfloat16])
def test_a_literal_is_the_float_of_its_dtype(dtype):
    out = ball(lambda x: x.astype(dtype) * 0.1)
    assert out[0][0] == float(dtype(0.1))


def test_evaluation_is_in_64_bits_wherever_it_is_called():
    closed = jax.make_jaxpr(lambda x: x * (jnp.arange(3) * 2**40))(floats(3))
    with jax.enable_x64(False):
        out = evaluate(closed, [np.ones(3)])
    assert np.array_equal(midpoints(out[0]), np.arange(3) * 2.0**40)
