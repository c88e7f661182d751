"""The mistakes that are known, in the words of a teacher; the list is closed."""

from enum import StrEnum, auto
from typing import NamedTuple


class Mistake(StrEnum):
    """Each known one. Of two that explain as much, the earlier is the likelier."""

    MISSING_PENALTY = auto()
    SCALED_PENALTY = auto()
    EXTRA_PENALTY = auto()
    BIAS_AVERAGED = auto()
    MISSING_MEAN = auto()
    EXTRA_MEAN = auto()
    TRANSPOSE = auto()
    CONSTANT_FACTOR = auto()
    PATH_LEFT_OUT = auto()
    WRONG_MASK = auto()
    MISSING_ACTIVATION_DERIVATIVE = auto()
    DERIVATIVE_AT_ACTIVATION = auto()
    DERIVATIVE_OF_OTHER_FUNCTION = auto()
    DERIVATIVE_OF_OTHER_LAYER = auto()
    BIAS_NOT_SUMMED = auto()
    EXAMPLE_LEFT_OUT = auto()
    EXAMPLE_COUNTED_TWICE = auto()
    WRONG_AXIS = auto()
    EXTRA_ACTIVATION_DERIVATIVE = auto()
    UPDATED_WEIGHTS = auto()
    OTHER_LEAF = auto()
    SHIFTED_LABELS = auto()
    STALE_RESIDUAL = auto()
    SWAPPED_OPERANDS = auto()
    GUARD_IGNORED = auto()
    IGNORED_COTANGENT = auto()
    NONLINEAR_IN_COTANGENT = auto()
    SINGLE_ENTRY = auto()
    UNKNOWN = auto()


RANK = {kind: n for n, kind in enumerate(Mistake)}

OPERATIONS = {  # primitives of JAX that people know by another name
    "dot_general": "the matrix product",
    "mul": "the product",
    "div": "the quotient",
    "add": "the sum",
    "add_any": "the sum",
    "sub": "the difference",
    "neg": "the change of sign",
    "reduce_sum": "the sum",
    "reduce_max": "the maximum",
    "max": "the maximum",
    "select_n": "the choice",
    "integer_pow": "the power",
    "square": "the square",
    "sqrt": "the root",
    "log": "the logarithm",
    "logistic": "the sigmoid",
}


def operation(primitive: str) -> str:
    """What an equation with this primitive is called in a sentence."""
    return OPERATIONS.get(primitive, primitive)


Words = dict[str, str | int | None]  # for the gaps in a text


class Text(NamedTuple):
    """sentence: what is wrong. fix: what would make it right. {what}, {other}, … are gaps for words."""

    sentence: str
    fix: str

    def filled(self, words: Words, besides: bool = False) -> tuple[str, str]:
        """(sentence, fix) with words in the gaps; besides: whether the sentence follows another.

        It begins with a capital letter, unless that may be the first letter of a name in the user's code."""
        sentence, fix = self.sentence.format(**words), self.fix.format(**words)
        if besides:
            return f"Besides, {sentence}.", fix
        if not self.sentence.startswith(("{what}", "{other}")):
            sentence = sentence[0].upper() + sentence[1:]
        return f"{sentence}.", fix


TEXTS = {
    Mistake.MISSING_MEAN: Text("{who} is {c} times too large: the mean over {m} is missing", "divide by {m}"),
    Mistake.EXTRA_MEAN: Text("{who} is divided once too often by {m}", "leave one division by {m} out"),
    Mistake.CONSTANT_FACTOR: Text("{who} is {c} times what it should be", "divide by {c}"),
    Mistake.MISSING_ACTIVATION_DERIVATIVE: Text("the derivative of {what} is missing", "multiply by it"),
    Mistake.EXTRA_ACTIVATION_DERIVATIVE: Text(
        "the derivative of {what} is multiplied in where it does not belong",
        "leave it out",
    ),
    Mistake.DERIVATIVE_AT_ACTIVATION: Text(
        "the derivative of {what} is taken {other}",
        "f′ is taken at z, and a formula in terms of a = f(z), such as 1 − a², at a",
    ),
    Mistake.DERIVATIVE_OF_OTHER_LAYER: Text("the derivative of {what} is taken at {other}", "take it at its own input"),
    Mistake.DERIVATIVE_OF_OTHER_FUNCTION: Text("{other} stands where the derivative of {what} belongs", "take its own"),
    Mistake.TRANSPOSE: Text("{what} is transposed", "transpose it once more"),
    Mistake.SWAPPED_OPERANDS: Text("{what} are swapped", "swap them back"),
    Mistake.OTHER_LEAF: Text("{other} stands where {what} belongs", "use {what}"),
    Mistake.SHIFTED_LABELS: Text("{what} is shifted by one", "shift it back"),
    Mistake.MISSING_PENALTY: Text("the derivative of the penalty of {who} is missing", "add it"),
    Mistake.EXTRA_PENALTY: Text(
        "{c} × the parameter itself is added, a penalty that the cost does not have", "leave it out"
    ),
    Mistake.SCALED_PENALTY: Text(
        "the derivative of the penalty of {who} is {c} times what it should be", "divide it by {c}"
    ),
    Mistake.EXAMPLE_LEFT_OUT: Text("{what} is left out", "include it"),
    Mistake.EXAMPLE_COUNTED_TWICE: Text("{what} is counted twice", "count it once"),
    Mistake.PATH_LEFT_OUT: Text(
        "the path from {what} through {other} at {place} is left out", "add what comes back along it"
    ),
    Mistake.UPDATED_WEIGHTS: Text(
        "{what} was updated (step {c}) before the gradient was propagated through it",
        "propagate first, or keep the old one",
    ),
    Mistake.BIAS_NOT_SUMMED: Text("{who} takes {what} alone", "sum over all examples"),
    Mistake.BIAS_AVERAGED: Text("{who} is averaged over {m}, where the rest is summed", "sum instead"),
    Mistake.WRONG_AXIS: Text("{what} is summed over the wrong axis", "sum over the other one"),
    Mistake.IGNORED_COTANGENT: Text("the cotangent of {what} is ignored, as if it were 1", "multiply by it"),
    Mistake.NONLINEAR_IN_COTANGENT: Text("the result is not linear in the cotangent", "use it once, as a factor"),
    Mistake.SINGLE_ENTRY: Text("entry {what} alone is wrong", "look at that index"),
    Mistake.GUARD_IGNORED: Text(
        "the guard {what} at {place} is left out", "differentiate it too, or ask for fewer digits="
    ),
    Mistake.STALE_RESIDUAL: Text("{other} stands where {what} belongs", "use {what}"),
    Mistake.WRONG_MASK: Text(
        "the derivative does not have the factor {what} of the forward pass",
        "multiply by that very factor",
    ),
    Mistake.UNKNOWN: Text(
        "No known mistake gives this. {what}", "name values with checkpoint_name to see where it begins"
    ),
}
