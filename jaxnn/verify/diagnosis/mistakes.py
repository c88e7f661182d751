"""The mistakes that are known, in the words of a teacher; the list is closed."""

RANK = {  # of causes that explain as much, the earlier is the likelier
    kind: n
    for n, kind in enumerate(
        [
            *("missing_penalty", "scaled_penalty", "extra_penalty", "bias_averaged", "missing_mean", "extra_mean"),
            *("transpose", "constant_factor", "path_left_out", "wrong_mask"),
            *("missing_activation_derivative",),
            *("derivative_at_activation", "derivative_of_other_function", "derivative_of_other_layer"),
            *("bias_not_summed", "example_left_out", "example_counted_twice", "wrong_axis"),
            *("extra_activation_derivative", "updated_weights", "other_leaf", "shifted_labels"),
            *(
                "stale_residual",
                "swapped_operands",
                "guard_ignored",
                "ignored_cotangent",
                "nonlinear_in_cotangent",
                "single_entry",
            ),
            "unknown",
        ]
    )
}
TEXTS = {  # kind: (what is wrong, what would make it right)
    "missing_mean": ("{who} is {c} times too large: the mean over {m} is missing", "divide by {m}"),
    "extra_mean": ("{who} is divided once too often by {m}", "leave one division by {m} out"),
    "constant_factor": ("{who} is {c} times what it should be", "divide by {c}"),
    "missing_activation_derivative": ("the derivative of {what} is missing", "multiply by it"),
    "extra_activation_derivative": (
        "the derivative of {what} is multiplied in where it does not belong",
        "leave it out",
    ),
    "derivative_at_activation": (
        "the derivative of {what} is taken {other}",
        "f′ is taken at z, and a formula in terms of a = f(z), such as 1 − a², at a",
    ),
    "derivative_of_other_layer": ("the derivative of {what} is taken at {other}", "take it at its own input"),
    "derivative_of_other_function": ("{other} stands where the derivative of {what} belongs", "take its own"),
    "transpose": ("{what} is transposed", "transpose it once more"),
    "swapped_operands": ("{what} are swapped", "swap them back"),
    "other_leaf": ("{other} stands where {what} belongs", "use {what}"),
    "shifted_labels": ("{what} is shifted by one", "shift it back"),
    "missing_penalty": ("the derivative of the penalty of {who} is missing", "add it"),
    "extra_penalty": ("{c} × the parameter itself is added, a penalty that the cost does not have", "leave it out"),
    "scaled_penalty": ("the derivative of the penalty of {who} is {c} times what it should be", "divide it by {c}"),
    "example_left_out": ("{what} is left out", "include it"),
    "example_counted_twice": ("{what} is counted twice", "count it once"),
    "path_left_out": ("the path from {what} through {other} at {place} is left out", "add what comes back along it"),
    "updated_weights": (
        "{what} was updated (step {c}) before the gradient was propagated through it",
        "propagate first, or keep the old one",
    ),
    "bias_not_summed": ("{who} takes {what} alone", "sum over all examples"),
    "bias_averaged": ("{who} is averaged over {m}, where the rest is summed", "sum instead"),
    "wrong_axis": ("{what} is summed over the wrong axis", "sum over the other one"),
    "ignored_cotangent": ("the cotangent of {what} is ignored, as if it were 1", "multiply by it"),
    "nonlinear_in_cotangent": ("the result is not linear in the cotangent", "use it once, as a factor"),
    "single_entry": ("entry {what} alone is wrong", "look at that index"),
    "guard_ignored": ("the guard {what} at {place} is left out", "differentiate it too, or ask for fewer digits="),
    "stale_residual": ("{other} stands where {what} belongs", "use {what}"),
    "wrong_mask": (
        "the derivative does not have the factor {what} of the forward pass",
        "multiply by that very factor",
    ),
    "unknown": ("No known mistake gives this. {what}", "name values with checkpoint_name to see where it begins"),
}
