"""The equations of a traced function as people write them: z1 = x W1ᵀ + b1."""

from collections.abc import Container, Iterable

import numpy as np

from jaxnn.protocols import PyTree
from jaxnn.verify.tracing.floats import subscripts
from jaxnn.verify.tracing.tape import Record

CHOICE, LARGE, SUM, SIGN, QUOTIENT, PRODUCT, MATRIX, POWER, ATOM = range(9)  # how tightly a formula holds together
# CHOICE: a if b > c else d; LARGE: Σ; SIGN: −a
LONGEST = 120
DEEPEST = 60  # formulas within formulas
SAME = {  # what moves entries is not written
    *("broadcast_in_dim", "reshape", "squeeze", "convert_element_type", "copy", "copy_p", "stop_gradient"),
    "expand_dims",
}
SCATTERS = {"scatter": "set", "scatter-add": "add", "scatter_add": "add"}  # as JAX's users write them
COMPARED = {"gt": ">", "lt": "<", "ge": "≥", "le": "≤", "eq": "=", "ne": "≠"}
NAMES = {"logistic": "σ", "select_n": "select", "sqrt": "√"}
AXES: dict[tuple[int, ...], str] = {(2, 0): "ᵢ", (2, 1): "ₖ"}  # of a matrix; of other arrays their numbers
DIGITS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
INDICES = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


class Formulas:
    """Formulas of the values of a `Record`; symbols: {number of a value: what it is called}, which ends a formula."""

    def __init__(self, record: Record, symbols: dict[int, str]) -> None:
        self.record, self.symbols = record, symbols
        self.steps: dict[int, tuple[str, int]] = {}
        self.depth = 0
        self.origin: dict[int, int] = {}  # the step that computes a value
        for n, outs in enumerate(record.outs):
            self.origin.update(dict.fromkeys(outs, n))
        self.live: set[int] = {*record.inputs}  # what depends on the inputs
        self.zeros: set[int] = set()  # what is a product with 0
        for step, ins, outs in zip(record.steps, record.ins, record.outs, strict=True):
            if self.live.intersection(ins):
                self.live.update(outs)
            if step.name in SAME | {"transpose", "mul", "dot_general"} and any(map(self.is_zero, ins)):
                self.zeros.update(outs)

    def formula(self, v: int) -> str:
        """How v is made of what has symbols."""
        text, _ = self.step(v)
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"

    def local(self, v: int, cotangents: Container[int]) -> tuple[str, int] | None:
        """(formula, number) of the factor of v that is no cotangent, if v is the product of a cotangent with one that
        depends on the inputs; else None."""
        n = self.origin.get(self.plain(v))
        if n is None or self.record.steps[n].name not in ("mul", "dot_general"):
            return None
        a, b = (self.plain(u) for u in self.record.ins[n])
        for slope, cotangent in ((a, b), (b, a)):
            if cotangent in cotangents and slope in self.live and slope not in cotangents:
                return self.text(slope), slope
        return None

    def plain(self, v: int) -> int:
        """v before it was moved about."""
        while v not in self.symbols and self.step_name(v) in SAME | {"transpose"}:
            v = self.record.ins[self.origin[v]][0]
        return v

    def step_name(self, v: int) -> str:
        """That of the step that computes v, "" if none does."""
        return self.record.steps[self.origin[v]].name if v in self.origin else ""

    def value(self, v: int) -> PyTree:
        return self.record.values[v]

    def text(self, v: int, least: int = CHOICE) -> str:
        """v in a formula, in parentheses where it holds together less than `least`."""
        text, held = self.held(v)
        return text if held >= least else f"({text})"

    def held(self, v: int) -> tuple[str, int]:
        """(formula or symbol of v, how tightly it holds together)."""
        if v not in self.symbols:
            return self.step(v)
        symbol = self.symbols[v]
        if "·" in symbol:  # so many times ∂J/∂v
            return f"({symbol.replace('−1·', '−').replace('·', ' ')})", ATOM
        return symbol, POWER if "∂" in symbol else ATOM

    def step(self, v: int) -> tuple[str, int]:
        """(formula, how tightly it holds together) of the step that computes v.

        No more of it than is ever shown: else what is used twice in each of many steps would be 2ⁿ long.
        """
        if v not in self.steps:
            if self.depth == DEEPEST:
                return "…", ATOM
            self.depth += 1
            text, held = self.written(v)
            self.depth -= 1
            self.steps[v] = text[: LONGEST + 1], held
        return self.steps[v]

    def written(self, v: int) -> tuple[str, int]:
        """The same, anew and whole."""
        if v not in self.origin or (v not in self.live and uniform(self.value(v))):
            text = constant(self.value(v))
            return text, SIGN if text[0] == "−" else QUOTIENT if "/" in text else PRODUCT if "·" in text else ATOM
        n = self.origin[v]
        step, ins = self.record.steps[n], self.record.ins[n]
        name, params = step.name, step.params
        first, second = (*ins, -1, -1)[:2]  # −1 where there is none
        if name in SAME or (name == "reduce_sum" and np.size(self.value(v)) == np.size(self.value(first))):
            return self.held(first)
        if name in ("add", "add_any", "sub"):
            if self.is_zero(first) and name != "sub":
                return self.held(second)
            if self.is_zero(second):
                return self.held(first)
            text = self.text(second, SUM if name != "sub" else SIGN)
            return f"{self.text(first, SUM)} {signed(text, '−' if name == 'sub' else '+')}", SUM
        if name in COMPARED:
            return f"{self.text(first, SUM)} {COMPARED[name]} {self.text(second, SUM)}", CHOICE
        if self.is_zero(v):
            return "0", ATOM
        if name == "mul":
            return self.times(first, second, self.value(v))
        if name == "div":
            return f"{self.text(first, QUOTIENT)} / {self.text(second, POWER)}", QUOTIENT
        if name == "neg":
            return self.scaled(-1, first)
        if name in ("integer_pow", "square"):
            return self.power(first, params.get("y", 2))
        if name in ("max", "min") and -np.inf in (bounds := [fixed(self.value(u)) for u in ins]):
            return self.held(ins[int(bounds[0] == -np.inf)])  # jax.nn.softmax begins so
        if name == "reduce_sum":
            return f"Σ{self.over(first, params['axes'])} {self.text(first, QUOTIENT)}", LARGE
        if name == "select_n" and ins[0] not in self.live and uniform(self.value(ins[0])):
            return self.held(ins[1 + int(np.ravel(self.value(ins[0]))[0])])
        if name == "select_n" and len(ins) == 3:
            which, no, yes = (self.text(u, least) for u, least in zip(ins, (CHOICE, CHOICE, LARGE), strict=True))
            return f"{yes} if {which} else {no}", CHOICE
        if name == "transpose":
            return self.transposed(first)
        if name == "dot_general" and (product := self.contracted(n)):
            return product
        if name == "loop entry":
            return f"{self.text(first, ATOM)}[{params['t']}]", ATOM
        if name == "loop stack":
            entries = [*map(self.text, ins[:2]), "…"]
            return f"[{', '.join(entries if len(ins) > 2 else entries[:-1])}]", ATOM
        if name in ("slice", "dynamic_slice"):
            return f"{self.text(first, ATOM)}[{self.part(n)}]", ATOM
        if name == "gather":
            return f"{self.text(first, ATOM)}[{self.index(second) or '…'}]", ATOM
        if name in SCATTERS and self.index(second):
            return f"{self.text(first, ATOM)}.at[{self.index(second)}].{SCATTERS[name]}({self.text(ins[2])})", ATOM
        axes: PyTree = params.get("axes", params.get("dimensions", params.get("axis", ())))
        over = self.over(first, np.atleast_1d(axes).tolist()) if np.size(axes) and name != "concatenate" else ""
        words = ", ".join(self.text(u) for u in ins if np.asarray(self.value(u)).dtype.kind not in "iu")
        return f"{NAMES.get(name, name.removeprefix('reduce_'))}{over}({words})", ATOM

    def index(self, v: int) -> str:
        """What the whole numbers are called that an array is indexed with, "" if they have no name."""
        while v not in self.symbols and self.step_name(v) in SAME | {"select_n"}:  # x + n if x < 0 else x
            v = self.record.ins[self.origin[v]][int(self.step_name(v) == "select_n")]
        return self.symbols.get(v, "")

    def is_zero(self, v: int) -> bool:
        return v in self.zeros or (v not in self.live and fixed(self.value(v)) == 0)

    def power(self, v: int, n: int) -> tuple[str, int]:
        return f"{self.text(v, ATOM)}{str(n).translate(DIGITS)}", POWER

    def times(self, first: int, second: int, value: np.ndarray) -> tuple[str, int]:
        """The product of a number and an array, or of two arrays entry by entry."""
        if first == second:
            return self.power(first, 2)
        for a, b in ((first, second), (second, first)):
            if a not in self.live and a not in self.symbols and fixed(self.value(a)) is not None:
                return self.scaled(fixed(self.value(a)), b)
        a, b = (self.value(self.plain(u)) for u in (first, second))
        for column, row in ((first, second), (second, first)):
            if (
                np.ndim(value) == 2
                and max(np.size(a), np.size(b)) < np.size(value)
                and self.is_outer(column, row, value)
            ):
                return f"{self.text(column, MATRIX)} {self.across(row)}", MATRIX
        if min(np.size(a), np.size(b)) > 1:
            return f"{self.text(first, PRODUCT)} ⊙ {self.text(second, PRODUCT)}", PRODUCT
        if np.size(a) > 1:
            first, second = second, first
        return f"{self.text(first, PRODUCT)} {self.text(second, PRODUCT)}", PRODUCT

    def scaled(self, c: float, v: int) -> tuple[str, int]:
        """So many times v."""
        text, held = self.held(v)
        if c == 1:
            return text, held
        if c == -1:
            if held == SIGN:
                return text[1:], QUOTIENT
            return (f"−{text}", held) if held == LARGE else (f"−{self.text(v, QUOTIENT)}", SIGN)
        text = self.text(v, PRODUCT)
        return f"{constant(c)} {f'({text})' if text[0].isdigit() else text}", SIGN if c < 0 else PRODUCT

    def is_outer(self, column: int, row: int, value: np.ndarray) -> bool:
        """Whether of two factors of a matrix one is the same in every column of it and the other in every row."""
        tall, wide = (np.broadcast_to(self.value(v), value.shape) for v in (column, row))
        return min(value.shape) > 1 and bool((tall == tall[:, :1]).all() and (wide == wide[:1]).all())

    def across(self, v: int) -> str:
        """A vector as a row."""
        n = self.origin.get(self.plain(v))
        is_part = n is not None and self.record.steps[n].name in ("slice", "dynamic_slice")  # it is written as a vector
        is_row = np.ndim(self.value(self.plain(v))) == 2 and not is_part
        return self.text(v, MATRIX) if is_row else f"{self.text(v, ATOM)}ᵀ"

    def over(self, v: int, axes: Iterable[int]) -> str:
        """The axes that are gone through, as an index; nothing where these are all."""
        shape = np.shape(self.value(v))
        if all(k in axes for k, n in enumerate(shape) if n > 1):
            return ""
        return AXES.get((len(shape), *axes)) or "".join(map(str, axes)).translate(INDICES)

    def part(self, n: int) -> str:
        """The index of a slice."""
        step, (first, *starts) = self.record.steps[n], self.record.ins[n]
        shape, sizes = np.shape(self.value(first)), np.shape(self.value(self.record.outs[n][0]))
        starts = step.params.get("start_indices") or [int(self.value(u)) for u in starts]
        words = [
            ":" if k == full else f"{start}" if k == 1 else f"{start}:{start + k}"
            for start, k, full in zip(starts, sizes, shape, strict=True)
        ]
        return ", ".join(words[: max((k + 1 for k, word in enumerate(words) if word != ":"), default=1)])

    def transposed(self, v: int) -> tuple[str, int]:
        """vᵀ, of a product with its factors the other way around."""
        n = self.origin.get(v)
        if v not in self.symbols and n is not None:
            if self.record.steps[n].name == "transpose" and np.ndim(self.value(v)) == 2:
                return self.held(self.record.ins[n][0])
            if self.record.steps[n].name == "dot_general" and (product := self.contracted(n, turned=True)):
                return product
        return f"{self.text(v, ATOM)}ᵀ", POWER

    def contracted(self, n: int, turned: bool = False) -> tuple[str, int] | None:
        """A product of vectors or matrices, or sums of products along an axis of both; None for others. Arrays of more
        axes are matrices where `matrix_axes` says so. turned: its transpose."""
        ins = self.record.ins[n]
        x, y, out = subscripts(self.record.steps[n].params, *(np.ndim(self.value(u)) for u in ins))
        shared = [a for a in x if a in y and a not in out]
        if x == y and not turned and (len(x) > 1 or self.held(ins[0])[1] < ATOM):
            over = self.over(ins[0], [x.index(a) for a in shared])
            return f"Σ{over} {self.text(ins[0], PRODUCT)} ⊙ {self.text(ins[1], PRODUCT)}", LARGE
        as_matrices = matrix_axes(x, y, out)
        if as_matrices is None or (turned and max(len(x), len(y)) > 2):
            return None
        x, y = as_matrices
        shared = [a for a in x if a in y]
        if not shared:
            first, second = ins if not turned else ins[::-1]
            is_outer = len(x) == len(y) == 1
            return (f"{self.text(first, MATRIX)} {self.text(second, ATOM)}ᵀ", MATRIX) if is_outer else None
        factors = [(ins[0], x == y or (len(x) == 2 and x[0] == shared[0])), (ins[1], len(y) == 2 and y[1] == shared[0])]
        if turned:
            factors = [(v, not flip and np.ndim(self.value(v)) == 2) for v, flip in factors[::-1]]
        return " ".join(self.factor(v, flip) for v, flip in factors), MATRIX

    def factor(self, v: int, flip: bool) -> str:
        text, held = self.transposed(v) if flip else self.held(v)
        return text if held >= MATRIX else f"({text})"


def matrix_axes(x: str, y: str, out: str) -> tuple[str, str] | None:
    """The axes of two factors as matrices or vectors; None if they are none.

    Arrays of more axes are so where their leading axes are examples: two matrices an example (m, i, k) and (m, k, j);
    rows (m, t, n), and a matrix; rows on both sides, which are summed over.
    """
    shared = "".join(a for a in x if a in y and a not in out)
    common = 0
    while x[common : common + 1] == y[common : common + 1] == out[common : common + 1] != "":
        common += 1
    if len(x) == len(y) == common + 2 and len(shared) == 1:
        return x[common:], y[common:]
    if len(x) > 2 and len(y) == 2 and shared == x[-1]:
        return x[-2:], y
    if shared == x[:-1] == y[:-1] and len(shared) > 1:
        return x[-2:], y[-2:]
    if max(len(x), len(y)) > 2 or len(shared) > 1 or {*x} & {*y} & {*out}:
        return None
    return x, y


def signed(text: str, sign: str) -> str:
    """± text, with one sign."""
    if text.startswith("−"):
        return f"{'−' if sign == '+' else '+'} {text[1:]}"
    return f"{sign} {text}"


def uniform(value: PyTree) -> bool:
    return np.size(value) == 1 or (np.size(value) > 1 and bool((np.asarray(value) == np.ravel(value)[0]).all()))


def fixed(value: PyTree) -> PyTree:
    """The number that all entries are, or None."""
    return np.ravel(value)[0] if uniform(value) and np.asarray(value).dtype.kind == "f" else None


def constant(value: PyTree) -> str:
    """A number, or the shape of an array."""
    if not uniform(value):
        return f"[{' × '.join(map(str, np.shape(value)))}]"
    number = np.ravel(value)[0]
    text = f"{number:.6g}"
    if np.isfinite(number) and abs(float(text) - number) > 2e-7 * abs(number):
        n = round(1 / number)
        if n and abs(1 / number - n) < 1e-6 * abs(n):
            text = f"1/{n}" if n > 0 else f"-1/{-n}"
    if "e" in text:
        digits, power = text.split("e")
        text = f"{digits}·10{str(int(power)).translate(DIGITS)}".removeprefix("1·")
    return text.replace("-", "−")
