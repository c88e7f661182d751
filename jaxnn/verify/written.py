"""The equations of a traced function as people write them: z1 = x W1ᵀ + b1."""

import numpy as np

from jaxnn.verify.approximate import subscripts

LARGE, SUM, PRODUCT, MATRIX, POWER, ATOM = range(6)  # how tightly a formula holds together; LARGE: Σ
LONGEST = 120
SAME = {  # what moves entries is not written
    *("broadcast_in_dim", "reshape", "squeeze", "convert_element_type", "copy", "copy_p", "stop_gradient"),
    *("expand_dims", "loop entry", "loop stack"),
}
BETWEEN = {"add": "+", "add_any": "+", "sub": "−", "gt": ">", "lt": "<", "ge": "≥", "le": "≤", "eq": "=", "ne": "≠"}
NAMES = {"logistic": "σ", "integer_pow": "power", "reduce_max": "max", "reduce_min": "min", "select_n": "select"}
AXES = {(2, 0): "ᵢ", (2, 1): "ₖ"}  # of a matrix, over which a sum runs
DIGITS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Written:
    """Formulas of the values of a `Record`; symbols: {number of a value: what it is called}, which ends a formula."""

    def __init__(self, record, symbols):
        self.record, self.symbols = record, symbols
        self.made = {v: n for n, outs in enumerate(record.outs) for v in outs}

    def formula(self, v):
        """How v is made of what has symbols."""
        text, _ = self.step(v)
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"

    def local(self, v, of):
        """(formula, number) of what v is the product of with a value that `of` knows by its number; or None."""
        n = self.made.get(self.plain(v))
        if n is None or self.record.steps[n].name not in ("mul", "dot_general"):
            return None
        a, b = (self.plain(u) for u in self.record.ins[n])
        return next(((self.text(u), u) for u, factor in ((a, b), (b, a)) if factor in of and u not in of), None)

    def plain(self, v):
        """v before it was moved about."""
        while v not in self.symbols and v in self.made and self.record.steps[self.made[v]].name in SAME | {"transpose"}:
            v = self.record.ins[self.made[v]][0]
        return v

    def text(self, v, least=LARGE):
        """v in a formula, in parentheses where it holds together less than `least`."""
        text, held = self.held(v)
        return text if held >= least else f"({text})"

    def held(self, v):
        if v not in self.symbols:
            return self.step(v)
        return self.symbols[v], POWER if "∂" in self.symbols[v] else ATOM

    def step(self, v):
        """(formula, how tightly it holds together) of the step that makes v."""
        value = self.record.values[v]
        if v not in self.made:
            return constant(value), ATOM
        n = self.made[v]
        step, ins = self.record.steps[n], self.record.ins[n]
        name, params = step.name, step.params
        if name in SAME or (name == "reduce_sum" and np.size(value) == np.size(self.record.values[ins[0]])):
            return self.held(ins[0])
        if name in BETWEEN:
            first, second = self.text(ins[0], SUM), self.text(ins[1], SUM if "add" in name else PRODUCT)
            return f"{first} {BETWEEN[name]} {second}", SUM
        if name == "mul":
            first, second = ins
            if first == second:
                return self.power(first, 2)
            if is_array(self.record.values[self.plain(first)]) and is_array(self.record.values[self.plain(second)]):
                return f"{self.text(first, PRODUCT)} ⊙ {self.text(second, PRODUCT)}", PRODUCT
            if is_array(self.record.values[self.plain(first)]):
                first, second = second, first
            return f"{self.text(first, PRODUCT)} {self.text(second, PRODUCT)}", PRODUCT
        if name == "div":
            return f"{self.text(ins[0], PRODUCT)} / {self.text(ins[1], MATRIX)}", PRODUCT
        if name == "neg":
            text, held = self.held(ins[0])
            return (f"−{text}", held) if held == LARGE else (f"−{self.text(ins[0], PRODUCT)}", SUM)
        if name in ("integer_pow", "square"):
            return self.power(ins[0], params.get("y", 2))
        if name in ("max", "min"):
            return f"{name}({self.text(ins[0])}, {self.text(ins[1])})", ATOM
        if name == "reduce_sum":
            axes = AXES.get((np.ndim(self.record.values[ins[0]]), *params["axes"]), "")
            return f"Σ{axes} {self.text(ins[0], PRODUCT)}", LARGE
        if name == "select_n" and len(ins) == 3:
            which, no, yes = map(self.text, ins)
            return f"{yes} if {which} else {no}", SUM
        if name == "transpose":
            return self.transposed(ins[0])
        if name == "dot_general" and max(np.ndim(self.record.values[u]) for u in ins) <= 2:
            return self.product(n), MATRIX
        return f"{NAMES.get(name, name)}({', '.join(map(self.text, ins))})", ATOM

    def power(self, v, n):
        return f"{self.text(v, ATOM)}{str(n).translate(DIGITS)}", POWER

    def transposed(self, v):
        """vᵀ, of a product with its factors the other way around."""
        n = self.made.get(v)
        if v not in self.symbols and n is not None:
            if self.record.steps[n].name == "transpose":
                return self.text(self.record.ins[n][0]), ATOM
            if self.record.steps[n].name == "dot_general":
                return self.product(n, turned=True), MATRIX
        return f"{self.text(v, ATOM)}ᵀ", POWER

    def product(self, n, turned=False):
        """A matrix product with its factors transposed as they are met; `turned`: (x y)ᵀ."""
        ins = self.record.ins[n]
        x, y, _ = subscripts(self.record.steps[n].params, *(np.ndim(self.record.values[u]) for u in ins))
        (shared,) = {*x} & {*y} or {""}
        factors = [(ins[0], len(x) == 2 and x[0] == shared), (ins[1], len(y) == 2 and y[1] == shared)]
        if turned:
            factors = [(v, not flip and np.ndim(self.record.values[v]) == 2) for v, flip in factors[::-1]]
        return " ".join(self.factor(v, flip) for v, flip in factors)

    def factor(self, v, flip):
        text, held = self.transposed(v) if flip else self.held(v)
        return text if held >= MATRIX else f"({text})"


def is_array(value):
    return np.size(value) > 1


def constant(value):
    """A number, or the shape of an array."""
    if np.size(value) == 1:
        return f"{np.asarray(value).ravel()[0]:.6g}".replace("-", "−")
    return f"[{' × '.join(map(str, np.shape(value)))}]"
