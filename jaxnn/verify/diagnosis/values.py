"""What is known of the values on a tape: what they are called, which function of which other each is, and which
equations are one line of code that is met again and again.
"""

import collections
import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxnn.verify.arithmetic import primitives
from jaxnn.verify.arithmetic.balls import is_float
from jaxnn.verify.tracing.floats import logistic

OTHERS = 24  # values that may have been taken for the right one
BRANCHES = {"max", "min", "clamp"}
MOVES = {"reshape", "squeeze", "transpose", "broadcast_in_dim", "convert_element_type", "copy", "copy_p"}
GUARD = 1e-2


class Known(NamedTuple):
    """An activation in NumPy, where nothing is compiled: f(z), f′(z), and f′ as people write it, of a = f(z)."""

    f: Callable
    slope: Callable
    formula: Callable


def step(z):
    return np.where(z > 0, 1.0, 0.0)


KNOWN = {
    "tanh": Known(np.tanh, lambda z: 1 - np.tanh(z) ** 2, lambda a: 1 - a**2),
    "sigmoid": Known(logistic, lambda z: logistic(z) * logistic(-z), lambda a: a * (1 - a)),
    "relu": Known(lambda z: np.maximum(z, 0), step, step),
    "leaky relu": Known(
        lambda z: np.where(z > 0, z, 0.01 * z),
        lambda z: np.where(z > 0, 1, 0.01),
        lambda a: np.where(a > 0, 1, 0.01),
    ),
    "exp": Known(np.exp, np.exp, lambda a: a),
    "softplus": Known(lambda z: np.logaddexp(z, 0), logistic, lambda a: -np.expm1(-a)),
}
USUAL = ("tanh", "sigmoid", "relu")  # what others are mistaken for


def which(z, a):
    """The name of the known function that a is of z, or None."""
    if not is_float(z) or np.allclose(a, z, 1e-9, 1e-12):
        return None
    return next((name for name, known in KNOWN.items() if np.allclose(a, known.f(z), 1e-9, 1e-12)), None)


def softmax(z, axis=-1):
    e = np.exp(z - z.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def is_guard(x):
    """Whether it may be a small number that keeps a logarithm or a root from infinity."""
    return np.ndim(x) == 0 and is_float(x) and 0 < abs(float(x)) <= GUARD


def is_mask(x):
    """Whether it may be an array of zeros and of one other number, and not of classes."""
    if np.ndim(x) == 0 or len(met := np.unique(x)) != 2 or met[0] != 0:
        return False
    return np.ndim(x) == 1 or not (np.sum(x, -1) == 1).all()


class Notes:
    """What is known of the values of a tape: names, the leaf that one is, which function of which other.

    names: of its inputs; data: the numbers of what is data."""

    def __init__(self, tape, names, data):
        self.tape = tape
        self.dout: set = set()  # the numbers of cotangents that are arguments
        self.data = {*data}
        self.names = dict(zip(tape.inputs, names, strict=True))
        self.names |= {
            tape.number[id(v)]: name for name, met in tape.named_values.items() for _, v in met if id(v) in tape.number
        }
        self.moves: dict = {v: (v, ()) for v in tape.asked}  # value: (leaf, the steps from it)
        self.made: dict = {}  # value: the step that made it
        self.root: dict = {}  # of an elementwise function of one value: that value
        self.chain: dict = {}  # and the steps from it
        self.whole: dict = {}  # (root, chain), as far back as there is one; of a known function the others are shorter
        self.called: dict = {}
        for n, (step, ins, outs) in enumerate(zip(tape.steps, tape.ins, tape.outs, strict=True)):
            self.made |= dict.fromkeys(outs, n)
            if self.data.intersection(ins):
                self.data |= {*outs}
            if step.name in MOVES and ins[0] in self.moves:
                leaf, steps = self.moves[ins[0]]
                self.moves[outs[0]] = leaf, (*steps, n)
            if step.name in ("reshape", "squeeze", "broadcast_in_dim", "transpose") and ins[0] in self.names:
                self.names.setdefault(outs[0], self.names[ins[0]])
            if step.name in primitives.ELEMENTWISE and not tape.active.isdisjoint({*ins, *map(self.root.get, ins)}):
                self.follow(n, ins, outs[0])
        self.inner = {k for v in self.called for k in self.chain[v] if k != self.made[v]}  # steps of a known function
        self.of_penalty: set = set()  # values that come to the cost without having met data
        for n in reversed(range(len(tape.steps))):
            self.of_penalty |= {v for v in tape.ins[n] if self.is_penalty(n, v)}

    def is_penalty(self, n, v):
        """Whether no data are on the way from v through step n to the cost, up to the sum in which they are."""
        joins = self.tape.steps[n].name in ("add", "sub") and not np.ndim(self.tape.values[v])
        return bool(self.data) and v not in self.data and (joins or self.tape.outs[n][0] in self.of_penalty)

    @functools.cached_property
    def ancestors(self):
        """{value: those it depends on, as bits}"""
        out: dict[int, int] = collections.defaultdict(int)
        for ins, outs in zip(self.tape.ins, self.tape.outs, strict=True):
            for v in outs:
                for w in ins:
                    out[v] |= out[w] | 1 << w
        return out

    def independent(self, keys):
        """Whether none of these (step, input) is on the way back from another."""
        made = functools.reduce(lambda bits, key: bits | 1 << self.tape.outs[key[0]][0], keys, 0)
        return not any((self.ancestors[v] | 1 << v) & made for v in (self.tape.ins[n][i] for n, i in keys))

    def follow(self, n, ins, out):
        """Whether it is a function of one value, entry by entry, and whether it is a known one."""
        tape = self.tape
        active = [v for v in ins if v in tape.active or v in self.root]
        roots = {self.whole[v][0] if v in self.whole else v for v in active}
        if len(roots) > 1 or any(np.shape(tape.values[v]) != np.shape(tape.values[out]) for v in active):
            return
        (root,) = roots
        chain = sorted({n, *(k for v in active if v in self.whole for k in self.whole[v][1])})
        self.whole[out] = self.root[out], self.chain[out] = root, chain
        if not is_float(tape.values[out]):
            return
        before = [tape.outs[k][0] for k in chain[-2::-1]]
        before = list(itertools.takewhile(lambda v: v not in self.called, before))
        for z in [root, *before]:
            name = which(tape.values[z], tape.values[out])
            if name:
                self.called[out], self.root[out] = name, z
                self.chain[out] = [k for k in chain if k > self.made.get(z, -1)]
                if z in self.names:
                    self.names.setdefault(out, f"{name}({self.names[z]})")
                return

    @functools.cached_property
    def functions(self):
        """The names of known functions: those that others are mistaken for, and those of this cost."""
        return dict.fromkeys([*USUAL, *self.called.values()])

    @functools.cached_property
    def in_loss(self):
        """The values after which nothing enters that is differentiated."""
        out = {self.tape.J}
        for v in reversed(range(len(self.tape.values))):
            its = [n for n, _ in self.uses[v] if self.tape.outs[n][0] in self.tape.true]
            if its and all(self.tape.outs[n][0] in out and self.moves.keys().isdisjoint(self.tape.ins[n]) for n in its):
                out.add(v)
        return out

    def label(self, v):
        return self.names.get(v) or (f"the value at {self.place(self.made[v])}" if v in self.made else "the value")

    def place(self, n):
        return self.tape.steps[n].place

    @functools.cached_property
    def sites(self):
        """{step: (site, visit)}: equations at one place of the code that come again and again."""
        by_place = collections.defaultdict(list)
        for n, step in enumerate(self.tape.steps):
            by_place[step.place or n].append(n)
        out: dict = {}
        for place, its in by_place.items():
            names = [self.tape.steps[n].name for n in its]
            period = next(
                p for p in range(1, len(its) + 1) if len(its) % p == 0 and names == names[:p] * (len(its) // p)
            )
            out |= {n: ((place, k % period), k // period) for k, n in enumerate(its)}
        return out

    @functools.cached_property
    def visits(self):
        """{site: its steps}"""
        out = collections.defaultdict(list)
        for n, (site, _) in self.sites.items():
            out[site].append(n)
        return out

    @functools.cached_property
    def uses(self):
        """{value: the (step, input) where it is used}"""
        out = collections.defaultdict(list)
        for n, ins in enumerate(self.tape.ins):
            for i, v in enumerate(ins):
                out[v].append((n, i))
        return out

    def tags(self, v, n):
        """What a value is called from step n, in words that are the same at other visits: by where it is made, or by
        where it is used."""
        mine, visit = self.sites[n]
        out = []
        made = [(self.made[v], "made")] if v in self.made else []
        for k, what in made + self.uses[v]:
            site, its = self.sites[k]
            if len(self.visits[site]) == len(self.visits[mine]) > 1:
                out.append((site, what, its - visit))
        return out[:4] or [v]

    @functools.cached_property
    def candidates(self):
        """Values, each content once, that may be taken for others: those with names first."""
        seen, out = set(), []
        for v in sorted(range(len(self.tape.values)), key=lambda v: (v not in self.names, v)):
            x = self.tape.values[v]
            if not np.ndim(x) or not is_float(x) or not self.stands_out(v):
                continue
            key = np.shape(x), np.round(x, 12).tobytes()
            if key not in seen:
                seen.add(key)
                out.append(v)
        return out

    def stands_out(self, v):
        """Whether it is more than a step on the way through a function."""
        used = {self.tape.steps[n].name for n, _ in self.uses[v]}
        many = len(self.uses[v]) > 1 or not used <= primitives.ELEMENTWISE.keys()
        return v in self.names or v in self.called or v not in self.root or many

    def sites_differ(self, v, w):
        """Whether two values are one of two steps of a loop."""
        a, b = (self.sites.get(self.made.get(u), (u, 0)) for u in (v, w))
        return a[0] == b[0] and a[1] != b[1]

    def like(self, shape, v, n):
        """Other values of this shape, in a loop those of this step and the next ones, that may be taken for v at n."""
        x, visits = self.tape.values[v], len(self.visits[self.sites[n][0]])

        def near(w):
            site, its = self.sites[self.made[w]] if w in self.made else (None, 0)
            return visits == 1 or len(self.visits.get(site, ())) != visits or abs(its - self.sites[n][1]) <= 1

        its = [w for w in self.candidates if np.shape(self.tape.values[w]) == shape and near(w)]
        its = [w for w in its if not (np.shape(x) == shape and np.array_equal(self.tape.values[w], x))]
        return its[:OTHERS]

    def terms(self, v):
        """The summands of a sum."""
        if v not in self.made or self.tape.steps[n := self.made[v]].name != "add":
            return []
        return [w for term in self.tape.ins[n] for w in self.terms(term) or [term]]

    def along(self, v, tape, z, instead=lambda x: x, where=None):
        """f′(z) of the value v = f(its root); with `instead` of each array in f that is no function of it, and `where`
        of each truth value on which f depends."""
        env: dict = {self.root[v]: (z, np.ones(np.shape(z)))}
        for n in self.chain[v]:
            inputs = [env[w][0] if w in env else instead(tape.values[w]) for w in tape.ins[n]]
            y, slope = tape.again(n, inputs), 0.0
            if tape.outs[n][0] in tape.active:
                for i in [i for i, w in enumerate(tape.ins[n]) if w in env and w in tape.active]:
                    partial = tape.partial(n, i, inputs)
                    if where and tape.steps[n].name in BRANCHES:
                        partial = np.asarray(where(partial > 0), float)
                    slope = slope + partial * env[tape.ins[n][i]][1]
            elif where:
                y = where(y)
            env[tape.outs[n][0]] = y, slope
        return env[v][1]

    def slope(self, v, tape):
        """f′ at the root."""
        if v not in tape.slopes:
            tape.slopes[v] = self.along(v, tape, tape.values[self.root[v]])
        return tape.slopes[v]

    def branches(self, v):
        """Whether f decides, in v = f(its root), and not a known function in it."""
        if any(self.tape.outs[n][0] in self.called for n in self.chain[v] if n != self.made[v]):
            return False
        steps = [self.tape.steps[n] for n in self.chain[v] if n not in self.inner]
        return any(step.name in BRANCHES or not is_float(step.outputs[0]) for step in steps)

    def entry(self, v):
        """(step, input) where its root enters v = f(root)."""
        return next((n, i) for n in self.chain[v] for i, w in enumerate(self.tape.ins[n]) if w == self.root[v])
