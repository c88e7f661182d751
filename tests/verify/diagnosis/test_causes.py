"""Where a backward pass goes wrong, what is wrong with it, and what a check could have seen.

The faults in diagnosed.py and held_out.py were written by helpers who had not read the diagnosis;
it was improved on both since.
"""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from faults import diagnosed, held_out, mutants
from jax import numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from jaxnn import Activation, Chain, Dense, HalfSquaredError, verify
from jaxnn.examples import LAYERS, LOSSES, draw_params, draw_x, draw_y, draw_z
from jaxnn.verify.diagnosis.mistakes import TEXTS, Mistake
from jaxnn.verify.diagnosis.other_data import shifts
from jaxnn.verify.tracing.floats import Approximation
from jaxnn.verify.tracing.numpy_code import as_jax


@pytest.fixture(autouse=True)
def as_users_have_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


FAULTS = diagnosed.FAULTS | held_out.FAULTS
RIGHT = diagnosed.RIGHT | held_out.RIGHT
MISSED = {  # faults whose cause is not the first, or not found
    "lecture on logistic regression: theta is updated entry by entry",
    "embedding: the mask is that of the next word",
    "convolution: dk is flipped",
    "weighted softmax: the weights of the examples are left out",
    "weighted softmax: the weight is applied as a square",
    "Poisson regression (NumPy): as for least squares of exp",
    "Poisson regression (NumPy): the exposure is forgotten",
    "Huber net: sign of every residual",
    "gated recurrent net: the cotangent is clipped on the way",
    "RMS norm: as for layer norm",
    "pooling: V from the last window",
    "cross attention: heads are split the wrong way",
    "GELU: silu'",
    "variational autoencoder: the decoder from the mean",
    "deep linear net (NumPy): W2 for W3",
    "concatenated skips: the other half of c2",
    "hinge (NumPy): as for a perceptron",
    "hinge (NumPy): b is of the last example",
    "cosine similarity: epsilon is forgotten",
    "mixture: the prior for the responsibilities",
    "mixture: only the means pull",
    "mixture: the means' term is not weighted by the responsibilities",
}


def diagnosis(fault):
    """Checks the verdict and the place, which are never wrong; the kinds of the causes that are given."""
    report = verify.gradient(fault.cost, fault.grad, fault.params, *fault.data)
    assert report.verdict == verify.FAIL
    assert {leaf.path for leaf in report.leaves if leaf.verdict == verify.FAIL} <= set(fault.leaves)
    assert report.first_wrong == fault.first_wrong
    return [cause.kind for cause in report.causes]


@pytest.mark.sample(lambda name: min(FAULTS[name].kinds))
@pytest.mark.parametrize("name", FAULTS)
def test_faults_by_hand(name, record_property):
    """Refused, found where they are, and explained: or said to be unknown."""
    kinds, true = diagnosis(FAULTS[name]), FAULTS[name].kinds
    record_property("diagnosis", (f"by hand: {name.split(':')[0]}", 1, kinds[0] in true, not true.isdisjoint(kinds)))
    assert (kinds[0] in true) == (name not in MISSED)


@pytest.mark.sample
@pytest.mark.parametrize("architecture", mutants.ARCHITECTURES)
def test_faults_of_the_mutator(architecture, record_property):
    found = list(mutants.diagnosed(architecture))
    assert all(fails for _, fails, _, _ in found)
    first = [kinds[0] in true for *_, true, kinds in found]
    listed = [not true.isdisjoint(kinds) for *_, true, kinds in found]
    record_property("diagnosis", (f"mutants: {architecture}", len(found), sum(first), sum(listed)))
    assert sum(first) >= 0.9 * len(found)


@pytest.mark.sample(lambda name: [*RIGHT].index(name) // 4)
@pytest.mark.parametrize("name", RIGHT)
def test_right_gradients_have_no_cause(name):
    right = RIGHT[name]
    report = verify.gradient(right.cost, right.grad, right.params, *right.data)
    assert (report.ok, report.causes, report.links, report.first_wrong) == (True, (), (), None)


# Links

DRAW = np.random.default_rng(0).normal
PARAMS = {"W1": DRAW(size=(5, 3)), "b1": DRAW(size=5), "W2": DRAW(size=(2, 5)), "b2": DRAW(size=2)}
PARAMS = {name: np.float32(v) for name, v in PARAMS.items()}
X, Y = np.float32(DRAW(size=(6, 3))), np.float32(DRAW(size=(6, 2)))


def cost(params, x, y):
    z1 = checkpoint_name(x @ params["W1"].T + params["b1"], "z1")
    a1 = checkpoint_name(jnp.tanh(z1), "a1")
    z2 = checkpoint_name(a1 @ params["W2"].T + params["b2"], "z2")
    return ((z2 - y) ** 2).sum() / (2 * len(x))


def backward(top=1.0, slope=lambda a: 1 - a**2, bias=1.0, convention=1.0):
    def grad(params, x, y):
        a1 = jnp.tanh(x @ params["W1"].T + params["b1"])
        dz2 = checkpoint_name((a1 @ params["W2"].T + params["b2"] - y) / len(x) * top * convention, "dz2")
        da1 = checkpoint_name(dz2 @ params["W2"], "da1")
        dz1 = checkpoint_name(da1 * slope(a1), "dz1")
        grads = {"W1": dz1.T @ x, "b1": dz1.sum(0), "W2": dz2.T @ a1, "b2": dz2.sum(0) * bias}
        return jax.tree.map(lambda g: g / convention, grads)

    return grad


def states(report):
    """{link: own, inherited or right}."""
    return {
        link.name: "right" if link.verdict == verify.PASS else "inherited" if link.inherited else "own"
        for link in report.links
    }


@pytest.mark.parametrize("convention", [1.0, 6.0])  # dz is m ∂J/∂z in courses, and 1/m comes later
def test_one_fault_is_reported_once(convention):
    report = verify.gradient(cost, backward(slope=lambda a: a, convention=convention), PARAMS, X, Y)
    assert states(report) == {
        **dict.fromkeys(("dz2", "da1", "['W2']", "['b2']"), "right"),
        "dz1": "own",
        **dict.fromkeys(("['W1']", "['b1']"), "inherited"),
    }
    assert [link.name for link in report.links[:3]] == ["dz2", "['W2']", "['b2']"] or report.links[0].name == "dz2"
    assert "first wrong at dz1; ['W1'], ['b1'] inherit it; " in str(report)
    assert json.loads(json.dumps(report.to_dict()))["first_wrong"] == "dz1"
    assert "dz1" in report.to_html()


def test_a_name_that_is_no_link_is_said():
    def grad(params, x, y):
        a1 = jnp.tanh(x @ params["W1"].T + params["b1"])
        dz2 = checkpoint_name((a1 @ params["W2"].T + params["b2"] - y) / len(x), "dz3")
        dz1 = dz2 @ params["W2"]
        checkpoint_name(dz1, "dz1")
        return {"W1": dz1.T @ x, "b1": dz1.sum(0), "W2": dz2.T @ a1, "b2": dz2.sum(0)}

    notes = verify.gradient(cost, grad, PARAMS, X, Y).notes
    assert "dz3 is no link: the forward pass names no z3" in notes
    assert "dz1 is named but not used: go on with what checkpoint_name returns" in notes
    assert not any("named" in note for note in verify.gradient(cost, backward(top=2.0), PARAMS, X, Y).notes)


def test_a_leaf_and_two_faults():
    doubled = verify.gradient(cost, backward(bias=2.0), PARAMS, X, Y)
    assert doubled.first_wrong == "['b2']"
    assert {cause.leaf for cause in doubled.causes} == {"['b2']"}  # no cause would change what is right
    assert verify.gradient(cost, backward(top=2.0), PARAMS, X, Y).first_wrong == "dz2"
    both = verify.gradient(cost, backward(top=3.0, slope=lambda a: a), PARAMS, X, Y)
    assert [name for name, state in states(both).items() if state == "own"] == ["dz2", "dz1"]


def test_a_loop_is_one_link():
    def loss(w, xs):
        def step(h, x):
            h = jnp.tanh(checkpoint_name(w @ h + x, "z"))
            return h, (h**2).sum()

        return jax.lax.scan(jax.checkpoint(step), jnp.ones(3), xs)[1].sum()

    def grad(w, xs, slope=lambda h: 1 - h**2):
        step = lambda h, x: (jnp.tanh(w @ h + x),) * 2  # noqa: E731
        h = jnp.concatenate([jnp.ones((1, 3)), jax.lax.scan(step, jnp.ones(3), xs)[1]])

        def back(carry, hs):
            dw, dh = carry
            before, now = hs
            dz = checkpoint_name((dh + 2 * now) * slope(now), "dz")
            return (dw + jnp.outer(dz, before), w.T @ dz), None

        return jax.lax.scan(back, (jnp.zeros_like(w), jnp.zeros(3)), (h[:-1], h[1:]), reverse=True)[0][0]

    w, xs = np.float32(DRAW(size=(3, 3)) / 2), np.float32(DRAW(size=(4, 3)))
    assert verify.gradient(loss, grad, w, xs).ok
    report = verify.gradient(loss, lambda w, xs: grad(w, xs, lambda h: 1 - h), w, xs)
    assert states(report) == {"dz": "own", "w": "inherited"}


def test_the_layers_of_a_chain_are_links():
    class Forgets(Activation):
        def backward(self, residuals, dout):
            return (), dout

    model = Chain((Dense(3, 5), Activation("tanh"), Dense(5, 4), Forgets("tanh"), Dense(4, 2)))
    report = verify.model(model, HalfSquaredError(), X, Y)
    assert report.first_wrong == "dx of layer 3 (Forgets)"
    assert report.causes[0].kind == "missing_activation_derivative"
    assert states(report)["dz"] == "right"


# Causes


def test_kinds_are_a_closed_list():
    assert set(Mistake) == TEXTS.keys()
    documented = Path(__file__).parents[3].joinpath("docs", "verification.md").read_text(encoding="utf-8")
    assert [kind for kind in TEXTS if f"`{kind}`" not in documented] == []


def test_faults_at_two_places_have_two_causes():
    report = verify.gradient(cost, backward(slope=lambda a: 1.0, bias=1 / 6), PARAMS, X, Y)
    assert {cause.leaf: cause.kind for cause in report.causes[::-1]} == {
        "['W1'], ['b1']": "missing_activation_derivative",
        "['b2']": "bias_averaged",
    }
    assert "The derivative of tanh of z1 is missing" in str(report)


def test_two_mistakes_in_one_leaf():
    """The derivative at a for z, which reaches W1 and b1, and 1/m in W1 once more."""
    wrong = backward(slope=lambda a: 1 - jnp.tanh(a) ** 2)
    twice = lambda p, x, y: {k: g / len(x) if k == "W1" else g for k, g in wrong(p, x, y).items()}  # noqa: E731
    first, second = verify.gradient(cost, twice, PARAMS, X, Y).causes
    assert (first.kind, first.leaf) == ("derivative_at_activation", "['W1'], ['b1']")
    assert (second.kind, second.leaf) == ("extra_mean", "['W1']")
    assert second.sentence.startswith("Besides, ")


@pytest.mark.sample
@pytest.mark.parametrize("steps", [5, 20])  # taken step by step; left a loop
def test_a_loop_of_any_length(steps):
    def loss(w, xs):
        step = lambda h, x: (jnp.tanh(w @ h + x), (h**2).sum())  # noqa: E731
        return jax.lax.scan(step, jnp.ones(3), xs)[1].sum()

    w, xs = np.float32(DRAW(size=(3, 3)) / 2), np.float32(DRAW(size=(steps, 3)))
    report = verify.gradient(loss, lambda w, xs: 2 * jax.grad(loss)(w, xs), w, xs)
    assert [cause.kind for cause in report.causes] == ["constant_factor"]


def test_an_ignored_cotangent():
    report = verify.vjp(lambda x: (jnp.sin(x), x), lambda x, dout: jnp.cos(x), X)
    assert report.causes[0].kind == "ignored_cotangent"
    bent = verify.vjp(lambda x: (jnp.sin(x), x), lambda x, dout: jnp.cos(x) * jnp.tanh(dout), X)
    assert [cause.kind for cause in bent.causes] == ["nonlinear_in_cotangent"]
    twice = jax.custom_vjp(jnp.sin)
    twice.defvjp(lambda x: (jnp.sin(x), x), lambda x, dout: (2 * dout * jnp.cos(x),))
    assert [cause.kind for cause in verify.custom_vjp(twice, X).causes] == ["constant_factor"]


def test_what_is_linear_in_float32_is_linear():
    """The true gradient is so small that the rounding of a cotangent in float32 would show beside it."""
    wrong = lambda x, dout: -dout * jnp.floor(x / 3.0)  # noqa: E731
    x = np.float32([-2.0, -1.0, 0.5, 5.0])
    report = verify.vjp(lambda x: (1e-9 * x**2, x), wrong, x)
    assert [cause.kind for cause in report.causes] == ["unknown"]


def test_a_square_has_one_path():
    """Where x² is a constant in x / ‖x‖, no factor −1 stands at one of its two factors x."""
    wrong = lambda x, dout: dout / jnp.linalg.norm(x)  # noqa: E731
    causes = verify.vjp(lambda x: (x / jnp.linalg.norm(x), x), wrong, X[0]).causes
    assert {cause.kind for cause in causes} == {"path_left_out"}


def test_no_factor_makes_nothing_of_something():
    """The paths through x and through x² come to the same up to 2, and a factor −2 at one would cancel the other."""
    causes = verify.gradient(lambda x: (x * x**2).sum(), jnp.zeros_like, np.float32([3.0])).causes
    assert {cause.kind for cause in causes} == {"path_left_out"}


def test_points_outside_the_domain_are_left_out():
    x = np.float32([0.25, -0.25, 1])
    report = verify.vjp(lambda x: (jnp.log(x + 0.5), x), lambda x, dout: 2 * dout / (x + 0.5), x)
    assert [cause.kind for cause in report.causes] == ["constant_factor"]


def test_linear_algebra():
    """An LU factorisation has a result that is not used; the derivative of a solve is not that of its solver."""
    C = np.float32([[2, 0.5], [0.25, 1]])
    cost = lambda C, d: jnp.linalg.slogdet(C)[1] + d @ jnp.linalg.solve(C, d)  # noqa: E731
    report = verify.gradient(cost, lambda C, d: 3 * jax.grad(cost)(C, d), C, np.float32([1, -0.5]))
    assert [cause.kind for cause in report.causes] == ["constant_factor"]


def test_a_path_is_named_by_the_words_of_people():
    def loss(params, x, y):
        a = checkpoint_name(jnp.tanh(x @ params["W"]), "a")
        return ((a @ params["U"] + jnp.sin(a @ params["V"]) - y) ** 2).sum()

    def grad(params, x, y):
        a = jnp.tanh(x @ params["W"])
        s = a @ params["V"]
        dz = 2 * (a @ params["U"] + jnp.sin(s) - y)
        ds = dz * jnp.cos(s)
        return {"U": a.T @ dz, "V": a.T @ ds, "W": x.T @ (dz @ params["U"].T * (1 - a**2))}

    params = {
        "U": np.float32(DRAW(size=(4, 2))),
        "V": np.float32(DRAW(size=(4, 2))),
        "W": np.float32(DRAW(size=(3, 4))),
    }
    cause = verify.gradient(loss, grad, params, X, Y).causes[0]
    assert cause.kind == "path_left_out"
    assert "The path from a through the matrix product at " in cause.sentence


@pytest.mark.parametrize("shape", [(4, 4), (4, 3), (3, 4), (4,)])
def test_no_two_shifts_share_their_words(shape):
    array = np.arange(np.prod(shape)).reshape(shape)
    ways = shifts(array, "y", 4)
    results = {way(array).tobytes() for way in ways.values()}
    assert len(ways) == len(results) == 2 * len(shape) + 2
    assert ("y by one example on" in ways) == (shape != (4, 4))


def test_a_guess_is_no_fact():
    noise = np.float32(DRAW(size=(5, 3)))
    wrong = lambda p, x, y: {k: g * noise if k == "W1" else g for k, g in backward()(p, x, y).items()}  # noqa: E731
    report = verify.gradient(cost, wrong, PARAMS, X, Y)
    (cause,) = report.causes
    assert (cause.kind, cause.leaf) == ("unknown", "['W1']")
    assert "15 of 15 entries are wrong" in cause.sentence
    words = str(report)
    assert "Next: name values" in words
    assert "To mend it" not in words


@pytest.mark.sample
@pytest.mark.parametrize("prediction", [jax.nn.sigmoid, lambda z: z], ids=["sigmoid", "scores"])
def test_what_is_taken_for_the_prediction_of_a_loss(prediction):
    labels, w = np.eye(4, dtype=np.float32)[[0, 2, 1, 1, 3, 2]], np.float32(DRAW(size=(3, 4)))
    cross_entropy = lambda w, x, y: -(jax.nn.log_softmax(x @ w) * y).sum() / len(x)  # noqa: E731
    wrong = lambda w, x, y: x.T @ (prediction(x @ w) - y) / len(x)  # noqa: E731
    (cause,) = verify.gradient(cross_entropy, wrong, w, X, labels).causes
    assert cause.kind == "derivative_of_other_function"


def test_the_square_of_a_positive_value_is_no_squared_relu():
    squares = lambda w, x: (jax.nn.softmax(x @ w) ** 2).sum()  # noqa: E731

    def grad(w, x):  # the factor 2a is missing
        a = jax.nn.softmax(x @ w)
        return x.T @ (a - a * a.sum(1, keepdims=True))

    causes = verify.gradient(squares, grad, np.float32(DRAW(size=(3, 4))), np.float32(X[:, :3])).causes
    assert causes
    assert not [cause.sentence for cause in causes if "squared relu" in cause.sentence]


def test_numpy_code_with_labels_that_are_whole_numbers():
    def softmax(z):
        e = np.exp(z)
        return e / e.sum(1, keepdims=True)

    loss = lambda w, x, y: -np.sum(np.log(softmax(x @ w)) * np.eye(4)[y]) / 5  # noqa: E731
    shifted = lambda w, x, y: x.T @ (softmax(x @ w) - np.eye(4)[(y + 1) % 4]) / 5  # noqa: E731
    summed = lambda w, x, y: x.T @ (softmax(x @ w) - np.eye(4)[y])  # noqa: E731
    w, x, y = DRAW(size=(3, 4)), DRAW(size=(5, 3)), np.array([0, 1, 2, 1, 0])
    assert [cause.kind for cause in verify.gradient(loss, summed, w, x, y).causes] == ["missing_mean"]
    assert [cause.kind for cause in verify.gradient(loss, shifted, w, x, y).causes] == ["shifted_labels"]


def dropped(w, x):
    """A right rule whose shape depends on values: a tracer sees another."""
    g = x.T @ (x @ w)
    return 2 * g[g.nonzero()]


FALSE = {  # mistakes of no known kind: (cost, grad, the causes that may be given)
    "the gradient is 0 at some points": (
        lambda w, x: jnp.where(w.sum() > 0, (x @ w).sum(), 0.0),
        lambda w, x: jnp.where(w.sum() > 0, x.sum(0), 0.0) + 0.3 * jnp.cos(w),
        {"unknown"},
    ),
    "a permutation is not undone": (
        lambda w, x: (w[::-1] * x).sum(),  # as many entries as "examples"
        lambda w, x: x,
        {"unknown"},
    ),
    "a shape that depends on values": (lambda w, x: ((x @ w) ** 2).sum() * 2, dropped, set()),
    "a cost that is traced as another": (
        lambda w, x: np.tanh(x @ w).sum() + (w[0] ** 2 if w[0] > 0 else w[0] ** 3),
        lambda w, x: x.T @ (1 - np.tanh(x @ w) ** 2),
        set(),
    ),
}


@pytest.mark.parametrize("name", FALSE)
def test_no_cause_is_false(name):
    cost, grad, allowed = FALSE[name]
    numpy = allowed == set()
    shapes = (4, 4) if "permutation" in name else (4, (5, 4))
    w, x = (DRAW(size=s) if numpy else np.float32(DRAW(size=s)) for s in shapes)
    report = verify.gradient(cost, grad, w, x)
    assert report.verdict == verify.FAIL
    assert {cause.kind for cause in report.causes} == allowed
    assert "FAIL" in str(report)


def normalised(z):
    c = z - z.mean(1, keepdims=True)
    s = jnp.sqrt((c**2).mean(1, keepdims=True) + 1e-5)
    return c / s, s


@pytest.mark.parametrize(("axis", "n"), [(1, 4), (0, 4), (0, 6)])
def test_the_sums_of_a_normalisation_over_the_wrong_axis(axis, n):
    """Whether they are divided by the size of the right axis or of the wrong one."""
    W, x, t = (np.float32(DRAW(size=shape)) for shape in ((4, 4), (6, 4), (6, 4)))

    def grad(W, x, t):
        y, s = normalised(x @ W)
        dy, mean = y - t, lambda v: v.sum(axis, keepdims=True) / n
        return x.T @ ((dy - mean(dy) - y * mean(dy * y)) / s)

    report = verify.gradient(lambda W, x, t: ((normalised(x @ W)[0] - t) ** 2).sum() / 2, grad, W, x, t)
    assert [cause.kind for cause in report.causes] == ([] if axis == 1 else ["wrong_axis"])


# Power

HANDED_ON = "nothing at all", "unembedding", "unembedding of sequences"  # backward gives on what it is given


@pytest.mark.sample(lambda name: type(LAYERS[name].layer if name in LAYERS else LOSSES[name].loss))
@pytest.mark.parametrize("name", [*LAYERS, *LOSSES])
def test_every_change_of_our_own_rules_is_noticed(name):
    rng = np.random.default_rng(0)
    if name in LAYERS:
        layer = LAYERS[name].layer
        report = verify.layer(layer, draw_x(LAYERS[name], rng, np.float32), draw_params(layer, rng, np.float32))
    else:
        loss, shape, kind = LOSSES[name]
        y = draw_y(kind, rng, shape, np.float32)
        report = verify.loss(loss, draw_z(LOSSES[name], rng, np.float32), y)
    power = report.power()
    assert power.survivors == ()
    assert power.killed == power.non_equivalent
    assert power.killed >= 2 or name in HANDED_ON  # an Embedding's backward pass is one equation


def test_what_the_data_hide_survives_by_name():
    f = lambda p, x: jnp.tanh(x @ p[0]).sum() + p[1]  # noqa: E731
    grad = lambda p, x: ((1 - jnp.tanh(x @ p[0]) ** 2) @ x, jnp.ones_like(p[1]))  # noqa: E731
    params = np.float32(DRAW(size=3)), np.float32(1)
    blind = verify.gradient(f, grad, params, 0 * X).power()
    assert blind.killed < blind.non_equivalent
    assert all("x, as it is given, hides it" in survivor.reason for survivor in blind.survivors)
    assert "changes of the rule are noticed" in str(blind)
    seeing = verify.gradient(f, grad, params, X)
    assert seeing.power().survivors == ()
    assert "power      " in str(seeing)
    assert json.loads(json.dumps(seeing.to_dict()))["power"]["survivors"] == []


def test_a_wrong_rule_has_no_power():
    assert verify.gradient(cost, backward(top=2.0), PARAMS, X, Y).power() is None


# What they stand on


@pytest.mark.sample(lambda name: [*RIGHT].index(name) // 6)
@pytest.mark.parametrize("name", [name for name in RIGHT if "lecture" not in name and "NumPy" not in name])
def test_numpy_evaluates_a_jaxpr_as_jax_does(name):
    right = RIGHT[name]
    with jax.enable_x64(True):
        wide = lambda v: np.asarray(v, np.float64) if np.asarray(v).dtype == np.float32 else v  # noqa: E731
        args = jax.tree.map(wide, (right.params, *right.data))
        leaves, tree = jax.tree.flatten(args)
        flat = lambda leaves: jax.tree.leaves(right.grad(*jax.tree.unflatten(tree, leaves)))  # noqa: E731
        found = Approximation()(jax.make_jaxpr(flat)(leaves), leaves)
        for ours, true in zip(found, flat(leaves), strict=True):
            np.testing.assert_allclose(ours, true, rtol=1e-10, atol=1e-13)


def in_place(args):
    w, X = args
    Z = np.dot(w, X)
    D = np.zeros(Z.shape)
    D += np.maximum(Z, 0)
    D[Z > 1] = 2.0
    D[:, 0] *= 3
    return np.sum(D * np.array(Z, copy=True), axis=1, keepdims=True) / X.shape[1] + D.mean() + np.linalg.norm(w.T)


def test_numpy_code_as_jax_code():
    args = [DRAW(size=(2, 3)), DRAW(size=(3, 5))]
    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.jit(as_jax(in_place, args))(args), in_place(args), rtol=1e-12)
        decided = lambda args: args[0].sum() if args[0][0, 0] > 0 else 2 * args[0].sum()  # noqa: E731
        np.testing.assert_allclose(jax.jit(as_jax(decided, args))(args), decided(args), rtol=1e-12)
        with pytest.raises(TypeError, match="no values"):
            as_jax(decided, args, decides=False)(args)


def test_code_that_is_not_traced_as_it_is_has_no_cause():
    """A wrong explanation is worse than none."""

    def grad(w, x):
        a = np.tanh(x @ w)
        return x.T @ ((1 - a**2) if type(w) is np.ndarray else a)

    f = lambda w, x: np.sum(np.tanh(x @ w))  # noqa: E731
    other = verify.gradient(f, grad, DRAW(size=3), np.float64(X))  # it computes something else for real numbers
    assert (other.verdict, other.causes) == (verify.FAIL, ())
    box = lambda w, x: 2 * jax.pure_callback(grad, jax.ShapeDtypeStruct((3,), jnp.float32), w, x)  # noqa: E731
    report = verify.gradient(lambda w, x: jnp.tanh(x @ w).sum(), box, np.float32(DRAW(size=3)), X)
    assert (report.verdict, report.evidence, report.causes, report.links) == (verify.FAIL, "dtype", (), ())


# The protocol of a custom rule


def sine(backward, forward=lambda x: (jnp.sin(x), x)):
    f = jax.custom_vjp(jnp.sin)
    f.defvjp(forward, backward)
    return verify.custom_vjp(f, X)


def test_a_custom_rule_keeps_the_protocol():
    assert sine(lambda x, d: (d * jnp.cos(x),)).notes == ()
    once = sine(lambda c, d: (d * c,), lambda x: (jnp.sin(x), jax.lax.stop_gradient(jnp.cos(x))))
    assert once.ok
    assert once.notes == ("second derivatives through the rule are not those of what it computes",)


def test_a_right_rule_that_breaks_the_protocol():
    not_linear = sine(lambda x, d: (d * jnp.cos(x) + jnp.where((d == 0).all(), 1e-3, 0.0),))
    assert (not_linear.verdict, "for a cotangent of zeros it is not 0" in not_linear.reason) == (verify.FAIL, True)
    host = lambda x, d: np.asarray(d * np.cos(x), np.float32)  # noqa: E731
    alone = sine(lambda x, d: (jax.pure_callback(host, jax.ShapeDtypeStruct(x.shape, x.dtype), x, d),))
    assert any("cannot be vmapped" in note for note in alone.notes)
    calls = iter(range(10**6))
    changing = lambda x, d: np.asarray(d * np.cos(x) * (1 + 1e-5 * next(calls)), np.float32)  # noqa: E731
    shape = jax.ShapeDtypeStruct(X.shape, X.dtype)
    other = sine(lambda x, d: (jax.pure_callback(changing, shape, x, d, vmap_method="sequential"),))
    assert not other.ok
