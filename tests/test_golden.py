"""Numbers that others published, computed by jaxnn.

`OURS` has the function of each case: from the case's inputs it computes, by jaxnn alone, what the case publishes, under
the case's own names and in its layout. Cases and tolerances are in ../shared/data/expected, which no clone contains.
"""

import json
from functools import partial
from itertools import pairwise, zip_longest
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxnn import (
    L2,
    Activation,
    BinaryCrossEntropy,
    Chain,
    Dense,
    HalfSquaredError,
    MeanSquaredError,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
    fit,
    value_and_grad,
)
from jaxnn.layers.dense import Params
from jaxnn.metrics import accuracy

pytestmark = pytest.mark.usefixtures("x64")

DATA = Path(__file__).parents[2] / "shared" / "data"
absent = pytest.mark.skipif(not DATA.exists(), reason="published numbers are in ../shared/data, which is not here")

sigmoid, relu, tanh = Activation("sigmoid"), Activation("relu"), Activation("tanh")


# Layouts. jaxnn: x (m, n), W (n_out, n_in), b (n_out,). The courses differ in one of two ways:
#   dlai      examples are columns: X (n, m), b (n_out, 1), W as ours       -> `columns`, `in_columns`
#   the rest  examples are rows, as ours, but W (n_in, n_out)               -> `parameters(…, in_out=True)`
# dlai's dW and db are ∂J/∂W and ∂J/∂b as ours, but its dZ and dA lack the 1/m of the mean: they are m ∂J/∂Z and
# m ∂J/∂A. So dz = dZᵀ / m goes into our backward, and m dx comes out as dA_prev.


def array(v):
    return jnp.asarray(np.asarray(v, np.float64))


def columns(v):
    """(n, m) as (m, n), and back."""
    return array(v).T


def dense(W, b):
    return Params(array(W), array(b).reshape(-1))


def parameters(named, in_out=False):
    """W1, b1, W2, b2, … as the Params of Dense layers."""
    numbers = sorted(name[1:] for name in named if name[0] == "W")
    return [dense(np.transpose(named["W" + i]) if in_out else named["W" + i], named["b" + i]) for i in numbers]


def in_columns(params, d=""):
    """The Params of a network, or with d="d" its gradients, as dlai names and writes them."""
    learned = enumerate([p for p in params if p], 1)
    return {name: v for i, (W, b) in learned for name, v in ((f"{d}W{i}", W), (f"{d}b{i}", b[:, None]))}


def network(learned, *activations):
    """Dense, activation, Dense, activation, … with these Params; one activation fewer leaves the end linear."""
    layers, params = [], []
    for p, g in zip_longest(learned, activations):
        n_out, n_in = p.W.shape
        layers.append(Dense(n_in, n_out))
        params.append(p)
        if g is not None:
            layers.append(g)
            params.append(())
    return Chain(layers), tuple(params)


def outputs(model, params, x):
    """What each layer of the Chain puts out."""
    return [Chain(model.layers[:i]).apply(params[:i], x) for i in range(1, len(params) + 1)]


def train(model, params, x, y, lr, iterations):
    """Full batches from given params: nothing is drawn, so the key does not matter."""
    loss, key = SigmoidCrossEntropy(), jax.random.key(0)
    return fit(model, loss, x, y, key=key, optimizer=optax.sgd(lr), epochs=iterations, params=params)


def update(optimizer, params, grads, state=None):
    updates, state = optimizer.update(grads, optimizer.init(params) if state is None else state, params)
    return optax.apply_updates(params, updates), state


# deeplearning.ai, course 1


def small_start(seed, sizes, scale=0.01):
    """Params as `Dense.init` makes them, except that W is drawn by NumPy: the published runs start from its draws."""
    draw = np.random.RandomState(seed)
    inits = [Dense(*pair).init(jax.random.key(0), jnp.float64) for pair in pairwise(sizes)]
    return [Params(array(draw.randn(*W.shape) * scale), b) for W, b in inits]


def init(n_x, n_h, n_y, seed, scale):
    return in_columns(small_start(seed, (n_x, n_h, n_y), scale))


def linear_forward(A_prev, W, b):
    model, params = network([dense(W, b)])
    return {"Z": model.apply(params, columns(A_prev)).T}


def linear_activation_forward(A_prev, W, b, activation):
    model, params = network([dense(W, b)], Activation(activation))
    return {"A": model.apply(params, columns(A_prev)).T}


def L_model_forward(X, **named):
    x = columns(X)
    z1, a1, z2, a2, z3, a3 = (v.T for v in outputs(*network(parameters(named), relu, relu, sigmoid), x))
    return {"Ain1": x.T, "Z1": z1, "Ain2": a1, "Z2": z2, "Ain3": a2, "Z3": z3, "AL": a3}


def compute_cost(Y, AL=None, A2=None):
    J, _ = BinaryCrossEntropy().forward(columns(AL or A2), columns(Y))
    return {"cost": J}


def residuals_at(model, params, inputs):
    """What backward needs, each layer having run at its own input: dlai draws its caches, Z is not W A_prev + b."""
    return tuple(layer.forward(p, columns(v))[1] for layer, p, v in zip(model.layers, params, inputs, strict=True))


def backward(model, params, inputs, dout):
    m = len(dout[0])
    grads, dx = model.backward(residuals_at(model, params, inputs), columns(dout) / m)
    return {"dA_prev": m * dx.T, "dW": grads[0].W, "db": grads[0].b[:, None]}


def linear_backward(dZ, A_prev, W, b):
    return backward(*network([dense(W, b)]), [A_prev], dZ)


def linear_activation_backward(dA, A_prev, W, b, Z, activation):
    return backward(*network([dense(W, b)], Activation(activation)), [A_prev, Z], dA)


def L_model_backward(AL, Y, A0, Z1, A1, Z2, **named):
    model, params = network(parameters(named), relu, sigmoid)
    residuals = residuals_at(model, params, [A0, Z1, A1, Z2])
    loss = BinaryCrossEntropy()
    dout = loss.backward(loss.forward(columns(AL), columns(Y))[1])
    grads2, dx2 = Chain(model.layers[2:]).backward(residuals[2:], dout)
    grads1, dx1 = Chain(model.layers[:2]).backward(residuals[:2], dx2)
    m = len(Y[0])
    return {"dA1": m * dx2.T, "dA0": m * dx1.T} | in_columns(grads1 + grads2, "d")


def update_parameters(params, grads, lr):
    params, grads = {k: array(v) for k, v in params.items()}, {k: array(grads["d" + k]) for k in params}
    return update(optax.sgd(lr), params, grads)[0]


def layer_model(X, Y, lr, iterations, init_params=None, hidden=relu, **init):
    """Dense, hidden, …, Dense and the sigmoid's cross-entropy, trained; init_W1, … or init_params is the start."""
    learned = parameters(init_params or {name.removeprefix("init_"): v for name, v in init.items()})
    model, params = network(learned, *[hidden] * (len(learned) - 1))
    return train(model, params, columns(X), columns(Y), lr, iterations)


def trained_parameters(**case):
    run = layer_model(**case)
    return in_columns(run.params) | {"cost_iter0": run.history.iteration_cost[0]}


def flower_costs(iterations, **case):
    """The published costs are those before the iterations 0, 1000, … 7000; the note says why the last two are not."""
    run = layer_model(iterations=7001, hidden=tanh, **case)
    return {"costs_0_to_7000": run.history.iteration_cost[::1000]}


def planar_forward(X, **named):
    z1, a1, z2, a2 = (v.T for v in outputs(*network(parameters(named), tanh, sigmoid), columns(X)))
    return {"Z1": z1, "A1": a1, "Z2": z2, "A2": a2}


def planar_backward(X, Y, A1, A2, **named):
    """The caches A1 and A2 are what X and the parameters give: the whole gradient is asked of `value_and_grad`."""
    model, params = network(parameters(named), tanh)
    _, grads = value_and_grad(model, SigmoidCrossEntropy())(params, columns(X), columns(Y))
    return in_columns(grads, "d")


def classes(model, params, x):
    """[p ≥ ½] as a row."""
    return (SigmoidCrossEntropy().predict(model.apply(params, x)) >= 0.5).T


def planar_predict(X, **named):
    return {"pred": classes(*network(parameters(named), tanh), columns(X))}


# dlai's logistic regression has w (n, 1) = Wᵀ and a scalar b


def neuron(w, b):
    return network([dense(np.transpose(w), b)])


def logistic_propagate(w, b, X, Y):
    model, params = neuron(w, b)
    J, ((dW, db),) = value_and_grad(model, SigmoidCrossEntropy())(params, columns(X), columns(Y))
    return {"dw": dW.T, "db": db[0], "cost": J}


def logistic_optimize(w, b, X, Y, lr, iterations):
    """w and b after the last update; dw and db the gradient that it used."""
    model, params = neuron(w, b)
    x, y = columns(X), columns(Y)
    run = train(model, params, x, y, lr, iterations)
    before = train(model, params, x, y, lr, iterations - 1).params
    _, ((dW, db),) = value_and_grad(model, SigmoidCrossEntropy())(before, x, y)
    ((W, b),) = run.params
    return {"w": W.T, "b": b[0], "dw": dW.T, "db": db[0], "costs_at_0_100": run.history.iteration_cost[::100]}


def logistic_model(X, Y, x_test, lr, iterations):
    model, params = neuron(np.zeros((len(X), 1)), 0)
    run = train(model, params, columns(X), columns(Y), lr, iterations)
    ((W, b),) = run.params
    pred_train, pred_test = (classes(model, run.params, columns(v)) for v in (X, x_test))
    costs0 = run.history.iteration_cost[0]
    return {"w": W.T, "b": b[0], "costs0": costs0, "pred_train": pred_train, "pred_test": pred_test}


def logistic_predict(w, b, X):
    return {"pred": classes(*neuron(w, b), columns(X))}


def sigmoid_values(x):
    return {"y": sigmoid.apply((), array(x))}


# The cat images: y = 1 is a cat


def cats():
    with np.load(DATA / "cat" / "catvnoncat.npz") as cat:
        return tuple(cat[name] for name in ("x_train", "y_train", "x_test", "y_test"))


def cat_training(learned, lr, iterations):
    x_train, y_train, x_test, y_test = cats()
    x, x_test = (array(v.reshape(len(v), -1) / 255) for v in (x_train, x_test))
    y, y_test = (array(v[:, None]) for v in (y_train, y_test))
    model, params = network(learned, *[relu] * (len(learned) - 1))
    run = train(model, params, x, y, lr, iterations)
    predict = lambda x: SigmoidCrossEntropy().predict(model.apply(run.params, x))  # noqa: E731
    accuracies = {"train_acc": accuracy(predict(x), y), "test_acc": accuracy(predict(x_test), y_test)}
    return run.history.iteration_cost, accuracies


def cat_logistic(lr, iterations, init):
    costs, accuracies = cat_training([dense(np.zeros((1, 12288)), 0)], lr, iterations)
    return {"costs": costs[::100]} | accuracies


def cat_two_layer(lr, iterations, init):
    costs, accuracies = cat_training(small_start(1, (12288, 7, 1)), lr, iterations)
    return {f"cost_{i}": costs[i] for i in (0, 100, 2400)} | accuracies


# Worked examples: weights (n_in, n_out)


def mazur(X, T, lr, **named):
    """One step; the published one leaves the biases as they are, which W's step does not see."""
    x, t, loss = array(X), array(T), HalfSquaredError()
    model, params = network(parameters(named, in_out=True), sigmoid, sigmoid)
    _, out_h, _, out = outputs(model, params, x)
    E, grads = value_and_grad(model, loss)(params, x, t)
    E_o1, E_o2 = (loss.forward(out[:, [k]], t[:, [k]])[0] for k in range(2))
    (new1, _, new2, _), _ = update(optax.sgd(lr), params, grads)
    ours = {"out": out, "E": E, "out_h": out_h, "E_o1": E_o1, "E_o2": E_o2}
    return ours | {"W1_new": new1.W.T, "W2_new": new2.W.T, "dE_dw5": grads[2].W[0, 0]}  # w5: h1 to o1


def stairs(X, T, **named):
    model, params = network(parameters(named, in_out=True), sigmoid)
    return {"out": SoftmaxCrossEntropy().predict(model.apply(params, array(X)))}


def softmax(x):
    return {"y": SoftmaxCrossEntropy().predict(array(x))}


def ex4(Theta1, Theta2, X, Y, lam, nn_params, y_1based):
    """Theta = [b | W]; the gradient is Theta1's and Theta2's, column by column, in one vector. L2 is λ/2m."""
    learned = [dense(theta[:, 1:], theta[:, 0]) for theta in (np.array(Theta1), np.array(Theta2))]
    model, params = network(learned, sigmoid)
    J, grads = value_and_grad(model, SigmoidCrossEntropy(), L2(lam / len(X)))(params, array(X), array(Y))
    grad = [jnp.column_stack([db, dW]).T.ravel() for dW, db in (grads[0], grads[2])]
    return {"J": J, "grad": jnp.concatenate(grad)}


def brownlee(X, T, given_outputs, **named):
    """Its deltas are −∂E/∂z, from given outputs that this forward pass does not put out: σ's residual is its output."""
    model, params = network(parameters(named, in_out=True), sigmoid, sigmoid)
    _, hidden, _, out = outputs(model, params, array(X))
    given, loss = array(given_outputs), HalfSquaredError()
    _, dz2 = sigmoid.backward(given, loss.backward(loss.forward(given, array(T))[1]))
    _, dz1 = Chain(model.layers[1:3]).backward(model.forward(params, array(X))[1][1:3], dz2)
    return {"hidden": hidden, "out": out, "delta_hidden": -dz1, "delta_out": -dz2}


def xor(X, W, c, w, b):
    Z, H, out = outputs(*network([dense(np.transpose(W), c), dense(np.transpose(w), b)], relu), array(X))
    return {"Z": Z, "H": H, "out": out}


def zhou_neuron(w, b, x):
    model, params = network([dense([w], b)], sigmoid)
    return {"y": model.apply(params, array(x))[0]}


def zhou(W, b):
    """2–2–1, all σ, all neurons with the same weights."""
    return network([dense([W, W], [b, b]), dense([W], b)], sigmoid, sigmoid)


def zhou_net(x):
    _, h, _, y = outputs(*zhou([0, 1], 0), array(x))
    return {"h": h[0], "y": y[0]}


def zhou_gradient(x, y_true):
    model, params = zhou([1, 1], 0)
    x = array([x])
    _, h, _, y = outputs(model, params, x)
    _, grads = value_and_grad(model, MeanSquaredError())(params, x, array([[y_true]]))
    return {"h": h[0, 0], "y_pred": y[0, 0], "dL_dw1": grads[0].W[0, 0]}


# CS231n: weights (n_in, n_out)


def affine(x_linspace, x_shape, w_linspace, w_shape, b_linspace):
    x, w, b = (np.linspace(*linspace) for linspace in (x_linspace, w_linspace, b_linspace))
    model, params = network([dense(w.reshape(w_shape).T, b)])
    return {"out": model.apply(params, array(x.reshape(x_shape[0], -1)))}


def relu_forward(x):
    return {"out": relu.apply((), array(x))}


def softmax_loss(x, y):
    return {"loss": SoftmaxCrossEntropy().forward(array(x), jnp.array(y))[0]}


def scores_and_loss(X, y, **named):
    """reg/2 Σ W² is L2(reg)."""
    x, y, loss = array(X), jnp.array(y), SoftmaxCrossEntropy()
    model, params = network(parameters(named, in_out=True), relu)
    losses = {f"loss_reg{reg}": value_and_grad(model, loss, L2(reg))(params, x, y)[0] for reg in (0, 1)}
    return {"scores": model.apply(params, x)} | losses


def momentum_step(w, dw, v, lr, momentum):
    """v ← μ v − α dw, w ← w + v. optax keeps t ← μ t + dw and w ← w − α t, so v = −α t."""
    sgd = optax.sgd(lr, momentum)
    state, scale = sgd.init(array(w))
    next_w, (state, _) = update(sgd, array(w), array(dw), (state._replace(trace=array(v) / -lr), scale))
    return {"next_w": next_w, "velocity": -lr * state.trace}


def adam_step(w, dw, m, v, t_before, lr, beta1, beta2, eps):
    adam = optax.adam(lr, beta1, beta2, eps)
    state, scale = adam.init(array(w))
    state = state._replace(count=jnp.int32(t_before), mu=array(m), nu=array(v))
    with jax.numpy_dtype_promotion("standard"):  # optax raises the float β to the integer t
        next_w, (state, _) = update(adam, array(w), array(dw), (state, scale))
    return {"next_w": next_w, "m": state.mu, "v": state.nu}


# scikit-learn: weights (n_in, n_out), layers from 0; its L2 is α/2n Σ W²


def scikit_learn(X, T, activation, output, alpha, **named):
    hidden = Activation({"logistic": "sigmoid"}.get(activation, activation))
    loss = {"softmax": SoftmaxCrossEntropy, "sigmoid": SigmoidCrossEntropy}[output]()
    model, params = network(parameters(named, in_out=True), hidden)
    x = array(X)
    J, grads = value_and_grad(model, loss, L2(alpha / len(X)))(params, x, array(T))
    p = loss.predict(model.apply(params, x))
    both = {"softmax": p, "sigmoid": jnp.hstack([1 - p, p])}  # for two classes it gives P(0) and P(1)
    ours = {"loss": J, "pred": both[output]}
    for i, (dW, db) in enumerate((grads[0], grads[2])):
        ours |= {f"dW{i}": dW.T, f"db{i}": db}
    return ours


# Cases


OURS = {
    "init_small_3_2_1": init,
    "linear_forward": linear_forward,
    "linear_activation_forward_sigmoid": linear_activation_forward,
    "linear_activation_forward_relu": linear_activation_forward,
    "L_model_forward_5_4_3_1": L_model_forward,
    "compute_cost": compute_cost,
    "compute_cost_v3": compute_cost,
    "linear_backward_3x4": linear_backward,
    "linear_activation_backward_sigmoid": linear_activation_backward,
    "linear_activation_backward_relu": linear_activation_backward,
    "L_model_backward": L_model_backward,
    "update_parameters_gd": update_parameters,
    "two_layer_model_lr0.0075_it2": trained_parameters,
    "two_layer_model_lr0.1_it3": trained_parameters,
    "L_layer_model_10_5_6_1_lr0.0075_it2": trained_parameters,
    "L_layer_model_10_5_6_1_lr0.02_it3": trained_parameters,
    "planar_forward": planar_forward,
    "planar_cost": compute_cost,
    "planar_backward": planar_backward,
    "planar_update": update_parameters,
    "planar_nn_model_10000": partial(trained_parameters, hidden=tanh),
    "planar_predict": planar_predict,
    "planar_flower_training": flower_costs,
    "logistic_propagate": logistic_propagate,
    "logistic_propagate_old": logistic_propagate,
    "logistic_optimize_101": logistic_optimize,
    "logistic_optimize_100": logistic_optimize,
    "logistic_model_50": logistic_model,
    "logistic_predict": logistic_predict,
    "sigmoid_values": sigmoid_values,
    "logistic_lr0.005_2000": cat_logistic,
    "two_layer_12288_7_1": cat_two_layer,
    "mazur_2_2_2": mazur,
    "gorman_stairs_forward": stairs,
    "softmax_wikipedia": softmax,
    "ex4_lambda0": ex4,
    "brownlee_deltas": brownlee,
    "goodfellow_xor": xor,
    "zhou_neuron": zhou_neuron,
    "zhou_net": zhou_net,
    "zhou_gradient": zhou_gradient,
    "affine_forward": affine,
    "relu_forward": relu_forward,
    "softmax_loss_50x10": softmax_loss,
    "two_layer_net_scores_loss": scores_and_loss,
    "sgd_momentum_step": momentum_step,
    "adam_step": adam_step,
    **dict.fromkeys(
        (
            "g01_iris_relu_a0.0",
            "g02_iris_relu_a0.1",
            "g03_iris_tanh_a0.0",
            "g04_iris_tanh_a0.1",
            "g05_iris_logistic_a0.0",
            "g06_iris_logistic_a0.1",
            "g07_iris_identity_a0.0",
            "g08_iris_identity_a0.1",
            "g09_breast_cancer_relu_a0.0",
            "g10_breast_cancer_relu_a0.1",
        ),
        scikit_learn,
    ),
}


def from_arrays(case, npz):
    """A scikit-learn case in the form of the others. It gives no tolerance: 1e-14 is ours, for two float64 runs."""
    prefix = case["name"] + "/"
    arrays = {name.removeprefix(prefix): npz[name] for name in npz if name.startswith(prefix)}
    expected = {name: arrays.pop(name) for name in list(arrays) if name in ("loss", "pred") or name[0] == "d"}
    inputs = arrays | {name: case[name] for name in ("activation", "output", "alpha")}
    return {"id": case["name"], "inputs": inputs, "expected": expected, "tolerance": 1e-14, "relative": False}


def published():
    for path in sorted((DATA / "expected").glob("*.json")):
        cases, arrays = json.loads(path.read_text())["cases"], path.with_suffix(".npz")
        if arrays.exists():
            with np.load(arrays) as npz:
                cases = [from_arrays(case, npz) for case in cases]
        yield from cases


CASES = list(published())


@absent
def test_each_published_case_is_computed_here_and_nothing_else():
    assert sorted(case["id"] for case in CASES) == sorted(OURS)


@absent
@pytest.mark.parametrize("case", CASES or [None], ids=lambda case: case["id"] if case else "no data")
def test_published_numbers(case):
    ours = OURS[case["id"]](**case["inputs"])
    rtol, atol = (case["tolerance"], 0) if case["relative"] else (0, case["tolerance"])
    for name, theirs in case["expected"].items():
        v, theirs = np.asarray(ours[name], np.float64), np.asarray(theirs, np.float64)
        np.testing.assert_allclose(v, theirs, rtol, atol, err_msg=name, strict=True)  # strict: shapes too


@absent
def test_grey_cat_images_train_4096_8_1():
    x, y, _, _ = cats()
    x, y = array(x.mean(-1).reshape(209, 4096) / 255), array(y[:, None])
    model, loss = Chain((Dense(4096, 8, "small"), relu, Dense(8, 1, "small"))), SigmoidCrossEntropy()
    run = fit(model, loss, x, y, key=jax.random.key(0), optimizer=optax.sgd(0.015), epochs=2500)
    z1, _, z2 = outputs(model, run.params, x)
    assert z1.shape == (209, 8)
    assert z2.shape == (209, 1)
    J = run.history.iteration_cost
    assert (np.diff(J.reshape(5, 500).mean(1)) < 0).all()  # J swings from one iteration to the next, not over 500
    assert J[-1] < 0.3 * J[0]
    assert accuracy(loss.predict(z2), y) >= 0.95
