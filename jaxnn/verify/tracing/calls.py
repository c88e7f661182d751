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
from types import CellType, CodeType, FrameType
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr

from jaxnn.protocols import PyTree
from jaxnn.verify.arithmetic.evaluation import has_hash

Rule = jax.custom_vjp | jax.custom_jvp
CODES = {inspect.unwrap(kind.__call__).__code__ for kind in (jax.custom_vjp, jax.custom_jvp)}
FOLDER_OF_JAX = os.path.dirname(jax.__file__) + os.sep
anew = jax.make_user_context(None)  # under another value, JAX traces anew what it has traced before


class Call(NamedTuple):
    """A call rule(*args). An array in args is its `jax.ShapeDtypeStruct`; values: what these arrays were when the call
    was first run, keys left out; None if it was not run. place: where it is called, 'file.py:12'."""

    rule: Rule
    args: tuple[PyTree, ...]
    place: str
    values: list[np.ndarray] | None = None


class Capture(NamedTuple):
    """A variable of a function around the rule, and what it held while it was traced."""

    cell: CellType
    content: PyTree

    @property
    def tracers(self) -> list[jax.core.Tracer]:
        return [v for v in jax.tree.leaves(self.content) if isinstance(v, jax.core.Tracer)]

    def replace(self, values: Sequence[np.ndarray]) -> None:
        """Puts values in the places of the tracers, which nobody else can use: they are of a trace that is over."""
        new = iter(values)
        self.cell.cell_contents = jax.tree.map(
            lambda v: jnp.asarray(next(new)) if isinstance(v, jax.core.Tracer) else v, self.content
        )


def calls_of(f: Callable, args: tuple[PyTree, ...], wanted: Callable[[Rule], bool]) -> tuple[list[Call], str]:
    """(the calls of custom rules in f(*args), each once, in order; why they have no values, "" if they may have some).

    The arrays in `args` are traced, all else is as it is; then f is run, as far as the arguments of the rules that are
    `wanted` need it; the others have no values. An f that asks for values, as float(v) does, is run and not traced. A
    rule that was written around values of f's is given those of its first call. What f raises is raised.
    """
    check_hearing()
    leaves, treedef = jax.tree.flatten(args)
    inputs = [i for i, v in enumerate(leaves) if is_array(v)]

    def of_arrays(arrays: Sequence[Array]) -> list[PyTree]:
        new = list(leaves)
        for i, v in zip(inputs, arrays, strict=True):
            new[i] = v
        return jax.tree.leaves(f(*jax.tree.unflatten(treedef, new)))

    arrays = [leaves[i] for i in inputs]
    trace = partial(jax.make_jaxpr(of_arrays), arrays)
    try:
        found = heard(trace, wanted)
        run_marks(found.out, arrays)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):  # f asks for values
        found = heard(lambda: of_arrays([v.copy() for v in arrays]), wanted)  # copies, which f may donate
        jax.effects_barrier()
    except Exception as error:  # f's own, which it says again; or a mark stands where none can, as in a kernel
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        return heard(trace, lambda rule: False).calls, why
    for capture, contents in reversed(found.captured):
        capture.replace(contents)
    return [call._replace(values=found.values.get(i)) for i, call in enumerate(found.calls)], ""


def check_hearing() -> None:
    """RuntimeError if calls are not heard: a JAX that calls its rules in another way."""
    control = jax.custom_vjp(lambda x: x), jax.custom_jvp(lambda x: x)
    control[0].defvjp(lambda x: (x, ()), lambda _, dout: (dout,))
    control[1].defjvps(lambda dx, out, x: dx)
    rules: list[Rule] = []
    with listening(lambda rule, args, place: rules.append(rule)):
        for rule in control:
            rule(1.0)
    if rules != list(control):
        raise RuntimeError(f"The calls of custom rules cannot be heard in JAX {jax.__version__}.")


@contextmanager
def listening(hear: Callable[[Rule, tuple[PyTree, ...], str], None]) -> Iterator[None]:
    """Within it, hear(rule, args, place) is called before every call of a custom rule in this thread."""

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code in CODES:
            rule, args, kwargs = (frame.f_locals[name] for name in ("self", "args", "kwargs"))
            hear(rule, positional(rule, args, kwargs), place_of_call(rule, frame))

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(before if callable(before) else None)  # cProfile's cannot be given back


def positional(rule: Rule, args: tuple[PyTree, ...], kwargs: dict[str, PyTree]) -> tuple[PyTree, ...]:
    """All arguments of a call by their positions, as JAX resolves them."""
    try:
        bound = inspect.signature(rule.fun).bind(*args, **kwargs)
    except (TypeError, ValueError):  # which JAX says; or a builtin, which need not have a signature
        return args
    bound.apply_defaults()
    return bound.args


def place_of_call(rule: Rule, frame: FrameType | None) -> str:
    """The line that led to this frame, outside of JAX and, if there is one, of the file of the rule."""
    places = []
    while frame and frame.f_code.co_filename != __file__:
        if not frame.f_code.co_filename.startswith(FOLDER_OF_JAX):
            places.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    home = code_of(rule.fun).co_filename
    abroad = [place for place in places if place[0] != home]
    return short(*[*abroad, *places][0]) if places else ""


class Heard(NamedTuple):
    """The calls in a function, and what it returned; once its marks were run, the values of the calls by their numbers,
    and of what was captured."""

    calls: list[Call]
    out: PyTree
    values: dict[int, list[np.ndarray]]
    captured: list[tuple[Capture, list[np.ndarray]]]


def heard(f: Callable[[], PyTree], wanted: Callable[[Rule], bool]) -> Heard:
    """What is heard while f() is traced or run, with marks at the calls of the rules that are `wanted`."""
    calls: dict[tuple, Call] = {}
    values: dict[int, list[np.ndarray]] = {}
    captured: list[tuple[Capture, list[np.ndarray]]] = []

    def keep(capture: Capture, contents: list[np.ndarray]) -> None:
        captured.append((capture, contents))

    def hear(rule: Rule, args: tuple[PyTree, ...], place: str) -> None:
        leaves, treedef = jax.tree.flatten(args)
        specs = [jax.ShapeDtypeStruct(v.shape, v.dtype) if is_array(v) else v for v in leaves]
        key = (rule, str(treedef), *((type(v), v if has_hash(v) else id(v)) for v in specs))
        calls.setdefault(key, Call(rule, jax.tree.unflatten(treedef, specs), place))
        if wanted(rule):
            number = list(calls).index(key)
            mark(lambda v: values.setdefault(number, v), [v for v in leaves if has_values(v)])
            for capture in captures(rule):
                mark(partial(keep, capture), capture.tracers)

    with listening(hear), anew(object()):
        out = f()
    return Heard(list(calls.values()), out, values, captured)


def captures(rule: Rule) -> list[Capture]:
    """The variables around the functions of a rule that hold values of the function that is being traced."""
    found: list[Capture] = []
    seen: set[int] = set()
    functions = [rule.fun, *rules_of(rule)]
    while functions:
        f = inspect.unwrap(functions.pop())
        cells = () if id(f) in seen else getattr(f, "__closure__", None) or ()
        seen.add(id(f))
        for capture in [Capture(cell, cell.cell_contents) for cell in cells if is_bound(cell)]:
            found += [capture] if capture.tracers else []
            functions += [capture.content] if callable(capture.content) else []
    return found


def is_bound(cell: CellType) -> bool:
    """Whether a variable that functions share has a value yet."""
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def mark(keep: Callable[[list[np.ndarray]], object], arrays: Sequence[Array]) -> None:
    """Whoever runs the program that is being traced calls keep(arrays) here; under vmap, with the first example."""

    def kept(arrays: list[Array]) -> None:
        keep(list(map(np.array, arrays)))

    @jax.custom_batching.custom_vmap
    def pass_on(arrays: list[Array]) -> tuple[()]:
        jax.debug.callback(kept, arrays)
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
    """'file.py:12', where the function that has the rule was written."""
    code = code_of(source_of(rule))
    return short(code.co_filename, code.co_firstlineno)


def short(path: str, line: int) -> str:
    """A place in a file: as seen from where packages are installed, or from here, or without its folder."""
    installed, near = path.rpartition(f"site-packages{os.sep}")[2], os.path.relpath(path)
    if installed == path:
        installed = os.path.basename(path) if near.startswith(os.pardir) else near
    return f"{installed}:{line}"


def is_own_of_jax(rule: Rule) -> bool:
    """Whether the function and its rule were written in JAX's own folder."""
    source = source_of(rule)
    functions = [source, *rules_of(rule)] if source is rule.fun else [source]
    return all(code_of(f).co_filename.startswith(FOLDER_OF_JAX) for f in functions)


def rules_of(rule: Rule) -> list[Callable]:
    """The functions that are the rule; of `defjvps`, what it was given for the arguments."""
    wrapper = jax.custom_jvp(lambda: None)
    wrapper.defjvps()
    functions = [rule.jvp] if isinstance(rule, jax.custom_jvp) else [rule.fwd, rule.bwd]
    given = [f for f in functions if f]
    if [code_of(f) for f in given] == [code_of(wrapper.jvp)]:
        return [f for f in inspect.getclosurevars(given[0]).nonlocals["jvps"] if f]
    return given


def code_of(f: PyTree) -> CodeType:
    """The code of a function, of one that is partially applied, of a method, or of an object that can be called."""
    f = inspect.unwrap(f)
    while isinstance(f, partial):
        f = inspect.unwrap(f.func)
    return f.__code__ if hasattr(f, "__code__") else code_of(type(f).__call__)
