"""What the values of a forward and a backward pass are called, by the variables that hold them."""

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jaxnn.explanation.formulas import DIGITS, constant
from jaxnn.explanation.variables import Variable
from jaxnn.verify.arguments import Arguments
from jaxnn.verify.tracing.tape import Record, Tape

SAME = 1e-9  # two arrays are one where no entry differs by more, of the largest
PRIMES = 3  # then h⁽⁴⁾
MASKS = ("select_n", "scatter", "mul")  # dh[h <= 0] = 0 as equations

Named = tuple[str, np.ndarray]


class Names(NamedTuple):
    """What the values of a tape and of the record of a rule are called, by their numbers, for all iterations."""

    forward: dict[int, str]
    backward: dict[int, str]
    again: set[int]  # of backward: the forward pass, computed again
    right: set[int]  # of backward: what is ∂J/∂v
    wrong: list[tuple[int, str]]  # (number, name) of variables dv that are not


def input_names(
    arguments: Arguments, free: Sequence[int], inputs: Sequence[np.ndarray], variables: Sequence[Variable]
) -> list[str]:
    """What the float leaves are called: their path or argument, where that is a name, or the variable that holds it."""
    names = []
    for i, value in zip(free, inputs, strict=True):
        path, name = re.sub(r"\W", "", arguments.paths[i]), arguments.name(i).replace("'", "")
        if not (name.isidentifier() or path.isidentifier()):
            holding = (v.name for v in variables if v.name.isidentifier() and same(v.value, value))
            name = next(holding, name)
        names.append(path if path.isidentifier() else name)
    return [name if names.count(name) == 1 else f"{name}{names[: k + 1].count(name)}" for k, name in enumerate(names)]


def marked(record: Record) -> list[Named]:
    """(name, value) of what has a `checkpoint_name`."""
    pairs: list[Named] = []
    for name, places in record.named_values.items():
        pairs += [(name, v) for _, v in places]
    return pairs


def give_names(record: Record, symbols: dict[int, str], words: Iterable[Named], taken: Iterable[str] = ()) -> None:
    """Gives each value of a record that has no symbol the first of the words for it, with primes, in the order of the
    values, where the symbol is one of another value or one of those that are taken."""
    new: dict[int, str] = {}
    for name, value in words:
        v = number_of(record, value)
        if v is not None and v not in symbols:
            new.setdefault(v, name)
    used = {*symbols.values(), *taken}
    for v in sorted(new):
        symbols[v] = unused(new[v], used)
        used.add(symbols[v])


def unused(name: str, used: set[str]) -> str:
    """The name with as few primes as make it a new one."""
    return next(symbol for k in itertools.count() if (symbol := primed(name, k)) not in used)


def primed(name: str, k: int) -> str:
    return name + ("′" * k if k <= PRIMES else f"⁽{str(k).translate(DIGITS)}⁾")


def without_primes(symbol: str) -> str:
    return re.sub(r"[′⁽⁾⁰¹²³⁴⁵⁶⁷⁸⁹]+$", "", symbol)


def number_of(record: Record, value: np.ndarray) -> int | None:
    """The number of the first value that is given or computed and the same, or None; zeros are so by accident."""
    if not np.any(value):
        return None
    numbers = itertools.chain(record.inputs, *record.outs)
    return next((v for v in numbers if same(record.values[v], value)), None)


def same(v: np.ndarray, value: np.ndarray) -> bool:
    if np.shape(v) != np.shape(value) or not np.issubdtype(np.asarray(v).dtype, np.floating):
        return False
    return bool(np.abs(v - value).max(initial=0) <= SAME * np.abs(value).max(initial=0))


def backward_names(
    tape: Tape,
    back: Record,
    symbols: dict[int, str],
    variables: Sequence[Variable],
    taken: Iterable[str] = (),
) -> Names:
    """The `Names` of a rule: of the values that the forward pass has too; then those of ∂J/∂v; then the rule's own
    variables. symbols: those of the tape; taken: symbols that its own variables must not have."""
    inputs = [symbols[v] for v in tape.inputs]
    known = dict(zip(back.inputs, inputs, strict=True))
    give_names(back, known, [(name, tape.values[v]) for v, name in symbols.items()])
    again = set(known)
    true = true_cotangents(tape, symbols)
    give_names(back, known, [(f"∂J/∂{name}", dv) for name, dv in true.items()])
    right = set(known) - again
    leaves = list(zip(tape.asked, back.results, strict=False))  # a rule may return J too
    leaf_values = [back.values[dv] for _, dv in leaves]
    words, suspects = words_of_the_rule(variables, true, leaf_values, wrong_factors(tape, back, leaves), inputs)
    give_names(back, known, [*marked(back), *words], taken)
    known |= {dv: f"∂J/∂{symbols[v]}" for v, dv in leaves if dv not in again}
    return Names(symbols, known, again, right, faults(back, known, right, suspects))


def true_cotangents(tape: Tape, symbols: dict[int, str]) -> dict[str, np.ndarray]:
    """{v: ∂J/∂v} for every v with a symbol that is computed on the way to J."""
    ends = {*tape.inputs, tape.J}
    return {name: tape.true[v] for v, name in symbols.items() if v in tape.true and v not in ends}


def wrong_factors(tape: Tape, back: Record, leaves: Iterable[tuple[int, int]]) -> list[float]:
    """By which numbers, if not by 1, leaves of the gradient are multiples of what they should be; 0 for no multiple."""
    factors = [multiple(back.values[dv], tape.true[v]) for v, dv in leaves if v in tape.true]
    return [c for c in factors if abs(c - 1) > SAME]


def words_of_the_rule(
    variables: Sequence[Variable],
    true: dict[str, np.ndarray],
    leaves: Sequence[np.ndarray],
    slips: Sequence[float],
    inputs: Sequence[str],
) -> tuple[list[Named], list[Variable]]:
    """(the words that the variables of a rule give to their values; the variables dv that are no ∂J/∂v).

    A multiple of ∂J/∂v is a convention, and no fault, unless a leaf is wrong by the same factor.
    """
    words, wrong, settled = [], [], set()
    for v in variables:
        if any(same(leaf, v.value) for leaf in leaves):
            continue
        namesakes = [dv for name, dv in true.items() if is_derivative(v.name, name)]
        namesakes = [dv for dv in namesakes if np.shape(dv) == np.shape(v.value)]
        c = next(filter(None, (multiple(v.value, dv) for dv in namesakes)), 0)
        if c and not np.isclose(c, slips).any():
            words.append((v.name if np.isclose(c, 1) else f"{constant(c)}·{v.name}", v.value))
            if v.ended:
                settled.add((v.name, np.shape(v.value)))
        elif v.name not in inputs:  # else it is an entry of the gradient
            words.append((v.name, v.value))
            if namesakes and not v.given:
                wrong.append(v)
    return words, [v for v in wrong if v.ended or (v.name, np.shape(v.value)) not in settled]  # it may grow to be right


def faults(back: Record, known: dict[int, str], right: set[int], suspects: Iterable[Variable]) -> list[tuple[int, str]]:
    """(number, name) of the suspects that are computed, except what was ∂J/∂h until it was masked: dh[h <= 0] = 0."""
    masked = {(v, known[u]) for v, u in masked_values(back, right)}
    wrong = []
    for suspect in suspects:
        v = number_of(back, suspect.value)
        before = [name.removeprefix("∂J/∂") for u, name in masked if u == v]
        if v is not None and not any(is_derivative(suspect.name, name) for name in before):
            wrong.append((v, suspect.name))
    return list(dict.fromkeys(wrong))


def masked_values(back: Record, right: set[int]) -> list[tuple[int, int]]:
    """(number of what a mask makes, number of the ∂J/∂v of which it makes it)."""
    pairs: list[tuple[int, int]] = []
    for step, ins, outs in zip(back.steps, back.ins, back.outs, strict=True):
        derivatives = right.intersection(ins) if step.name in MASKS else set()
        if step.name == "mul":
            a, b = ins
            others = {a: b, b: a}
            derivatives = {dv for dv in derivatives if is_zeros_and_ones(back.values[others[dv]])}
        pairs += itertools.product(outs, derivatives)
    return pairs


def is_zeros_and_ones(factor: np.ndarray) -> bool:
    """Whether what is multiplied by it keeps each of its entries or loses it."""
    return bool(np.isin(factor, (0, 1)).all())


def is_derivative(variable: str, name: str) -> bool:
    """Whether dZ may stand for ∂J/∂Z, or in a loop for ∂J/∂Z′ or ∂J/∂Z2."""
    return variable[:1] == "d" and bool(re.fullmatch(re.escape(variable[1:]) + "[^A-Za-z]*", name))


def multiple(v: np.ndarray, true: np.ndarray) -> float:
    """c where v is c or 1/c times the true derivative, c a whole number: courses leave 1/m for later; else 0."""
    if np.shape(v) != np.shape(true) or not np.any(true):
        return 0
    at = np.unravel_index(np.argmax(np.abs(true)), np.shape(true))
    c = v[at] / true[at]
    whole = c and min(abs(c - round(c)) / abs(c), abs(1 / c - round(1 / c)) * abs(c)) < SAME
    return c if whole and same(v, c * true) else 0
