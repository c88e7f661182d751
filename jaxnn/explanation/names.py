"""What the values of a user's cost and gradient are called, by the variables that hold them."""

import itertools
import re
from typing import NamedTuple

import numpy as np

from jaxnn.explanation.formulas import DIGITS, constant
from jaxnn.explanation.variables import variables

SAME = 1e-9  # two arrays are one where no entry differs by more, of the largest
PRIMES = 3  # then h⁽⁴⁾


class Names(NamedTuple):
    """What the values of a tape and of the record of a rule are called, by their numbers, for all iterations."""

    forward: dict
    backward: dict
    again: set  # of backward: the forward pass, computed again
    right: set  # of backward: what is ∂J/∂v
    wrong: list  # (number, name) of variables dv that are not


def named(passes, functions, its, free, floats, equations, array):
    """The `Names`, found where no values are equal by accident, as of biases that are zero: next to the given params,
    unless the code takes another way there. The data stay what they are: y may have to be one-hot."""
    rng = np.random.default_rng(0)
    near = [v + rng.uniform(1e-3, 2e-3, v.shape) * (i in its.differentiated) for i, v in enumerate(floats)]
    try:
        tape, back = passes(near)
        if (tape.outs, back.outs) != equations or not np.isfinite(tape.values[tape.J]):
            raise ValueError
        found = variables(functions, its, near, array)
    except Exception:  # it may not bear other floats at all
        (tape, back), found = passes(floats), variables(functions, its, floats, array)
    inputs = input_names(its, free, [tape.values[v] for v in tape.inputs], [its for f in found for its in f])
    forward = dict(zip(tape.inputs, inputs, strict=True))
    call(tape, forward, marked(tape) + [(v.name, v.value) for v in found[0]])
    forward[tape.J] = "J"
    return backward_names(tape, back, forward, found[1] if len(found) > 1 else [])


def input_names(its, free, inputs, found):
    """What the float leaves are called: their path or argument, where that is a name, or the variable that holds it."""
    names = []
    for i, value in zip(free, inputs, strict=True):
        path, name = re.sub(r"\W", "", its.paths[i]), its.name(i).replace("'", "")
        if not (name.isidentifier() or path.isidentifier()):
            name = next((v.name for v in found if v.name.isidentifier() and same(v.value, value)), name)
        names.append(path if path.isidentifier() else name)
    return [name if names.count(name) == 1 else f"{name}{names[: k + 1].count(name)}" for k, name in enumerate(names)]


def marked(record):
    """(name, value) of what has a `checkpoint_name`."""
    return [(name, v) for name, met in record.named_values.items() for _, v in met]


def call(record, symbols, found):
    """Gives the values of a record the first names that were found, with primes in the order of the values."""
    new: dict = {}
    for name, value in found:
        v = number_of(record, value)
        if v is not None and v not in symbols:
            new.setdefault(v, name)
    taken = {*symbols.values()}
    for v in sorted(new):
        symbols[v] = next(s for k in range(len(new) + len(taken) + 1) if (s := primed(new[v], k)) not in taken)
        taken.add(symbols[v])


def primed(name, k):
    return name + ("′" * k if k <= PRIMES else f"⁽{str(k).translate(DIGITS)}⁾")


def number_of(record, value):
    """The number of the first value that is given or computed and the same, or None; zeros are so by accident."""
    if not np.any(value):
        return None
    made = (v for outs in (record.inputs, *record.outs) for v in outs)
    return next((v for v in made if same(record.values[v], value)), None)


def same(v, value):
    if np.shape(v) != np.shape(value) or not np.issubdtype(np.asarray(v).dtype, np.floating):
        return False
    return bool(np.abs(v - value).max(initial=0) <= SAME * np.abs(value).max(initial=0))


def backward_names(tape, back, symbols, found):
    inputs = [symbols[v] for v in tape.inputs]
    known = dict(zip(back.inputs, inputs, strict=True))
    call(back, known, [(name, tape.values[v]) for v, name in symbols.items()])
    again = set(known)
    true = {name: tape.true[v] for v, name in symbols.items() if v in tape.true and v not in (*tape.inputs, tape.J)}
    call(back, known, [(f"∂J/∂{name}", dv) for name, dv in true.items()])
    right = set(known) - again
    leaves = list(zip(tape.asked, back.results, strict=False))
    slips = [c for v, dv in leaves if v in tape.true and abs((c := multiple(back.values[dv], tape.true[v])) - 1) > SAME]
    own, wrong, settled = [(name, v) for name, v in marked(back)], [], set()
    for v in found:
        its = [dv for name, dv in true.items() if is_derivative(v.name, name) and np.shape(dv) == np.shape(v.value)]
        c = next((c for dv in its if (c := multiple(v.value, dv))), 0)
        if any(same(back.values[dv], v.value) for _, dv in leaves):
            continue
        if c and not np.isclose(c, slips).any():  # a multiple is right, but if that is what is wrong with a leaf
            settled |= {(v.name, np.shape(v.value))} if v.ended else set()
            own.append((v.name if np.isclose(c, 1) else f"{constant(c)}·{v.name}", v.value))
        elif v.name not in inputs:  # else it is an entry of the gradient
            own.append((v.name, v.value))
            wrong += [v] * bool(its and not v.given)
    call(back, known, own)
    known |= {dv: f"∂J/∂{symbols[v]}" for v, dv in leaves if dv not in again}
    wrong = [v for v in wrong if v.ended or (v.name, np.shape(v.value)) not in settled]  # it may grow to be right
    masked = {  # in place: dh[h <= 0] = 0, which was ∂J/∂h before
        (v, known[u])
        for step, ins, outs in zip(back.steps, back.ins, back.outs, strict=True)
        if step.name in ("select_n", "scatter", "mul")
        for v, u in itertools.product(outs, right.intersection(ins))
    }
    faults = [
        (n, v.name)
        for v in wrong
        if (n := number_of(back, v.value)) is not None
        and not any(u == n and is_derivative(v.name, name.removeprefix("∂J/∂")) for u, name in masked)
    ]
    return Names(symbols, known, again, right, list(dict.fromkeys(faults)))


def is_derivative(variable, name):
    """Whether dZ may stand for ∂J/∂Z, or in a loop for ∂J/∂Z′ or ∂J/∂Z2."""
    return variable[:1] == "d" and bool(re.fullmatch(re.escape(variable[1:]) + "[^A-Za-z]*", name))


def multiple(v, true):
    """c where v is c or 1/c times the true derivative, c a whole number: courses leave 1/m for later; else 0."""
    if np.shape(v) != np.shape(true) or not np.any(true):
        return 0
    at = np.unravel_index(np.abs(true).argmax(), np.shape(true))
    c = v[at] / true[at]
    whole = c and min(abs(c - round(c)) / abs(c), abs(1 / c - round(1 / c)) * abs(c)) < SAME
    return c if whole and same(v, c * true) else 0
