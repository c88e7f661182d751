"""Loops whose number of steps is known while a function is traced, as scans: autodiff goes back through these.

Such are those of `fori_loop` between ends that are known, or that another loop counts, as in an attention that skips
blocks. A loop in which all inner loops are then known stays one; else it is opened, step by step.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun, jaxprs_in_params

from jaxnn.verify.arithmetic.control_flow import CALLS, parts_of_scan
from jaxnn.verify.arithmetic.decisions import Unsupported
from jaxnn.verify.arithmetic.evaluation import needed_equations
from jaxnn.verify.arithmetic.rules import EqnParams, Value, open_jaxpr
from jaxnn.verify.tracing.kernels import Unrolling, has

STEPS = 10_000  # of one loop
EQUATIONS = 20_000  # of all loops that are opened


def has_loop(jaxpr: Jaxpr) -> bool:
    """Whether a loop is in it whose end numbers decide."""
    return has("while", jaxpr)


def with_counted_loops(closed: ClosedJaxpr) -> Callable[..., list[Value]]:
    """A closed jaxpr as a function of its inputs, in which no loop is left whose number of steps is known. Unsupported:
    opened, it has more than EQUATIONS."""
    return lambda *inputs: Counting().run(closed.jaxpr, closed.consts, inputs)


class Counting(Unrolling):
    """An evaluation on tracers that opens a loop only if it must."""

    equations = 0

    def apply(self, eqn: JaxprEqn, inputs: list[Value]) -> list[Value]:
        self.equations += 1
        if self.equations > EQUATIONS:
            raise Unsupported(f"loops of more than {EQUATIONS:,} equations")
        name, params = eqn.primitive.name, eqn.params
        if name == "while":
            n = self.steps(params, inputs)
            return super().apply(eqn, inputs) if n is None else self.scanned(params, inputs, n)
        is_scan = name == "scan" and any(map(has_loop, jaxprs_in_params(params)))
        return self.rescanned(params, inputs) if is_scan else super().apply(eqn, inputs)

    def is_opened(self, name: str, params: EqnParams, inputs: list[Value]) -> bool:
        """A call is, if a loop is in it; a loop is not."""
        if name == "while":
            return False
        return any(map(has_loop, jaxprs_in_params(params))) or super().is_opened(name, params, inputs)

    def steps(self, params: EqnParams, inputs: list[Value]) -> int | None:
        """How many steps a loop makes; None if numbers decide that which are not known, or more than STEPS."""
        c, b = params["cond_nconsts"], params["body_nconsts"]
        (test, test_consts), (body, consts) = (open_jaxpr(self, params[name]) for name in ("cond_jaxpr", "body_jaxpr"))
        carry = inputs[c + b :]
        deciding = on_which_the_end_depends(test, body, c, b)
        part = with_outputs(body, deciding)
        for n in range(STEPS):
            (more,) = self.run(test, test_consts, [*inputs[:c], *carry])
            if not isinstance(more, np.ndarray) or more.ndim:
                return None
            if not more:
                return n
            new = self.run(part, consts, [*inputs[c : c + b], *carry])
            for i, v in zip(deciding, new, strict=True):
                carry[i] = v
        return None

    def scanned(self, params: EqnParams, inputs: list[Value], n: int) -> list[Value]:
        """What a loop of n steps carries at its end."""
        c, b = params["cond_nconsts"], params["body_nconsts"]
        body, consts = open_jaxpr(self, params["body_jaxpr"])
        carry = inputs[c + b :]
        step = self.traced(lambda *carry: self.run(body, consts, [*inputs[c : c + b], *carry]), carry)
        if has_loop(step.jaxpr):
            return CALLS["while"](self, params, inputs)
        return jax.lax.scan(lambda carry, _: (jaxpr_as_fun(step)(*carry), None), carry, None, n)[0]

    def rescanned(self, params: EqnParams, inputs: list[Value]) -> list[Value]:
        """(carry, ys) of a scan with loops in it."""
        body, consts = open_jaxpr(self, params["jaxpr"])
        fixed, carry, xs = parts_of_scan(params, inputs)
        k = len(carry)
        step = self.traced(lambda *given: self.run(body, consts, [*fixed, *given]), [*carry, *(x[0] for x in xs)])
        if has_loop(step.jaxpr):
            return CALLS["scan"](self, params, inputs)

        def of_step(carry: list[Value], x: list[Value]) -> tuple[list[Value], list[Value]]:
            out = jaxpr_as_fun(step)(*carry, *x)
            return out[:k], out[k:]

        carry, ys = jax.lax.scan(of_step, carry, xs, params["length"], params["reverse"])
        return [*carry, *ys]

    def traced(self, f: Callable[..., list[Value]], inputs: Sequence[Value]) -> ClosedJaxpr:
        """f as a jaxpr of inputs like these, of which nothing is known."""
        return jax.make_jaxpr(f)(*inputs)


def on_which_the_end_depends(test: Jaxpr, body: Jaxpr, c: int, b: int) -> list[int]:
    """The numbers of what a loop carries whose values decide when it ends. c, b: how many constants each has."""
    deciding: set[int] = set()
    more = {i - c for i in inputs_of(test) if i >= c}
    while not more <= deciding:
        deciding |= more
        more = {i - b for i in inputs_of(with_outputs(body, sorted(deciding))) if i >= b}
    return sorted(deciding)


def inputs_of(jaxpr: Jaxpr) -> list[int]:
    """The numbers of the inputs on which its outputs depend."""
    used = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    for eqn in needed_equations(jaxpr):
        used.update(v for v in eqn.invars if not isinstance(v, Literal))
    return [i for i, v in enumerate(jaxpr.invars) if v in used]


def with_outputs(jaxpr: Jaxpr, numbers: Sequence[int]) -> Jaxpr:
    """The jaxpr with these of its outputs alone."""
    outputs: list[Var | Literal] = [jaxpr.outvars[i] for i in numbers]
    return jaxpr.replace(outvars=outputs, debug_info=jaxpr.debug_info._replace(result_paths=None))
