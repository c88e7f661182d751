"""Every custom rule of a step: found, checked once, right and wrong ones told apart, large ones cut down."""

import json
import pickle
import re
from functools import partial
from textwrap import dedent

import equinox
import jax
import numpy as np
import optax
import pytest
from jax import lax
from jax import numpy as jnp

from jaxnn import verify
from jaxnn.verify import FAIL, PASS
from jaxnn.verify.arguments import BadAnswer

draw = np.random.default_rng(0).normal
WEIGHTS = np.float32([1, 2, 3])
LIBRARY = """
    from functools import partial

    import jax


    class Norm:
        eps = 1e-6

        def __call__(self, x, scale):
            return self.normalised(self, x, scale)

        @partial(jax.custom_vjp, nondiff_argnums=(0,))
        def normalised(self, x, scale):
            return x * self.r(x) * scale[None]

        def r(self, x):
            return jax.lax.rsqrt((x**2).mean(1, keepdims=True) + self.eps)

        def forward(self, x, scale):
            return self.normalised(self, x, scale), (x, scale)

        def backward(self, residuals, dout):
            x, scale = residuals
            r, dn = self.r(x), dout * scale[None]
            return r * (dn - x * r**2 * (dn * x).mean(1, keepdims=True)), (dout * x * r).sum(0)

        normalised.defvjp(forward, backward)
"""


def floats(*shape):
    return np.float32(draw(size=shape))


def with_rule(f, backward, **settings):
    """f with a rule from its arguments and the cotangent."""
    rule = jax.custom_vjp(f, **settings)
    rule.defvjp(lambda *args: (f(*args), args), backward)
    return rule


def dense(x, W):
    return jnp.tanh(x @ W)


def dense_backward(args, dout):
    x, W = args
    dz = dout * (1 - jnp.tanh(x @ W) ** 2)
    return dz @ W.T, x.T @ dz


def gated(x, b):
    return x * jax.nn.sigmoid(b)[None]


def gated_backward(args, dout):
    x, b = args
    s = jax.nn.sigmoid(b)
    return dout * s[None], (dout * x).sum(0) * s  # without 1 − s


def taken(x, labels):
    return x[jnp.arange(len(x)), labels]


def taken_backward(args, dout):
    x, labels = args
    return jnp.zeros_like(x).at[jnp.arange(len(x)), labels].set(dout), None


layer = with_rule(dense, dense_backward)
gate = with_rule(gated, gated_backward)
take = with_rule(taken, taken_backward)


@jax.custom_jvp
def softplus(x):
    return jnp.logaddexp(x, jnp.zeros_like(x))


softplus.defjvps(lambda dx, out, x: dx * jax.nn.sigmoid(x))


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def power(x, n):
    return x**n


@power.defjvp
def power_jvp(n, primals, tangents):
    ((x,), (dx,)) = primals, tangents
    return power(x, n), n * x ** (n - 1) * dx


@pytest.mark.usefixtures("standard_promotion")
def test_every_rule_of_a_training_step(tmp_path, monkeypatch):
    folder = tmp_path / "site-packages" / "library"
    folder.mkdir(parents=True)
    (folder / "layers.py").write_text(dedent(LIBRARY))
    monkeypatch.syspath_prepend(str(folder.parent))
    from library.layers import Norm

    optimizer = optax.adam(1e-3)

    def cost(params, x, labels):
        hidden = jax.checkpoint(layer)(power(x, 3), params["W"])
        hidden, _ = lax.scan(lambda h, _: (power(softplus(h), 3), None), hidden, length=3)
        hidden = Norm()(jax.nn.relu(hidden), params["scale"])
        hidden = jax.vmap(lambda h: softplus(power(h, 2)))(gate(hidden, params["b"]))
        return -take(jax.nn.log_softmax(hidden), labels).mean()

    @jax.jit
    def step(params, state, x, labels):
        J, grads = jax.value_and_grad(cost)(params, x, labels)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, J

    params = {"W": floats(1024, 256) / 32, "scale": np.ones(256, np.float32), "b": floats(256)}
    labels = np.random.default_rng(1).integers(0, 256, 512)
    args = params, optimizer.init(params), floats(512, 1024), labels
    report = verify.rules(step, *args)
    assert [(rule.name, rule.shapes, rule.cut, rule.report.verdict) for rule in report.rules] == [
        ("power", ((512, 1024),), ((3, 4),), PASS),  # x³
        ("dense", ((512, 1024), (1024, 256)), ((4, 5), (5, 3)), PASS),
        ("softplus", ((512, 256),), ((4, 3),), PASS),
        ("power", ((512, 256),), ((4, 3),), PASS),
        ("normalised", ((512, 256), (256,)), ((4, 3), (3,)), PASS),
        ("gated", ((512, 256), (256,)), ((4, 3), (3,)), FAIL),
        ("power", ((256,),), ((3,),), PASS),  # h²
        ("softplus", ((256,),), ((3,),), PASS),
        ("taken", ((512, 256), (512,)), ((4, 3), (4,)), PASS),
    ]
    assert report.verdict == FAIL
    assert {rule.name for rule in report.skipped} == {"relu", "logaddexp"}  # JAX's own
    places = {rule.name: rule.place for rule in report.rules}
    assert places["normalised"] == "library/layers.py:13"
    (wrong,) = (rule.report for rule in report.rules if not rule.report.ok)
    assert [leaf.path for leaf in wrong.leaves if leaf.verdict == FAIL] == ["b"]
    (line,) = (line for line in str(report).splitlines() if line.startswith("gated "))
    assert re.search(r"\(512, 256\), \(256,\) +\(4, 3\), \(3,\) +FAIL +exact +b differs", line)
    assert str(wrong) in str(report)
    assert json.loads(json.dumps(report.to_dict()))["rules"][5]["cut"] == [[4, 3], [3]]
    assert pickle.loads(pickle.dumps(report)) == report


def rule_of(f, derivative):
    """f of one array, entry by entry, with the rule dout · derivative(x)."""
    rule = jax.custom_jvp(f)
    rule.defjvps(lambda dx, out, x: dx * derivative(x))
    return rule


def only(report):
    """The one rule, and the shape to which it is cut."""
    (rule,) = report.rules
    return rule.report, rule.cut and rule.cut[0]


def blocks(x):
    """sin x in blocks of 128; 0 in what is left."""
    whole = [jnp.sin(x[i : i + 128]) for i in range(0, len(x) - 127, 128)]
    return jnp.concatenate([*whole, jnp.zeros(len(x) % 128)])


def of_512(x):
    return jnp.sin(x) + jnp.zeros((512, 64))


OF_SIZES = {  # f, its derivative, the shape; the verdict, how it is known, the shape at which it is known
    "a small one": (jnp.sin, jnp.cos, (4, 3), PASS, "exact", (4, 3)),
    "in blocks": (blocks, jnp.cos, (1024,), PASS, "exact", (1024,)),
    "in blocks, wrong": (blocks, lambda x: jnp.cos(x) * 1.001, (1024,), FAIL, "exact", (3,)),
    "of one shape": (of_512, jnp.cos, (512, 64), PASS, "dtype", None),
    "of one shape, wrong": (of_512, lambda x: jnp.cos(x) * 1.01, (512, 64), FAIL, "dtype", None),
    "right, and inaccurate": (
        *(jnp.sin, lambda x: jnp.cos(x) * (1 + 2.0**20 * x) - 2.0**20 * x * jnp.cos(x)),
        *((512,), PASS, "exact", (3,)),
    ),
    "wrong where it is large": (
        *(jnp.sin, lambda x: jnp.where(jnp.arange(len(x)) < 100, jnp.cos(x), 0)),
        *((512,), FAIL, "dtype", (3,)),
    ),
}


@pytest.mark.sample(lambda name: [*OF_SIZES].index(name) // 2)
@pytest.mark.parametrize("name", OF_SIZES)
def test_rules_that_hold_for_some_sizes(name):
    f, derivative, shape, verdict, evidence, cut = OF_SIZES[name]
    report, cut_to = only(verify.rules(rule_of(f, derivative), floats(*shape)))
    assert (report.verdict, report.evidence, cut_to) == (verdict, evidence, cut)


def test_the_same_equations_are_one_rule():
    def scaled_by(a, slope):
        return rule_of(lambda x: a * x, lambda x: slope)

    def step(x):
        for _ in range(5):
            x = scaled_by(2, 2)(x)
        return scaled_by(3, 2)(x)

    verdicts = [rule.report.verdict for rule in verify.rules(step, floats(3)).rules]
    assert verdicts == [PASS, FAIL]


def test_what_is_met_is_checked():
    """The rule is wrong at one number alone, which is never drawn."""
    rule = rule_of(jnp.sin, lambda x: jnp.where(x == 2.5, 0, jnp.cos(x)))
    x = np.float32([1, 2, 3])
    assert verify.rules(rule, x).ok
    report, _ = only(verify.rules(lambda x: rule(x / 2), x + 2))
    assert (report.verdict, report.points[0].kind, report.points[0].verdict) == (FAIL, "given", FAIL)


@jax.custom_jvp
def masked_softmax(x, mask):
    return jax.nn.softmax(x + mask)


@masked_softmax.defjvp
def masked_softmax_jvp(primals, tangents):
    p, dx = masked_softmax(*primals), tangents[0]
    return p, p * (dx - (p * dx).sum(1, keepdims=True))


@jax.custom_jvp
def cross_entropy(z, y):
    return -(y * jax.nn.log_softmax(z)).sum(1)


@cross_entropy.defjvp
def cross_entropy_jvp(primals, tangents):
    (z, y), (dz, dy) = primals, tangents
    return cross_entropy(z, y), ((jax.nn.softmax(z) - y) * dz - jax.nn.log_softmax(z) * dy).sum(1)


@jax.custom_jvp
def dropout(x, key):
    return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), 2 * x, 0)


@dropout.defjvp
def dropout_jvp(primals, tangents):
    return dropout(*primals), dropout(tangents[0], primals[1])


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def scaled(x, a=WEIGHTS):
    return a * x


scaled.defvjp(lambda x, a: (a * x, None), lambda a, _, dout: (a * dout,))
SPECIAL = {
    "an array of nondiff_argnums": (lambda x: scaled(x), floats(3)),
    "a mask of −∞": (lambda x: masked_softmax(x, jnp.where(jnp.tri(4) > 0, 0, -jnp.inf)), floats(4, 4)),
    "distributions": (cross_entropy, floats(512, 100), np.float32(jax.nn.softmax(floats(512, 100)))),
    "one-hot rows": (cross_entropy, floats(512, 100), np.eye(100, dtype=np.float32)[np.arange(512) % 100]),
    "a key": (dropout, floats(4, 3), jax.random.key(0)),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_arguments_that_mean_something(name):
    verify.assert_rules(*SPECIAL[name])


def test_equinox_has_rules_of_its_own():
    @equinox.filter_custom_vjp
    def times(args):
        return args[0] ** 2 * args[1]

    @times.def_fwd
    def forward(perturbed, args):
        return times(args), None

    @times.def_bwd
    def backward(residuals, dout, perturbed, args):
        return 2 * args[0] * args[1] * dout, args[0] ** 2 * dout

    report = verify.assert_rules(jax.grad(lambda x: times((x, x + 1)).sum()), floats(3))
    assert len(report.rules) == 1


def test_a_rule_that_must_not_be_used_is_skipped_and_one_that_cannot_be_is_wrong():
    def refuse(args, dout):
        raise NotImplementedError("no gradient is meant")

    constant = with_rule(lambda x: 2 * x, refuse)
    transposed = with_rule(lambda x, W: x @ W, lambda args, dout: (dout @ args[1], args[0].T @ dout))
    slipped = with_rule(jnp.sin, lambda args, dout: (dout * jnp.cos(args[1]),))
    report = verify.rules(lambda x, W: transposed(slipped(constant(x)), W), floats(3, 4), floats(4, 5))
    assert [rule.reason for rule in report.skipped] == ["where it is differentiated it raises NotImplementedError"]
    assert [(rule.name, rule.report.verdict) for rule in report.rules] == [("sin", FAIL), ("<lambda>", FAIL)]


def test_what_a_step_must_have():
    with pytest.raises(BadAnswer, match="no custom derivative rule that can be checked, only relu"):
        verify.rules(jax.nn.relu, floats(3))
    assert verify.rules(jax.nn.relu, floats(3), jax_rules=True).ok
    with pytest.raises(TypeError, match="draw= is no option of rules"):
        verify.rules(softplus, floats(3), draw=lambda key: ())
    with pytest.raises(AssertionError, match="FAIL  custom rules in sin"):
        verify.assert_rules(rule_of(jnp.sin, jnp.sin), floats(3))


def test_options_are_passed_on():
    guarded = rule_of(lambda x: jnp.log(x + 1e-9), lambda x: 1 / x)
    x = np.abs(floats(3)) + 1
    assert not verify.rules(guarded, x, points="given").ok
    assert verify.rules(guarded, x, points="given", digits=6).ok


def test_a_rule_has_options_of_its_own_by_its_name():
    @jax.custom_vjp
    def spike(x):
        return (x > 0).astype(x.dtype)

    spike.defvjp(lambda x: (spike(x), x), lambda x, dout: (dout / (1 + x**2),))

    @jax.custom_vjp
    def largest(a):
        return jnp.linalg.norm(a) ** 2

    largest.defvjp(lambda a: (largest(a), a), lambda a, dout: (2 * dout * jnp.triu(a + a.T - jnp.diag(jnp.diag(a))),))
    x, a = floats(2), floats(2, 2)

    def step(x, a):
        return spike(x).sum() + largest(a + a.T)

    of = {"spike": {"surrogate": jnp.arctan}, "largest": {"domain": {"a": "symmetric"}}}
    assert verify.assert_rules(step, x, a, of=of, points="given").ok
    halved = {"spike": {"surrogate": lambda x: jnp.arctan(x) / 2}}
    report = verify.rules(step, x, a, of=halved, points="given")
    assert [rule.report.verdict for rule in report.rules] == [FAIL, FAIL]
    with pytest.raises(ValueError, match="of= names spikes, and no such rule was checked: there are spike"):
        verify.rules(spike, x, of={"spikes": {}}, points="given")
    with pytest.raises(TypeError, match="of= gives spike the option 'draw'"):
        verify.rules(step, x, a, of={"spike": {"draw": None}})
