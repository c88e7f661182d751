"""The chain rule of a network, link by link: what is computed, of which shape, and what comes back through it."""

from collections.abc import Iterator

import jax
import numpy as np

from jaxnn import verify
from jaxnn.backprop import value_and_grad
from jaxnn.explanation.explanation import Explanation, Link, Notation, decimal
from jaxnn.layers.activation import Activation
from jaxnn.layers.chain import Chain
from jaxnn.layers.dense import Dense
from jaxnn.layers.repeat import Repeat
from jaxnn.penalty import L2

NOTATIONS = {
    "rows": Notation("{x} {W}ᵀ + {b}", "({dz})ᵀ {x}", "Σᵢ {dz}", "{dz} {W}", False, False),
    "columns": Notation("{W} {x} + {b}", "{dz} {x}ᵀ", "Σᵢ {dz}", "{W}ᵀ {dz}", True, False),
    "wtx": Notation("{W}ᵀ {x} + {b}", "{x} ({dz})ᵀ", "Σᵢ {dz}", "{W} {dz}", True, True),
}


def explain(model, loss, params, x, y, *, penalty=None, notation="rows", learning_rate=0.1):
    """The `Explanation` of a `Chain` or `Repeat` of `Dense` and `Activation` layers, nested or not, and a loss of ours.

    x (m, n_in), y as the loss wants it; penalty: an `L2`, or None. notation: rows (z = x Wᵀ + b), columns (W x + b) or
    wtx (Wᵀ x + b, with W (n_in, n_out)); values are given with the shapes that it has. The update is that of gradient
    descent with this learning rate. Every ∂J/∂v has the verdict of `verify.model` on it, at these params and data.
    ValueError: another notation, or an x that is not (m, n_in). TypeError: another layer, loss or penalty, with the
    names of those that can be explained, or no layer that learns.
    """
    settings = {"penalty": penalty, "notation": notation, "learning_rate": learning_rate}
    return next(descend(model, loss, params, x, y, **settings))


def descend(model, loss, params, x, y, *, penalty=None, notation="rows", learning_rate=0.1):
    """The `Explanation`s of one iteration of gradient descent after the other, while J is finite; see `explain`. The
    verdicts are of the first, and given there alone."""
    if notation not in NOTATIONS:
        raise ValueError(f"There is no notation {notation!r}: use one of {', '.join(NOTATIONS)}.")
    layers = list(flat(model, params))
    for layer, _ in layers:
        if not isinstance(layer, Dense | Activation):
            raise TypeError(
                f"{type(layer).__name__} cannot be explained: Dense and Activation layers can, in a Chain or Repeat."
            )
    if not jax.tree.leaves(params):
        raise TypeError(f"{model} cannot be explained: it has no Dense layer, so nothing to learn.")
    if not hasattr(loss, "formulas"):
        raise TypeError(f"{type(loss).__name__} cannot be explained: it has no `formulas`, as protocols.Loss asks for.")
    if not isinstance(penalty, L2 | None):
        raise TypeError(f"{type(penalty).__name__} cannot be explained: an L2 can, or None.")
    layout, x = NOTATIONS[notation], jax.numpy.asarray(x, jax.tree.leaves(params)[0].dtype)
    if x.ndim != 2:
        raise ValueError(f"x has shape {x.shape}: give one example a row, (m, n_in).")
    model, params = Chain(tuple(layer for layer, _ in layers)), tuple(p for _, p in layers)  # one chain: one numbering
    report = verify.model(model, loss, x, y, params, penalty, points="given")
    first = report
    while True:
        layers = list(zip(model.layers, params, strict=True))
        forward, met, out = passed_on(layers, loss, penalty, x, y, layout)
        backward, grads = passed_back(layers, loss, penalty, met, out, layout, first)
        step = f"− {decimal(learning_rate)} ∂J/∂"
        with np.errstate(all="ignore"):  # it may diverge
            update = tuple(Link(name, f"{name} {step}{name}", v - learning_rate * dv) for name, v, dv in grads)
        yield Explanation(forward, backward, update, report, layout)
        J, dparams = value_and_grad(model, loss, penalty)(params, x, y)
        if not np.isfinite(J):
            return
        params, first = jax.tree.map(lambda v, dv: v - learning_rate * dv, params, dparams), None


def flat(model, params) -> Iterator:
    """The layers of a chain, and of chains and repeated layers in it, with their params."""
    if isinstance(model, Chain):
        for layer, p in zip(model.layers, params, strict=True):
            yield from flat(layer, p)
    elif isinstance(model, Repeat):
        for i in range(model.n):
            yield from flat(model.layer, jax.tree.map(lambda v: v[i], params))  # noqa: B023
    else:
        yield model, params


def passed_on(layers, loss, penalty, x, y, layout):
    """(the links of the forward pass; the (layer, params, residuals, names) that were met; the loss's residuals)."""
    links, met, name, k = [Link("x", "the examples", laid(x, layout))], [], "x", 0
    for layer, p in layers:
        before = name
        if isinstance(layer, Dense):
            k += 1
            words = {"x": before, "W": f"W{k}", "b": f"b{k}"}
            links += [
                Link(f"W{k}", "the weights", weights(p.W, layout)),
                Link(f"b{k}", "the biases", biases(p.b, layout)),
            ]
            name, formula = f"z{k}", layout.z.format(**words)
        else:
            name, words = f"a{k}" if before == f"z{k}" else f"{before}′", {"z": before}
            formula = layer.rule.formula.format(z=before, slope=layer.slope)
        x, residuals = layer.forward(p, x)
        links.append(Link(name, formula, laid(x, layout)))
        met.append((layer, p, residuals, words | {"out": name}))
    y_hat, L, _ = loss.formulas
    J, residuals = loss.forward(x, y)
    links.append(Link("ŷ", y_hat.format(z=name), laid(loss.predict(x), layout)))
    formula = f"1/m Σᵢ Σₖ [{L}]"
    if penalty:
        R, _ = penalty.forward([p for _, p in layers])
        links.append(Link("R", f"½ {decimal(penalty.lam)} Σ W²", np.asarray(R)))
        J, formula = J + R, f"{formula} + R"
    links.append(Link("J", formula, np.asarray(J)))
    return tuple(links), met, (name, residuals)


def passed_back(layers, loss, penalty, met, out, layout, report):
    """(the links of the backward pass; (symbol, value, derivative) of every parameter)."""
    name, residuals = out
    found = {link.name: link.verdict for link in report.links} if report else {}  # where a layer is wrong
    right = report.verdict if report and report.ok else ""
    dv = loss.backward(residuals)
    dz = loss.formulas.dz.format(z=name)
    links = [Link(f"∂J/∂{name}", dz, laid(dv, layout), verdict=right or found.get("dz", ""))]
    grads: list = []
    leaves = [leaf.verdict for leaf in report.leaves] if report else [""] * 2 * len(met)
    for n in reversed(range(len(met))):
        layer, p, residuals, words = met[n]
        grad, dv = layer.backward(residuals, dv)
        words |= {"dz": f"∂J/∂{words['out']}"}
        its = right or found.get(f"dx of layer {n} ({type(layer).__name__})", "")
        number = sum(len(leaves_of) for _, leaves_of in layers[:n])  # of its first leaf
        if isinstance(layer, Dense):
            dW, db, formula = np.array(weights(grad.W, layout)), biases(grad.b, layout), layout.dW.format(**words)
            if penalty:
                dW += penalty.lam * weights(p.W, layout)
                formula += f" + {decimal(penalty.lam)} {words['W']}"
            links.append(Link(f"∂J/∂{words['W']}", formula, dW, words["x"], verdict=leaves[number]))
            links.append(Link(f"∂J/∂{words['b']}", layout.db.format(**words), db, "1", verdict=leaves[number + 1]))
            grads = [(words["W"], weights(p.W, layout), dW), (words["b"], biases(p.b, layout), db), *grads]
            if words["x"] != "x":
                formula = layout.dx.format(**words)
                links.append(
                    Link(f"∂J/∂{words['x']}", formula, laid(dv, layout), words["W"], weights(p.W, layout), its)
                )
        else:
            local = layer.rule.derivative.format(z=words["z"], a=words["out"], slope=layer.slope)
            slope = laid(layer.rule.dg(residuals), layout)
            formula = f"{words['dz']} ⊙ ({local})"
            links.append(Link(f"∂J/∂{words['z']}", formula, laid(dv, layout), local, slope, its))
    return tuple(links), grads


def laid(v, layout):
    """(m, n) as the notation has it."""
    return np.asarray(v).T if layout.columns else np.asarray(v)


def weights(W, layout):
    return np.asarray(W).T if layout.transposed else np.asarray(W)


def biases(b, layout):
    return np.asarray(b)[:, None] if layout.columns else np.asarray(b)
