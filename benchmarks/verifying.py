"""Verification: an exact verdict, a sweep of random cases, the whole command, beside check_grads and torch's gradcheck.

All must come to the same answer, that the rule is right.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.test_util
import numpy as np
from jax import numpy as jnp

from benchmarks.measuring import Contender, Row, Wrong
from jaxnn import Activation, Chain, Dense, SigmoidCrossEntropy, SoftmaxCrossEntropy, backprop, verify

try:
    import torch
except ModuleNotFoundError:
    torch = None

PLAIN, COMPILED, DOUBLE = "check_grads, as it is", "check_grads, compiled", "check_grads, compiled, float64"
SLOW, FAST = "torch gradcheck, slow", "torch gradcheck, fast"


# Two dense layers, by hand: ours, and the same formulas for the peers


class Net:
    """n_in – n_hidden – n_out with tanh, cross-entropy of m examples; case i of it is drawn from key i."""

    def __init__(self, n_in, n_hidden, n_out, m):
        self.sizes, self.m = (n_in, n_hidden, n_out), m
        self.model = Chain([Dense(n_in, n_hidden), Activation("tanh"), Dense(n_hidden, n_out)])
        self.loss = SigmoidCrossEntropy() if n_out == 1 else SoftmaxCrossEntropy()
        self.cost = backprop.cost(self.model, self.loss)
        self.grad = backprop.value_and_grad(self.model, self.loss)

    def draw(self, key):
        init, biases, x, y = jax.random.split(key, 4)
        params = self.model.init(init)
        params = jax.tree.map(lambda v: v if v.ndim > 1 else jax.random.normal(biases, v.shape), params)
        n_in, _, n_out = self.sizes
        labels = jax.random.randint(y, (self.m,), 0, max(2, n_out))
        target = labels[:, None].astype(jnp.float32) if n_out == 1 else labels
        return params, jax.random.normal(x, (self.m, n_in)), target

    def cases(self, n):
        return [jax.device_get(self.draw(jax.random.key(i))) for i in range(n)]


def ours(net):
    """One exact verdict, all default points."""
    (args,) = net.cases(1)

    def job():
        report = verify.gradient(net.cost, net.grad, *args)
        if report.verdict != verify.PASS or report.evidence != "exact":
            raise Wrong(str(report))

    return job


def swept(net, n):
    def job():
        report = verify.sweep(net.cost, net.grad, net.draw, n=n)
        if report.verdict != verify.PASS:
            raise Wrong(str(report))

    return job


def in_turn(net, n, check):
    """A job that checks the next of n cases at each call."""
    cases, calls = net.cases(n), iter(range(10**9))

    def job():
        params, *data = cases[next(calls) % n]
        try:
            check(params, *data)
        except (AssertionError, RuntimeError) as error:  # as they say it
            raise Wrong(f"rejects the right rule: {str(error).strip().splitlines()[0]}") from error

    return job


def check_grads(net, compiled, x64=False):
    """The hand rule as a `jax.custom_vjp` of the cost: of that, only the reverse mode can be checked."""
    cost = jax.custom_vjp(lambda params, x, y: net.cost(params, x, y))
    cost.defvjp(net.grad, lambda grads, dJ: (jax.tree.map(lambda g: dJ * g, grads), None, None))
    cost = jax.jit(cost) if compiled else cost

    def wide(v):
        return jnp.asarray(v, jnp.float64) if x64 and v.dtype == np.float32 else jnp.asarray(v)

    def check(params, x, y):
        with jax.enable_x64(x64):
            params, x, y = jax.tree.map(wide, (params, x, y))
            jax.test_util.check_grads(lambda params: cost(params, x, y), (params,), order=1, modes=["rev"])

    return check


def gradcheck(net, fast):
    softmax = net.sizes[-1] > 1

    class Cost(torch.autograd.Function):
        @staticmethod
        def forward(ctx, W1, b1, W2, b2, x, y):
            a = torch.tanh(x @ W1.T + b1)
            z = a @ W2.T + b2
            ctx.save_for_backward(W2, x, a, z, y)
            if softmax:
                return torch.nn.functional.cross_entropy(z, y)
            return torch.nn.functional.binary_cross_entropy_with_logits(z, y)

        @staticmethod
        def backward(ctx, dJ):
            W2, x, a, z, y = ctx.saved_tensors
            dz = torch.softmax(z, 1) - torch.nn.functional.one_hot(y, z.shape[1]) if softmax else torch.sigmoid(z) - y
            dz = dJ * dz / len(x)
            dh = (dz @ W2) * (1 - a * a)
            return dh.T @ x, dh.sum(0), dz.T @ a, dz.sum(0), None, None

    def check(params, x, y):
        leaves = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in jax.tree.leaves(params)]
        x, y = torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.int64 if softmax else torch.float64)
        torch.autograd.gradcheck(lambda *leaves: Cost.apply(*leaves, x, y), leaves, fast_mode=fast)

    return check


def peers(net, n=1):
    checks = {
        PLAIN: check_grads(net, False),
        COMPILED: check_grads(net, True),
        DOUBLE: check_grads(net, True, x64=True),
    }
    if torch is None:
        checks |= dict.fromkeys((SLOW, FAST), "torch is not installed")
    elif net.sizes[0] > 100:
        checks |= {SLOW: "two forward passes for each of the parameters take minutes", FAST: gradcheck(net, True)}
    else:
        checks |= {SLOW: gradcheck(net, False), FAST: gradcheck(net, True)}
    return {
        name: check if isinstance(check, str) else Contender(in_turn(net, n, check)) for name, check in checks.items()
    }


def command():
    """`jaxnn verify`, from the start of its process to the end."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "found.json")
        done = subprocess.run(
            [sys.executable, "-m", "jaxnn", "verify", "--json", str(file)], capture_output=True, text=True, check=False
        )
        if done.returncode or json.loads(file.read_text())["verdict"] != verify.PASS:
            raise Wrong(f"jaxnn verify ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")


def exact(name, goal, *sizes):
    def contenders():
        net = Net(*sizes)
        return {"ours": Contender(ours(net))} | peers(net)

    return Row(f"exact verdict, {name}", contenders, goal)


def sweep(n=20_000):
    def contenders():
        net = Net(3, 5, 2, 6)
        return {"ours": Contender(swept(net, n), n)} | peers(net, 40)

    goals = {PLAIN: 1000, FAST: 50}
    return Row("sweep, 3–5–2, 6 examples, a case", contenders, 1 / 15_000, goals)


def rows():
    yield exact("3–5–2, 6 examples", 0.5, 3, 5, 2, 6)
    yield exact("784–30–10, 10 examples", 5, 784, 30, 10, 10)
    yield exact("4096–8–1, 209 examples", 20, 4096, 8, 1, 209)
    yield sweep()
    yield Row("jaxnn verify, all that ships", lambda: {"ours": Contender(command)}, 30)
