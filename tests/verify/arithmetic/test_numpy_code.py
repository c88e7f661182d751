"""NumPy code on real numbers: whatever its names for NumPy are, and NumPy is the same for everybody else."""

import importlib
import math
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
import scipy.special
from jax import numpy as jnp

from jaxnn import verify
from jaxnn.verify.arithmetic.stand_ins import MODE
from jaxnn.verify.tracing.numpy_code import as_jax

DRAW = np.random.default_rng(0).normal
W, X, Y = ARGS = DRAW(size=(4, 2)), DRAW(size=(3, 4)), DRAW(size=(3, 2))

HEAD = "import numpy as np, math\nfrom numpy import zeros, tanh\n"
END = """
def cost(W, x, y):
    return 0.5 * np.sum((net(W, x) - y) ** 2)

def grad(W, x, y):
    a = net(W, x)
    return x.T @ ((a - y) * (1 - a**2))
"""
NETS = {  # net(W, x) = tanh(x W), as people write it
    "imported by name": """
def net(W, x):
    o = zeros((3, 2))
    o[:] = tanh(x @ W)
    return o
""",
    "a closure": """
def made(new=np.zeros):
    k = np
    def f(W, x):
        o = new((3, 2))
        o[:] = k.array([r @ W for r in x])
        return o
    return f
f = made()
def net(W, x):
    return np.tanh(f(W, x))
""",
    "a partial": """
from functools import partial
new = partial(np.zeros, (3, 2))
def net(W, x):
    o = new()
    o += x @ W
    return tanh(o)
""",
    "a class": """
class Layer:
    new = np.empty
    make = staticmethod(np.zeros)
    def __init__(self, n):
        np.random.seed(3)
        self.W, self.b = np.random.randn(4, n), self.make(n)
class Net(Layer):
    def __init__(self, n):
        super().__init__(n)
    def __call__(self, x):
        o = self.new((3, 2))
        o[:] = x @ self.W + self.b
        self.last = o
        return np.tanh(o)
def net(W, x):
    n = Net(2)
    n.W += W - n.W
    return n(x)
""",
    "an instance that was there": """
class Net:
    def __call__(self, x):
        o = np.zeros((3, 2))
        for i in range(3):
            o[i] = np.tanh(x[i] @ self.W)
        return o
net_ = Net()
def net(W, x):
    net_.W = W
    return net_(x)
""",
    "a dict of functions": """
F = {"new": np.zeros, "act": np.tanh}
def net(W, x):
    o = F["new"]((3, 2))
    o[:] = x @ W
    return F["act"](o)
""",
    "import within": """
def net(W, x):
    import numpy
    import numpy.linalg as la
    from numpy import empty as new
    o = new((3, 2))
    o[:] = x @ W
    return numpy.tanh(o * la.norm(numpy.array([1.0])))
""",
    "a decorator": """
import functools
def copied(f):
    @functools.wraps(f)
    def g(*a):
        o = np.zeros((3, 2))
        o[:] = f(*a)
        return o
    return g
@copied
def f(W, x):
    return np.tanh(x @ W)
def net(W, x):
    return f(W, x)
""",
    "lru_cache": """
from functools import lru_cache
@lru_cache
def half(n):
    o = np.zeros((n, n))
    np.fill_diagonal(o, np.sqrt(np.full(n, 2.0)) / 2)
    return o
def net(W, x):
    return np.tanh(x @ W @ half(2) @ half(2) * 2)
""",
    "a memo": """
M = {}
def net(W, x):
    if "k" not in M:
        M["k"] = np.ones((3, 2)) * 0
    return np.tanh(x @ W + M["k"])
""",
    "threads": """
from concurrent.futures import ThreadPoolExecutor
def row(r, W):
    o = np.zeros(2)
    o[:] = r @ W
    return np.tanh(o)
def net(W, x):
    with ThreadPoolExecutor(2) as e:
        return np.array(list(e.map(lambda r: row(r, W), x)))
""",
    "a generator": """
def rows(x, W):
    o = np.zeros(2)
    for r in x:
        o[:] = r @ W
        yield o.copy()
def net(W, x):
    return np.tanh(np.array(list(rows(x, W))))
""",
    "vectorize": """
act = np.vectorize(lambda v: math.tanh(v))
def net(W, x):
    return act(x @ W) if len(x) else np.vectorize(math.tanh)(x @ W)
""",
    "math of entries": """
def net(W, x):
    return np.array([[math.tanh(float(v)) for v in row] for row in x @ W])
""",
    "math written into zeros": """
def net(W, x):
    o, h = np.zeros((3, 2)), x @ W
    for i in range(3):
        for j in range(2):
            o[i][j] = (math.exp(h[i, j]) - math.exp(-h[i, j])) / (2 * math.cosh(h[i, j]))
    return o
""",
    "print, assert, int": """
def net(W, x):
    h = x @ W
    text = f"{h} {h[0, 0]:.3f}" + str(h)
    assert int(np.floor(h[0, 0])) < 99 and np.isfinite(h).all() and text
    np.testing.assert_allclose(h, h + 1e-9, atol=1e-6)
    return np.tanh(h)
""",
    "views": """
def net(W, x):
    h = np.zeros((3, 2))
    for row, r in zip(h, x):
        row[:] = r @ W
    h.reshape(-1)[2] += 1
    h.T[0][1] -= 1
    return np.tanh(h)
""",
    "out=": """
def net(W, x):
    h = x @ W
    np.multiply(h, 2, out=h)
    np.tanh(h / 2, out=h)
    return h
""",
    "asarray, astype": """
def net(W, x):
    h = np.asarray(x @ W, dtype=float).astype(np.float64)
    return np.tanh(np.array(h, float).astype("float64"))
""",
    "a buffer that was there": """
B = np.zeros((3, 2))
def net(W, x):
    B[:] = x @ W
    return np.tanh(B)
""",
    "isinstance": """
def net(W, x):
    h = (x @ W).sum()
    assert isinstance(h, float) and isinstance(1.0, float) and not isinstance(h, str)
    return np.tanh(x @ W)
""",
    "type(s) is float": """
s = 1.0
def net(W, x):
    return np.tanh((x @ W) * (1 if type(s) is float else 3))
""",
    "linspace written": """
def net(W, x):
    t = np.linspace(0, 1, 2)
    t -= (x @ W)[0]
    return np.tanh(x @ W + t + (x @ W)[0] - np.linspace(0, 1, 2))
""",
    "drawn weights written": """
def net(W, x):
    rng = np.random.default_rng(0)
    V = rng.normal(size=(4, 2))
    V -= V.copy()
    V += W
    return np.tanh(x @ V)
""",
    "SciPy": """
from scipy.special import expit
import scipy.special as sp
def net(W, x):
    h = x @ W
    zero = sp.softmax(h, axis=1).sum(1, keepdims=True) - np.exp(sp.logsumexp([0.0 * h[0, 0], 0.0])) / 2
    return 2 * expit(2 * h) - 1 + zero
""",
    "another file": """
from layers import dense
def net(W, x):
    return dense(W, x)
""",
    "a file that is imported late": """
def net(W, x):
    import layers
    return layers.dense(W, x)
""",
    "a package": """
from pack import ops
def net(W, x):
    return ops.dense(W, x)
""",
}
FILES = {  # beside it
    "layers.py": """
import numpy
def dense(W, x):
    o = numpy.zeros((3, 2))
    for i in range(3):
        o[i] = x[i] @ W
    return numpy.tanh(o)
""",
    "pack/__init__.py": "from . import ops\n",
    "pack/ops.py": """
from .names import *
def dense(W, x):
    o = zeros((3, 2))
    o[:] = x @ W
    return tanh(o)
""",
    "pack/names.py": "from numpy import *\n",
}


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A file of a user's, beside others, as a module."""
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    def imported(text):
        (tmp_path / "model.py").write_text(text)
        importlib.invalidate_caches()
        return importlib.import_module("model")

    yield imported
    for name in ("model", "layers", "pack", "pack.ops", "pack.names"):
        sys.modules.pop(name, None)


def is_exact(user):
    J, names = user.cost(*ARGS), dict(vars(user))
    report = verify.gradient(user.cost, user.grad, *ARGS)
    assert (report.verdict, report.evidence) == (verify.PASS, "exact"), str(report)
    wrong = verify.gradient(user.cost, lambda *args: user.grad(*args) * (1 + 1e-6), *ARGS, points="given")
    assert wrong.verdict == verify.FAIL
    assert user.cost(*ARGS) == J
    assert {key: id(v) for key, v in vars(user).items()} == {key: id(v) for key, v in names.items()}


def is_traced(user):
    user.cost(2 * W, X, Y)
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        cost = as_jax(lambda floats: user.cost(*floats), ARGS)
        J, dW = jax.jit(jax.value_and_grad(lambda W: cost([W, X, Y])))(W)
        grad = jax.jit(as_jax(lambda floats: user.grad(*floats), ARGS))([W, X, Y])
    np.testing.assert_allclose(J, user.cost(*ARGS), rtol=1e-12)
    np.testing.assert_allclose(dW, user.grad(*ARGS), rtol=1e-9)
    np.testing.assert_allclose(grad, dW, rtol=1e-9)


@pytest.mark.sample(lambda name, check: [*NETS].index(name) // 2)
@pytest.mark.parametrize("check", [is_exact, is_traced])
@pytest.mark.parametrize("name", NETS)
def test_a_net_however_it_is_written(name, check, model):
    check(model(HEAD + NETS[name] + END))


N = 5
A, B, V = DRAW(size=(3, 3)) + 4 * np.eye(3), DRAW(size=3), DRAW(size=N)
WEIGHTS = np.arange(1.0, N + 1)


def inverse_transposed(A):
    return np.linalg.inv(A).T


def of_spectrum(v):
    X = np.fft.fft(v)
    return np.sum(WEIGHTS * np.abs(X) ** 2)


def corners(v):
    """The places, values and slopes of a function that is linear between."""
    return np.interp(v, [-9.0, -1.0, 0.5, 9.0], [0.0, 8.0, 5.0, 22.0])


def slopes(v):
    return np.select([v < -1, v < 0.5], [1.0, -2.0], 2.0) * (np.abs(v) < 9)


FUNCTIONS = {  # (cost, grad, the argument)
    "solve": (
        lambda A: np.sum(np.linalg.solve(A, B) ** 2),
        lambda A: -np.outer(np.linalg.solve(A.T, 2 * np.linalg.solve(A, B)), np.linalg.solve(A, B)),
        A,
    ),
    "solve, several columns": (
        lambda A: np.sum(np.linalg.solve(np.stack([A, 2 * A]), np.eye(3))),
        lambda A: -1.5 * inverse_transposed(A) @ np.ones((3, 3)) @ inverse_transposed(A),
        A,
    ),
    "inv": (
        lambda A: np.linalg.inv(A).sum(),
        lambda A: -inverse_transposed(A) @ np.ones((3, 3)) @ inverse_transposed(A),
        A,
    ),
    "det": (np.linalg.det, lambda A: np.linalg.det(A) * inverse_transposed(A), A),
    "slogdet": (lambda A: np.linalg.slogdet(A)[1], inverse_transposed, A),
    "slogdet by name": (lambda A: np.linalg.slogdet(A).logabsdet, inverse_transposed, -A),
    "cholesky": (
        lambda A: np.log(np.diag(np.linalg.cholesky(A @ A.T))).sum(),
        inverse_transposed,
        A,
    ),
    "lstsq": (
        lambda b: np.linalg.lstsq(A[:, :2], b, rcond=None)[0].sum(),
        lambda b: np.linalg.pinv(A[:, :2]).sum(0) + 0 * b,
        B,
    ),
    "matrix_power": (
        lambda A: np.trace(np.linalg.matrix_power(A, 3)),
        lambda A: 3 * np.linalg.matrix_power(A, 2).T,
        A,
    ),
    "interp": (lambda v: np.sum(corners(v) ** 2), lambda v: 2 * corners(v) * slopes(v), V),
    "pad": (
        lambda v: np.sum(np.pad(v, 2)[1 : N + 1] * WEIGHTS),
        lambda v: np.append(np.pad(WEIGHTS[1:], (0, 0)), 0.0),
        V,
    ),
    "diag": (lambda v: np.sum(np.diag(v) @ np.ones((N, N)) * WEIGHTS), lambda v: 15.0 + 0 * np.diag(np.diag(v)), V),
    "where": (lambda v: np.sum(np.where(v > 0, 1.0, v)), lambda v: np.where(v > 0, 0.0, 1.0), V),
    "numbers among reals": (lambda v: np.exp(np.array([0.0, *v])).sum(), np.exp, V),
    "numbers in a list": (lambda v: np.sum(np.exp([0.0, 1, v[0], v[1]])), np.exp, V[:2]),
    "fft": (of_spectrum, lambda v: 2 * N * np.real(np.fft.ifft(WEIGHTS * np.fft.fft(v))), V),
    "rfft and back": (
        lambda v: np.sum(np.fft.irfft(np.fft.rfft(v) * 2, N) ** 2),
        lambda v: 8 * v + 0 * np.fft.rfft(v).real[0],
        V,
    ),
    "fft of a plane": (
        lambda A: np.sum(np.abs(np.fft.fft2(A)) ** 2),
        lambda A: 2 * A.size * np.real(np.fft.ifft2(np.fft.fft2(A))),
        A,
    ),
    "fabs": (lambda v: np.sum(np.fabs(v) ** 3), lambda v: 3 * np.fabs(v) * v, V),
    "sinc": (
        lambda v: np.sum(np.sinc(v**2 + 1)),
        lambda v: 2 * v * (np.cos(np.pi * (v**2 + 1)) - np.sinc(v**2 + 1)) / (v**2 + 1),
        V,
    ),
    "c_, r_": (lambda v: np.sum(np.c_[np.ones(N), v] ** 2) + np.r_[1.0, v].sum(), lambda v: 2 * v + np.ones(N), V),
    "math": (
        lambda v: math.log(math.cosh(v[0])) + math.erf(v[1]) * 0,
        lambda v: np.array([math.tanh(v[0]), 0 * v[1]]),
        V[:2],
    ),
    "apply_along_axis": (
        lambda A: np.apply_along_axis(lambda row: np.log(np.sum(np.exp(row))), 1, A).sum(),
        lambda A: np.exp(A) / np.sum(np.exp(A), axis=1, keepdims=True),
        A,
    ),
    "piecewise": (
        lambda v: np.piecewise(v, [v < 0, v >= 0], [lambda v: -(v**3), lambda v: v**3]).sum(),
        lambda v: 3 * v**2 * np.where(v < 0, -1, 1),
        V,
    ),
    "logaddexp.reduce": (np.logaddexp.reduce, lambda v: np.exp(v - np.logaddexp.reduce(v)), V),
    "bincount": (
        lambda v: np.sum(np.bincount([0, 1, 1, 2, 0], weights=v) ** 2),
        lambda v: 2 * np.bincount([0, 1, 1, 2, 0], weights=v)[[0, 1, 1, 2, 0]],
        V,
    ),
    "SciPy": (
        lambda v: np.sum(scipy.special.xlogy(v**2 + 1, v**2 + 1) + scipy.special.gammaln(v**2 + 1)),
        lambda v: 2 * v * (np.log(v**2 + 1) + 1 + scipy.special.digamma(v**2 + 1)),
        V,
    ),
}


@pytest.mark.sample(lambda name: [*FUNCTIONS].index(name) // 2)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_numpy_are_exact(name):
    cost, grad, v = FUNCTIONS[name]
    np.testing.assert_allclose(float(verify.exact(cost, v)), cost(v), rtol=1e-9)
    report = verify.gradient(cost, grad, v)
    assert (report.verdict, report.evidence) == (verify.PASS, "exact"), str(report)
    for wrong in (1 + 1e-6, 0):
        report = verify.gradient(cost, lambda v, wrong=wrong: wrong * grad(v), v, points="given")
        assert (report.verdict, report.evidence) == (verify.FAIL, "exact")


VALUES = {
    "what least squares leave": lambda v: np.linalg.lstsq(np.stack([WEIGHTS, V], 1), v**2)[1].sum(),  # ‖a x − b‖²
    "finfo of reals": lambda v: np.sum(v) + np.finfo(v.dtype).eps,
    "finfo of another dtype": lambda v: np.sum(v) + np.finfo(np.float32).eps,
    "a negative number to a power that is whole": lambda v: np.sum((-abs(v)) ** (0 * v + 3)),
    "at the last point": lambda v: np.sum(np.interp(0 * v + 0.5, [-9.0, 0.5], [1.0, 2.0], right=7.0)),
    "beyond the last point": lambda v: np.sum(np.interp(0 * v + 3, [-9.0, 0.5], [1.0, 2.0], right=7.0)),
    "a number is a float, and a word is none": lambda v: (
        np.sum(np.exp(v)) * (isinstance(v[0], float) - isinstance("a word", float))
    ),
}


@pytest.mark.parametrize("f", VALUES.values(), ids=VALUES)
def test_the_exact_value_is_that_of_numpy(f):
    np.testing.assert_allclose(float(verify.exact(f, V)), f(V), rtol=1e-9)


def test_a_complex_number_is_no_real_one():
    """‖X‖² = Σ|X|² of a spectrum, where ΣX² is real too."""
    right = lambda v: 2 * N * v  # noqa: E731
    for norm in (lambda X: np.linalg.norm(X) ** 2, lambda X: np.sum(X * np.conj(X)).real, lambda X: np.vdot(X, X).real):
        report = verify.gradient(lambda v, norm=norm: norm(np.fft.fft(v)), right, V, points="given")
        assert (report.verdict, report.evidence) == (verify.PASS, "exact")
    angles = lambda v: np.angle(np.fft.fft(v))[1]  # noqa: E731
    np.testing.assert_allclose(float(verify.exact(angles, V)), angles(V), rtol=1e-12)
    report = verify.gradient(angles, lambda v: 0 * v, V, points="given")
    assert (report.verdict, report.evidence) == (verify.FAIL, "exact")


# NumPy is the same for everybody else


def dropout(W, x, y):
    np.random.seed(1)  # noqa: NPY002
    mask = np.random.rand(3, 2) < 0.5  # noqa: NPY002
    a = np.tanh(x @ W)
    o = np.zeros((3, 2))
    o += a * mask / 0.5
    return a, mask / 0.5, o - y


def dropout_cost(W, x, y):
    return 0.5 * float(np.sum(dropout(W, x, y)[2] ** 2))


def dropout_grad(W, x, y):
    a, scale, e = dropout(W, x, y)
    return x.T @ (e * scale * (1 - a**2))


def test_seeded_random_numbers_within_a_cost():
    report = verify.gradient(dropout_cost, dropout_grad, *ARGS)
    assert (report.verdict, report.evidence) == (verify.PASS, "exact")
    wrong = verify.gradient(dropout_cost, lambda W, x, y: x.T @ np.prod(dropout(W, x, y)[1:], axis=0), *ARGS)
    assert wrong.verdict == verify.FAIL
    assert wrong.causes[0].kind == "missing_activation_derivative"


def arrays():
    """What eight other threads make of NumPy: names of kinds of arrays and numbers."""
    made = [np.zeros(2), np.ones((2, 2)), np.full(2, 0.5), np.empty_like(np.zeros(3)), np.array([0.1, 0.2]), np.eye(2)]
    made += [np.linalg.inv(np.eye(2)), np.float64(0.5), np.exp(0.5), np.random.default_rng(0).normal(size=2)]
    return {(type(v).__module__, type(v).__name__, v.dtype.name) for v in made} | {
        type(float("0.5")).__name__,
        MODE.get(),
    }


def test_other_threads_see_nothing():
    expected, seen, stop = arrays(), [], threading.Event()

    def make():
        while not stop.is_set():
            seen.append(arrays())

    before, interval = dict(vars(np)), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            futures = [pool.submit(make) for _ in range(8)]
            report = verify.gradient(dropout_cost, dropout_grad, *ARGS)
            stop.set()
            for future in futures:
                future.result()
    finally:
        sys.setswitchinterval(interval)
    assert report.evidence == "exact"
    assert len(seen) > 8
    assert all(kinds == expected for kinds in seen)
    assert vars(np) == before


def test_numpy_is_never_patched():
    before, during = dict(vars(np)), []
    modules = {
        name: dict(vars(sys.modules[name])) for name in ("builtins", "threading", "numpy.linalg", "numpy.random")
    }

    def cost(W):
        during.append({name: v is sys.modules["numpy"].__dict__[name] for name, v in before.items()})
        return np.sum(np.zeros(2) + W**2)

    report = verify.gradient(cost, lambda W: 2 * np.asarray(W), V[:2])
    assert (report.verdict, report.evidence) == (verify.PASS, "exact")
    assert all(all(names.values()) for names in during)
    assert vars(np) == before
    assert all(dict(vars(sys.modules[name])) == names for name, names in modules.items())


def test_everything_is_as_before_when_the_code_raises(model):
    user = model(HEAD + "M, K = {}, [0.0]\ndef net(W, x):\n    return tanh(x @ W)\n" + END)
    before = dict(vars(user))

    def cost(W, x, y):
        user.M["last"] = K = np.zeros(2) + W[0]
        user.K[0] = K[0]
        if type(K[0]) is not np.float64:
            raise RuntimeError("no floats")
        return user.cost(W, x, y)

    report = verify.gradient(cost, user.grad, *ARGS)
    assert (report.verdict, report.evidence) == (verify.PASS, "float64")
    assert dict(vars(user)) == before
    assert user.np is np
    assert type(user.K[0]) is np.float64
    assert type(user.M["last"]) is np.ndarray
    assert MODE.get() is None


def test_equal_code_of_two_files_is_told_apart():
    text = "import numpy as np\ndef cost(W):\n    return np.sum(np.where(W > 0, W, 2 * W))\n"
    for file in ("one.py", "two.py"):
        space = {"__name__": file[:3]}
        exec(compile(text, file, "exec"), space)
        report = verify.gradient(space["cost"], lambda W: np.where(W > 0, 1.0, 2.0), W)
        assert f"{file}:3 (cost)" in {branch.place for branch in report.branches}


def test_a_random_cost_is_said_before_anything_else():
    def cost(W, x, y):
        return np.mean((np.random.rand(20, 3, 2) > 0.5) * (x @ W - y) ** 2)  # noqa: NPY002

    def traced(W, x, y):
        masks = np.random.rand(20, 3, 2) > 0.5  # noqa: NPY002
        return sum(jnp.where(mask, (x @ W - y) ** 2, 0).mean() for mask in masks)

    def grad(W, x, y):
        return x.T @ (x @ W - y) / 3

    def drawn(W, x, y):
        return x.T @ (np.random.rand(3, 2).astype(x.dtype) * (x @ W - y)) / 3  # noqa: NPY002

    def steady(W, x, y):
        return jnp.mean((x @ W - y) ** 2)

    for wrong in ((cost, grad), (cost, drawn), (traced, grad), (traced, jax.grad(traced))):
        with pytest.raises(ValueError, match="The forward pass computes something else when it is called again"):
            verify.gradient(*wrong, *ARGS)
    with pytest.raises(
        ValueError, match=r"The hand rule computes something else .* random numbers without a key or a seed"
    ):
        verify.gradient(steady, drawn, *ARGS)
