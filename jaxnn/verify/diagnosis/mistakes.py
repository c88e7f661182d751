"""The mistakes that are known, in the words of a teacher; the list is closed."""

from enum import StrEnum, auto
from typing import NamedTuple


class Kind(StrEnum):
    """Each known mistake. Of two that explain as much, the earlier is the likelier."""

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


RANK = {kind: n for n, kind in enumerate(Kind)}


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
    Kind.MISSING_MEAN: Text("{who} is {c} times too large: the mean over {m} is missing", "divide by {m}"),
    Kind.EXTRA_MEAN: Text("{who} is divided once too often by {m}", "leave one division by {m} out"),
    Kind.CONSTANT_FACTOR: Text("{who} is {c} times what it should be", "divide by {c}"),
    Kind.MISSING_ACTIVATION_DERIVATIVE: Text("the derivative of {what} is missing", "multiply by it"),
    Kind.EXTRA_ACTIVATION_DERIVATIVE: Text(
        "the derivative of {what} is multiplied in where it does not belong",
        "leave it out",
    ),
    Kind.DERIVATIVE_AT_ACTIVATION: Text(
        "the derivative of {what} is taken {other}",
        "f′ is taken at z, and a formula in terms of a = f(z), such as 1 − a², at a",
    ),
    Kind.DERIVATIVE_OF_OTHER_LAYER: Text("the derivative of {what} is taken at {other}", "take it at its own input"),
    Kind.DERIVATIVE_OF_OTHER_FUNCTION: Text("{other} stands where the derivative of {what} belongs", "take its own"),
    Kind.TRANSPOSE: Text("{what} is transposed", "transpose it once more"),
    Kind.SWAPPED_OPERANDS: Text("{what} are swapped", "swap them back"),
    Kind.OTHER_LEAF: Text("{other} stands where {what} belongs", "use {what}"),
    Kind.SHIFTED_LABELS: Text("{what} is shifted by one", "shift it back"),
    Kind.MISSING_PENALTY: Text("the derivative of the penalty of {who} is missing", "add it"),
    Kind.EXTRA_PENALTY: Text(
        "{c} × the parameter itself is added, a penalty that the cost does not have", "leave it out"
    ),
    Kind.SCALED_PENALTY: Text(
        "the derivative of the penalty of {who} is {c} times what it should be", "divide it by {c}"
    ),
    Kind.EXAMPLE_LEFT_OUT: Text("{what} is left out", "include it"),
    Kind.EXAMPLE_COUNTED_TWICE: Text("{what} is counted twice", "count it once"),
    Kind.PATH_LEFT_OUT: Text(
        "the path from {what} through {other} at {place} is left out", "add what comes back along it"
    ),
    Kind.UPDATED_WEIGHTS: Text(
        "{what} was updated (step {c}) before the gradient was propagated through it",
        "propagate first, or keep the old one",
    ),
    Kind.BIAS_NOT_SUMMED: Text("{who} takes {what} alone", "sum over all examples"),
    Kind.BIAS_AVERAGED: Text("{who} is averaged over {m}, where the rest is summed", "sum instead"),
    Kind.WRONG_AXIS: Text("{what} is summed over the wrong axis", "sum over the other one"),
    Kind.IGNORED_COTANGENT: Text("the cotangent of {what} is ignored, as if it were 1", "multiply by it"),
    Kind.NONLINEAR_IN_COTANGENT: Text("the result is not linear in the cotangent", "use it once, as a factor"),
    Kind.SINGLE_ENTRY: Text("entry {what} alone is wrong", "look at that index"),
    Kind.GUARD_IGNORED: Text(
        "the guard {what} at {place} is left out", "differentiate it too, or ask for fewer digits="
    ),
    Kind.STALE_RESIDUAL: Text("{other} stands where {what} belongs", "use {what}"),
    Kind.WRONG_MASK: Text(
        "the derivative does not have the factor {what} of the forward pass",
        "multiply by that very factor",
    ),
    Kind.UNKNOWN: Text(
        "No known mistake gives this. {what}", "name values with checkpoint_name to see where it begins"
    ),
}
