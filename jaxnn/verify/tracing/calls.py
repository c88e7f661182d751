"""The calls of custom derivative rules that a function makes while it is traced, and the values that they meet.

`jax.grad` uses a rule up and leaves no equation of it, so it is the calls themselves that are heard. Nothing is patched
for that: Python's profiler hook hears this thread alone, and is given back.
"""

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import CodeType, FrameType
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr

from jaxnn.protocols import PyTree
from jaxnn.verify.arithmetic.evaluation import has_hash

Rule = jax.custom_vjp | jax.custom_jvp
CODES = {inspect.unwrap(kind.__call__).__code__ for kind in (jax.custom_vjp, jax.custom_jvp)}
anew = jax.make_user_context(None)  # under another value, JAX traces anew what it has traced before


class Call(NamedTuple):
    """A call rule(*args). An array in args is its `jax.ShapeDtypeStruct`; values: what these arrays were when the call
    was first run, keys left out; None if it was not run."""

    rule: Rule
    args: tuple[PyTree, ...]
    values: list[np.ndarray] | None


def calls_of(f: Callable, args: tuple[PyTree, ...], wanted: Callable[[Rule], bool]) -> tuple[list[Call], str]:
    """(the calls of custom rules in f(*args), each once, in order; why they have no values, "" if they may have some).

    The arrays in `args` are traced, all else is as it is; then f is run, as far as the arguments of the rules that are
    `wanted` need it; the others have no values. What f raises is raised.
    """
    check_hearing()
    leaves, treedef = jax.tree.flatten(args)
    inputs = [i for i, v in enumerate(leaves) if is_array(v)]

    def of_arrays(arrays: Sequence[Array]) -> list[PyTree]:
        new = list(leaves)
        for i, v in zip(inputs, arrays, strict=True):
            new[i] = v
        return jax.tree.leaves(f(*treedef.unflatten(new)))

    arrays = [leaves[i] for i in inputs]
    try:
        calls, values, closed = heard(of_arrays, arrays, wanted)
        run_marks(closed, arrays)
    except Exception as error:  # f's own, which it says again; or a mark stands where none can, as in a kernel
        calls, _, _ = heard(of_arrays, arrays, lambda rule: False)
        return calls, (str(error).strip() or type(error).__name__).splitlines()[0]
    return [call._replace(values=values.get(i)) for i, call in enumerate(calls)], ""


def check_hearing() -> None:
    """RuntimeError if calls are not heard: a JAX that calls its rules in another way."""
    control = jax.custom_vjp(lambda x: x), jax.custom_jvp(lambda x: x)
    control[0].defvjp(lambda x: (x, ()), lambda _, dout: (dout,))
    control[1].defjvps(lambda dx, out, x: dx)
    rules: list[Rule] = []
    with listening(lambda rule, args: rules.append(rule)):
        for rule in control:
            rule(1.0)
    if rules != list(control):
        raise RuntimeError(f"The calls of custom rules cannot be heard in JAX {jax.__version__}.")


@contextmanager
def listening(hear: Callable[[Rule, tuple[PyTree, ...]], None]) -> Iterator[None]:
    """Within it, hear(rule, args) is called before every call of a custom rule in this thread."""

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code in CODES:
            called = frame.f_locals
            hear(called["self"], positional(called["self"], called["args"], called["kwargs"]))

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(before if callable(before) else None)  # cProfile's cannot be given back


def positional(rule: Rule, args: tuple[PyTree, ...], kwargs: dict[str, PyTree]) -> tuple[PyTree, ...]:
    """All arguments of a call by their positions, as JAX resolves them."""
    if not kwargs:
        return args
    bound = inspect.signature(rule.fun).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.args


def heard(
    f: Callable, arrays: Sequence[Array], wanted: Callable[[Rule], bool]
) -> tuple[list[Call], dict[int, list], ClosedJaxpr]:
    """(the calls in f(arrays); an empty dict, where `run_marks` puts the values of the `wanted` ones by their numbers;
    f's jaxpr)."""
    calls: dict[tuple, Call] = {}
    values: dict[int, list] = {}

    def hear(rule: Rule, args: tuple[PyTree, ...]) -> None:
        leaves, treedef = jax.tree.flatten(args)
        specs = [jax.ShapeDtypeStruct(v.shape, v.dtype) if is_array(v) else v for v in leaves]
        key = (rule, str(treedef), *(v if has_hash(v) else id(v) for v in specs))
        calls.setdefault(key, Call(rule, treedef.unflatten(specs), None))
        number = list(calls).index(key)
        if wanted(rule):
            mark(lambda *v: values.setdefault(number, list(map(np.array, v))), [v for v in leaves if has_values(v)])

    with listening(hear), anew(object()):
        closed = jax.make_jaxpr(f)(arrays)
    return list(calls.values()), values, closed


def mark(keep: Callable, arrays: Sequence[Array]) -> None:
    """Whatever runs the program that is being traced calls keep(*arrays) here; under vmap, with the first example."""

    @jax.custom_batching.custom_vmap
    def pass_on(arrays: list[Array]) -> tuple[()]:
        jax.debug.callback(keep, *arrays)
        return ()

    @pass_on.def_vmap
    def of_first(n: int, is_batched: list[list[bool]], arrays: list[Array]) -> tuple[tuple[()], tuple[()]]:
        pass_on([v[0] if batched else v for v, batched in zip(arrays, *is_batched, strict=True)])
        return (), ()

    pass_on([jax.lax.stop_gradient(v) for v in arrays])


def run_marks(closed: ClosedJaxpr, arrays: Sequence[Array]) -> None:
    """Runs what the marks in a jaxpr need, and nothing else."""
    needed, _ = dce_jaxpr(closed.jaxpr, [False] * len(closed.jaxpr.outvars), instantiate=True)
    jax.block_until_ready(jax.jit(jaxpr_as_fun(ClosedJaxpr(needed, closed.consts)))(*arrays))
    jax.effects_barrier()


def is_array(v: PyTree) -> bool:
    return hasattr(v, "shape") and hasattr(v, "dtype")


def has_values(v: PyTree) -> bool:
    """Whether it is an array, and not one of typed keys."""
    return is_array(v) and not jax.dtypes.issubdtype(v.dtype, jax.dtypes.extended)


def source_of(rule: Rule) -> Callable:
    """The function that has the rule, as it was written: of `jax.custom_gradient`, what it was given."""
    wrapper = jax.custom_gradient(lambda: None).fun
    if code_of(rule.fun) is code_of(wrapper):
        return inspect.getclosurevars(rule.fun).nonlocals["fun"]
    return rule.fun


def place_of(rule: Rule) -> str:
    """'file.py:12', where the function that has the rule was written: from here, or in its package."""
    code = code_of(source_of(rule))
    path = os.path.relpath(code.co_filename)
    if path.startswith(os.pardir):
        path = code.co_filename.rpartition(f"site-packages{os.sep}")[2]
        path = os.path.basename(path) if os.path.isabs(path) else path
    return f"{path}:{code.co_firstlineno}"


def is_own_of_jax(rule: Rule) -> bool:
    """Whether the function and its rule were written in JAX's own folder."""
    rules = [rule.jvp] if isinstance(rule, jax.custom_jvp) else [rule.fwd, rule.bwd]
    folder = os.path.dirname(jax.__file__) + os.sep
    if source_of(rule) is not rule.fun:
        return code_of(source_of(rule)).co_filename.startswith(folder)
    return all(code_of(f).co_filename.startswith(folder) for f in (rule.fun, *rules))


def code_of(f: Callable) -> CodeType:
    """The code of a function, of one that is partially applied, of a method, or of an object that can be called."""
    f = inspect.unwrap(f)
    while isinstance(f, partial):
        f = inspect.unwrap(f.func)
    return f.__code__ if hasattr(f, "__code__") else code_of(type(f).__call__)
