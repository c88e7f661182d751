"""What a compiled program computes."""

import math
import re


def largest_product(program):
    """The most multiplications in one product of matrices of a compiled program; 0 if there is none."""
    text = program.as_text()
    shapes = {name: numbers(shape) for name, shape in re.findall(r"(%[\w.-]+) = \w+\[([\d,]*)\]", text)}
    sizes = [0]
    for out, lhs, axes in re.findall(r"(%[\w.-]+) = \S+ dot\((%[\w.-]+), .*lhs_contracting_dims=\{([\d,]*)\}", text):
        sizes.append(math.prod(shapes[out]) * math.prod(shapes[lhs][axis] for axis in numbers(axes)))
    return max(sizes)


def numbers(text):
    return [int(n) for n in text.split(",") if n]
