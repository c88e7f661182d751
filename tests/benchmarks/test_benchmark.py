"""scripts/benchmark: what it compares is the same, and its figures are what the clock said. Nothing here is timed."""

import functools
import io
import json
import runpy
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from rich.console import Console

from benchmarks import accelerating, compiling, measuring, memory, peers, starting, training, verifying
from benchmarks.measuring import Contender, Row, Wrong
from jaxnn import Chain, Dense, Repeat, ops
from jaxnn.examples import OPS

pytestmark = pytest.mark.filterwarnings("default")  # what peers warn of is theirs

NIELSEN = replace(training.NIELSEN, sizes=(20, 6, 4), m=200, epochs=3, peer_epochs=2)
CATS = replace(training.CATS, sizes=(30, 7, 1), m=21, batch_size=21, epochs=8, peer_epochs=5, learning_rate=0.5)
MIDDLE = replace(training.MIDDLE, sizes=(8, 8, 8, 5), m=128, batch_size=32, epochs=1)


@pytest.fixture(autouse=True)
def as_a_user():
    """Without the suite's strict promotion, which peers do not keep to; the cache of compiled programs comes back."""
    cached = jax.config.jax_enable_compilation_cache
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
    jax.config.update("jax_enable_compilation_cache", cached)


class Clock:
    """A `time` that passes in jobs alone."""

    now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        pass

    def job(self, *seconds, answer=None):
        left = iter(seconds)

        def job():
            self.now += next(left)
            return answer

        return job


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(measuring, "time", clock)
    return clock


# Measuring


def test_medians_and_ratios_by_round(clock):
    row = Row(
        "a row",
        lambda: {
            "ours": Contender(clock.job(9, 1, 2, 6), cases=2),
            "peer": Contender(clock.job(9, 8, 4, 9), cases=4),
            "other": Contender(clock.job(9, 1, 1, 1)),
            "absent": "is not installed",
        },
        goal=1.5,
        ratios={"peer": 1, "other": 1},
    )
    found = measuring.result(row, 3)
    ours, peer, other = (found["contenders"][name] for name in ("ours", "peer", "other"))
    assert ours == {"figure": {"median": 1, "least": 0.5, "most": 3}, "rounds": 3, "goal": 1.5, "met": True}
    assert peer["figure"] == {"median": 2, "least": 1, "most": 2.25}
    assert peer["ratio"] == {"median": 1, "least": 0.75, "most": 4}  # of 2/0.5, 1/1, 2.25/3
    assert peer["met"]
    assert other["ratio"]["median"] == 1
    assert found["left_out"] == {"absent": "is not installed"}
    assert not found["failed"]


def test_a_short_job_is_called_for_a_quarter_of_a_second(clock):
    seconds, answer = measuring.timed(clock.job(*[0.125, 0.0625, 0.0625, 9], answer="it"))
    assert (seconds, answer) == (0.25 / 3, "it")


def test_goals_that_are_missed(clock):
    jobs = lambda: {"ours": Contender(clock.job(1, 2)), "peer": Contender(clock.job(1, 3))}  # noqa: E731
    found = measuring.result(Row("a row", jobs, goal=1.9, ratios={"peer": 1.6}), 1)
    assert [its["met"] for its in found["contenders"].values()] == [False, False]


def differs(ours, theirs):
    if ours != theirs:
        raise Wrong(f"{theirs} is not {ours}")


@pytest.mark.parametrize("later", [False, True])
def test_another_answer_is_an_error_and_no_figure(clock, later):
    answers = iter([1, 1, 2] if later else [2])
    jobs = {
        "ours": Contender(clock.job(*[1] * 3, answer=1)),
        "peer": Contender(lambda: (clock.job(1)(), next(answers))[1]),
        "no answer": Contender(clock.job(*[1] * 3)),
    }
    found = measuring.result(Row("a row", lambda: jobs, agree=differs), 2)
    assert found["wrong"] == {"peer": "2 is not 1"}
    assert list(found["contenders"]) == ["ours", "no answer"]
    assert found["failed"]


def test_ours_that_is_wrong_ends_the_row(clock):
    def wrong():
        raise Wrong("no")

    jobs = {"ours": Contender(wrong), "peer": Contender(clock.job(1, 1))}
    found = measuring.result(Row("a row", lambda: jobs), 1)
    assert (found["wrong"], found["contenders"], found["failed"]) == ({"ours": "no"}, {}, True)
    known = {"ours": Contender(clock.job(1, 1)), "peer": Contender(wrong)}
    assert not measuring.result(Row("a row", lambda: known), 1)["failed"]  # a peer may be wrong about the right rule


def printed(results):
    console = Console(file=io.StringIO(), width=160)
    console.print(measuring.table(results))
    return console.file.getvalue()


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, arguments)])
    return runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "benchmark"))["main"]()


def test_the_json_holds_what_the_table_shows(clock, monkeypatch, tmp_path, capsys):
    jobs = {
        "ours": Contender(clock.job(9, 1, 3), cases=1000),
        "peer": Contender(clock.job(9, 5, 7)),
        "wrong one": Contender(clock.job(1, answer=1)),
        "absent": "is not installed",
    }
    row = Row("a row of its own", lambda: jobs, goal=1e-3, ratios={"peer": 4000}, agree=lambda *_: differs(1, 2))
    monkeypatch.setattr(training, "rows", lambda: [row])
    assert run(monkeypatch, "--row", "of its own", "--rounds", 2, "--json", tmp_path / "found.json") == 1
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["machine"]["jax"] == jax.__version__
    shown, said = printed(found["rows"]), capsys.readouterr().out
    for text in (
        "2 ms (1 ms to 3 ms)",
        "≤ 1 ms: MISSED",
        "6 s (5 s to 7 s)",
        "3,667× (2,333× to 5,000×)",
        "ERROR: 2 is not 1",
    ):
        assert text in shown
        assert text in said
    assert "≥ 4,000×: MISSED" in shown
    assert "left out: is not installed" in shown


def test_bad_input_is_exit_code_2(monkeypatch, capsys):
    for arguments in (("--row", "no such row"), ("--rounds", 0)):
        with pytest.raises(SystemExit) as ended:
            run(monkeypatch, *arguments)
        assert ended.value.code == 2
    monkeypatch.setattr(accelerating, "at_hand", lambda: None)
    assert run(monkeypatch, "--accelerator") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("JAX finds no GPU or TPU here")


def test_every_row_has_its_own_name_and_goals_of_its_contenders(monkeypatch):
    monkeypatch.setattr(training, "products", lambda training: (abs, np.zeros(1)))
    monkeypatch.setattr(training.Training, "weights", lambda self: [])
    ideas = (training, memory, compiling, starting, verifying)
    rows = [row for idea in ideas for row in idea.rows()]
    assert len({row.name for row in rows}) == len(rows)
    assert len(list(accelerating.rows())) == len({row.name for row in accelerating.rows()})


# Training


@functools.cache
def costs(run):
    return training.ours(run)()


def of(run, name, peer):
    """The contender, or a skip where it is not installed."""
    contender = run.contenders({name: peer})[name]
    return pytest.skip(contender) if isinstance(contender, str) else contender


COMPILED = "PyTorch, compiled"  # takes 5 to 30 seconds, so once


@pytest.mark.sample
@pytest.mark.parametrize("run", [NIELSEN, CATS, MIDDLE], ids=["nielsen", "cats", "middle"])
def test_every_contender_has_our_costs_at_each_call(run):
    others = {name: peer for name, peer in training.PEERS.items() if name != COMPILED}
    others |= {training.REPEATED: training.repeated} if run is MIDDLE else {}
    contenders = run.contenders(others)
    assert list(contenders) == ["ours", training.BY_GRAD, *others, training.PRODUCTS]
    assert len(costs(run)) == run.epochs * run.m // run.batch_size
    assert costs(run)[-1] < costs(run)[0]
    for name in (training.BY_GRAD, *others):
        if isinstance(contenders[name], str):
            assert contenders[name].endswith("is not installed")
        else:
            run.agree(costs(run), contenders[name].job())
            run.agree(costs(run), contenders[name].job())


def test_pytorch_compiled_has_our_costs():
    job = of(NIELSEN, COMPILED, training.PEERS[COMPILED]).job
    NIELSEN.agree(costs(NIELSEN), job())
    NIELSEN.agree(costs(NIELSEN), job())


@pytest.mark.parametrize("name", sorted(training.PEERS.keys() - {COMPILED}))
def test_a_contender_that_steps_a_little_too_far_is_an_error(name, monkeypatch):
    monkeypatch.setattr(measuring, "PAUSE", 0)
    too_far = replace(CATS, learning_rate=1.01 * CATS.learning_rate)
    jobs = {"ours": Contender(lambda: costs(CATS)), name: of(too_far, name, training.PEERS[name])}
    found = measuring.result(Row("a row", lambda: jobs, agree=CATS.agree), 1)
    assert found["wrong"][name].startswith("its costs are not ours")
    assert list(found["contenders"]) == ["ours"]
    assert found["failed"]


def test_the_peer_by_jax_grad_is_by_jax_grad(monkeypatch):
    """That `fit` has compiled the hand-derived gradient before does not keep it from compiling another."""
    right = training.autodiff

    def too_far(*args, **how):
        gradient = right(*args, **how)
        return lambda *args: (lambda J, grads: (J, jax.tree.map(lambda dv: 1.02 * dv, grads)))(*gradient(*args))

    monkeypatch.setattr(training, "autodiff", too_far)
    costs(CATS)
    with pytest.raises(Wrong):
        CATS.agree(costs(CATS), training.by_grad(CATS)())


def test_pytorch_without_a_gpu_is_left_out_where_one_is_wanted():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    found = CATS.contenders({"PyTorch": partial(peers.pytorch, device="cuda")})
    assert found["PyTorch"] == "PyTorch for CUDA is not installed"


def test_costs_that_do_not_fit_are_wrong():
    ours = costs(NIELSEN)
    for theirs in (ours[:3], np.full_like(ours, np.nan), ours[::-1]):
        with pytest.raises(Wrong):
            NIELSEN.agree(ours, theirs)
    NIELSEN.agree(ours, ours[:40].reshape(2, 20).mean(1))


def test_the_matrix_products_are_those_of_a_step():
    scan, x = training.products(MIDDLE, steps=2)
    assert x.shape == (2, 32, 8)
    inputs, Ws = [np.asarray(x[-1])], [W for W, _ in MIDDLE.weights()]
    for W in Ws:
        inputs.append(inputs[-1] @ W.T)
    dz = inputs.pop()
    for dW, W, a in zip(reversed(scan(x)), reversed(Ws), reversed(inputs), strict=True):
        np.testing.assert_allclose(dW, dz.T @ a, rtol=1e-4, atol=1e-5)
        dz = dz @ W


def test_bfloat16_is_near_its_own_autodiff():
    wide = replace(accelerating.WIDEST, sizes=(16,) * 4, m=64, batch_size=16, learning_rate=0.1)
    wide.agree(costs(wide), training.by_grad(wide)())


def test_many_networks_at_once_have_the_costs_of_one(monkeypatch):
    (row,) = training.many(replace(training.SMALL, m=64, epochs=2, peer_epochs=1), n=3, epochs=2)
    contenders = row.contenders()
    ours = contenders["ours"].job()
    monkeypatch.setattr(training, "autodiff", lambda *args, **how: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # it is compiled anew
        contenders[training.BY_GRAD].job()
    monkeypatch.undo()
    for contender in contenders.values():
        row.agree(ours, contender.job())


def test_the_check_of_an_accelerator(monkeypatch, tmp_path, capsys):
    """Of two ops, without the training: all of it takes minutes, and runs where there is one."""
    script = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "accelerator"))
    of_script = script["main"].__globals__
    chosen = {op: OPS[op] for op in ("dropout", "rms_norm")}
    for name, value in {"LAYERS": {}, "LOSSES": {}, "OPS": chosen, "timed_rows": lambda: ()}.items():
        monkeypatch.setitem(of_script, name, value)
    monkeypatch.setitem(of_script, "train", lambda device: (0.0, np.ones(2), 1.0))
    assert script["main"](["--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert [row["in"] for row in found["rules"]] == ["float32", "TF32", "bfloat16"] * 2
    monkeypatch.setattr(ops, "dropout", lambda x, key, keep: x)
    assert script["main"]([]) == 1
    assert "FAILED: dropout in float32" in capsys.readouterr().out


# Memory, compiling, starting, accelerating


def test_memory_is_what_the_compiler_plans():
    found = {name: contender.job() for name, contender in memory.row(16, 8, 64, "tanh", 0.6, True).contenders().items()}
    model = Repeat(Chain((memory.block(16, "tanh"),) * 2), 4, recompute=True)
    params = jax.eval_shape(model.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((64, 16), jnp.float32)
    assert (
        found["ours"]
        == jax.jit(memory.by_hand(model)).lower(params, x, x).compile().memory_analysis().temp_size_in_bytes / 2**20
    )
    assert found[memory.CHECKPOINTED] < found[memory.SCANNED]


def test_the_gradients_whose_memory_is_compared_are_equal():
    layer, key = memory.block(4, "tanh"), jax.random.key(0)
    params, x = Repeat(layer, 3).init(key), jax.random.normal(key, (5, 4))
    ours = memory.by_hand(Repeat(layer, 3, recompute=True))(params, x, x)
    for model in (Repeat(layer, 3), Repeat(memory.Checkpointed(layer), 3)):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), ours, memory.by_grad(model)(params, x, x))
    apart = tuple(jax.tree.map(lambda v, i=i: v[i], params) for i in range(3))
    J, grads = memory.by_grad(Chain((layer,) * 3))(apart, x, x)
    ours_apart = ours[0], tuple(jax.tree.map(lambda v, i=i: v[i], ours[1]) for i in range(3))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), ours_apart, (J, grads))


@dataclass(frozen=True)
class Seen(Dense):
    """A layer that says when it is traced."""

    def forward(self, params, x, key=None):
        traced.append(self)
        return super().forward(params, x, key)


traced: list[Seen] = []


def test_each_compilation_starts_again():
    for n in (1, 2):
        memory.compiled(memory.by_hand, Seen(3, 3), 3, 2)
        assert len(traced) == n


def test_starting():
    starting.showing_help()
    assert starting.importing() > 0
    with pytest.raises(Wrong, match="ended with 2"):
        starting.process("-m", "jaxnn", "train", "no such set", cache="")


def test_a_rule_that_is_wrong_on_a_device_is_an_error(monkeypatch):
    monkeypatch.setattr(accelerating.runpy, "run_path", lambda path: {"main": lambda: 1})
    (row, *_) = accelerating.rows()
    assert measuring.result(row, 1)["failed"]
