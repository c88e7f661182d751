"""A run that is kept goes on after any end to the bits of one that was never stopped, or says why it does not."""

import json
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest
from training.test_loop import KEY, NET, SETTINGS, X, Y, equal, with_chunks_of

from jaxnn import L2, Activation, Chain, Checkpoint, Dense, HalfSquaredError, fit, signals, sweep
from jaxnn.storage import checkpoints, hold, tree_file
from jaxnn.training import checkpoint
from jaxnn.training import prepare as preparation

pytestmark = pytest.mark.usefixtures("standard_promotion")  # adam needs it


def trained(folder=None, say=None, every=0.0, **settings):
    given = {"x": X, "y": Y, "key": KEY, "epochs": 6, "optimizer": optax.adam, "learning_rate": 0.01, "batch_size": 4}
    kept = None if folder is None else Checkpoint(folder, every, say)
    return fit(NET, HalfSquaredError(), **given | settings, checkpoint=kept)


def copies(monkeypatch, folder, to):
    """What a process that is killed after each of its writes leaves, in folders that are made one after the other."""
    save, number = checkpoints.save, count()

    def save_and_copy(*args):
        save(*args)
        shutil.copytree(folder, to / str(next(number)))

    monkeypatch.setattr(checkpoints, "save", save_and_copy)


@pytest.mark.sample(lambda name: [*SETTINGS, "schedule", "streamed"].index(name) // 3)
@pytest.mark.parametrize("name", [*SETTINGS, "schedule", "streamed"])
def test_a_run_that_was_killed_goes_on_to_the_same_bits(monkeypatch, tmp_path, name):
    settings = SETTINGS.get(name, {"batch_size": 4})
    if name == "schedule":
        settings |= {"learning_rate": optax.cosine_decay_schedule(0.1, 30)}
    if name == "streamed":
        monkeypatch.setattr(preparation, "LARGE", 0)
        monkeypatch.setattr(preparation, "SHARE", 1)
    alone = trained(**settings)
    with_chunks_of(monkeypatch, 4)
    with monkeypatch.context() as patched:
        copies(patched, tmp_path / "run", tmp_path)
        assert equal(trained(tmp_path / "run", **settings), alone)
    left = sorted((path for path in tmp_path.iterdir() if path.name != "run"), key=lambda path: int(path.name))
    assert len(left) > 1
    for folder in [*left[:3], left[-1]]:
        assert len([*folder.iterdir()]) <= checkpoints.KEPT
        assert equal(trained(folder, **settings), alone)


def test_a_sweep_that_was_killed_goes_on_to_the_same_bits(monkeypatch, tmp_path):
    def all_trained(folder=None):
        settings = {"keys": jax.random.split(KEY, 3), "learning_rates": [0.1, 1e3, 0.01], "batch_size": 4}
        kept = None if folder is None else Checkpoint(folder, 0)
        return sweep(NET, HalfSquaredError(), X, Y, epochs=4, **settings, checkpoint=kept)

    alone = all_trained()
    with_chunks_of(monkeypatch, 4)
    with monkeypatch.context() as patched:
        copies(patched, tmp_path / "run", tmp_path)
        assert equal(all_trained(tmp_path / "run"), alone)
    for name in ("0", "3"):
        assert equal(all_trained(tmp_path / name), alone)


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """A folder with the last two states of a run, and the run."""
    with_chunks_of(monkeypatch, 4)
    return tmp_path / "run", trained(tmp_path / "run")


def altered(path):
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(bytes(content))


def torn(path):
    path.write_bytes(path.read_bytes()[:-100])


def another(path):
    content = tree_file.read(path)
    tree_file.write(path, content.arrays, content.texts | {"format": "jaxnn checkpoint 99"})


@pytest.mark.parametrize("damage", [altered, torn, another])
def test_one_that_is_damaged_is_noticed_and_the_one_before_it_used(kept, damage):
    folder, alone = kept
    (folder / ".99.safetensors.partial").write_bytes(b"half")
    _, last = checkpoints.paths(folder)
    damage(last)
    said = []
    assert equal(trained(folder, said.append), alone)
    (sentence,) = said
    assert str(last) in sentence
    assert "goes on from the state before it" in sentence
    assert not [*folder.glob(".*")]
    for path in checkpoints.paths(folder):
        damage(path)
    with pytest.raises(ValueError, match=f"There is no other: remove {folder} to begin anew"):
        trained(folder, said.append)


def test_one_that_is_damaged_goes_when_another_is_whole(tmp_path):
    for number in (4, 8):
        checkpoints.save(tmp_path, number, {"state": np.ones(3)}, {})
    altered(tmp_path / "8.safetensors")
    assert checkpoints.newest(tmp_path, lambda _: None).arrays["state"].sum() == 3
    assert len(checkpoints.paths(tmp_path)) == 2  # looking removes nothing
    checkpoints.save(tmp_path, 6, {"state": np.ones(3)}, {})
    assert [path.stem for path in checkpoints.paths(tmp_path)] == ["4", "6"]


@pytest.mark.parametrize("texts", [{}, {"run": "[]", "environment": "3"}, {"run": "{" * 9, "environment": "{}"}])
def test_what_is_no_state_of_a_run_is_refused(kept, texts):
    folder, _ = kept
    for path in checkpoints.paths(folder):
        tree_file.write(path, {"state": np.ones(3)}, texts | {"format": checkpoints.FORMAT})
    with pytest.raises(ValueError, match="is no state of a run: remove it"):
        trained(folder)


OTHERS = {
    "epochs was 6 and is 7": {"epochs": 7},
    "learning_rate was 0.01 and is 0.02": {"learning_rate": 0.02},
    "optimizer was adam and is adamw": {"optimizer": optax.adamw},
    "batch_size was 4 and is 5": {"batch_size": 5},
    "penalty was None and is L2": {"penalty": L2(0.1)},
    "patience was None and is 3": {"patience": 3, "validation": (X, Y)},
    "key differs": {"key": jax.random.key(1)},
    "x differs": {"x": X + 1e-6},
    "y differs": {"y": -Y},
    "weights differs": {"weights": np.ones(len(X))},
    "rows was 23 and is 22": {"x": X[:22], "y": Y[:22]},
    "dtype was float32 and is bfloat16": {"dtype": "bfloat16"},
    "params differs": {"params": NET.init(jax.random.key(5))},
    "order differs": {"order": lambda epoch: np.arange(len(X))},
}


@pytest.mark.sample(lambda words: [*OTHERS].index(words) // 3)
@pytest.mark.parametrize("words", OTHERS)
def test_another_run_is_refused_with_what_differs(kept, words):
    folder, alone = kept
    with pytest.raises(ValueError, match=f"is of another run: .*{words}"):
        trained(folder, **OTHERS[words])
    assert equal(trained(folder), alone)


NAMELESS = {  # what has no name that could be compared, nor numbers
    "finished": [{"optimizer": optax.adam(rate), "learning_rate": None} for rate in (0.01, 0.02)],
    "another state": [{"optimizer": of(0.01), "learning_rate": None} for of in (optax.adam, optax.sgd)],
    "schedule": [{"learning_rate": optax.constant_schedule(rate)} for rate in (0.01, 0.02)],
    "partial": [{"optimizer": partial(optax.sgd, momentum=momentum)} for momentum in (0.9, 0.1)],
}


@pytest.mark.sample
@pytest.mark.parametrize("name", NAMELESS)
def test_another_optimizer_is_refused(tmp_path, name):
    one, other = NAMELESS[name]
    alone = trained(tmp_path, **one)
    with pytest.raises(ValueError, match=r"is of another run: .*the computation of a step differs"):
        trained(tmp_path, **other)
    assert equal(trained(tmp_path, **one), alone)


class Mine(Activation):
    """A layer of the user's own, whose repr has an address."""

    __repr__ = object.__repr__


def test_a_layer_whose_repr_is_an_address_goes_on(tmp_path):
    def run():
        net = Chain((Dense(3, 2), Mine("tanh")))
        return fit(net, HalfSquaredError(), X, Y, key=KEY, epochs=2, checkpoint=tmp_path)

    assert equal(run(), run())


def test_one_process_at_a_time(kept):
    folder, _ = kept
    with hold.held(folder), pytest.raises(ValueError, match="Another process is writing into"):
        trained(folder)


def test_a_full_disk_is_said_and_the_run_goes_on(monkeypatch, kept):
    folder, alone = kept
    before, last = checkpoints.paths(folder)
    last.unlink()
    said, replace = [], os.replace

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert equal(trained(folder, said.append), alone)
    monkeypatch.setattr(os, "replace", replace)
    assert said
    assert all("is not kept: " in sentence and "No space left on device" in sentence for sentence in said)
    assert [*folder.iterdir()] == [before]  # the state before is intact
    assert equal(trained(folder), alone)


def test_another_machine_is_said(monkeypatch, kept):
    folder, alone = kept
    now = checkpoint.environment()
    monkeypatch.setattr(checkpoint, "environment", lambda: now | {"JAX": "99", "number of threads": "1000"})
    said = []
    assert equal(trained(folder, said.append), alone)
    (sentence,) = said
    assert "not to the same bits" in sentence
    assert f"the JAX was {now['JAX']} and is 99" in sentence
    assert "the number of threads was" in sentence
    assert checkpoint.not_promised() == []
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert checkpoint.not_promised()[0].startswith("On a GPU the same bits are not promised")
    monkeypatch.setenv("XLA_FLAGS", f"--xla_some=1 {checkpoint.DETERMINISTIC}")
    assert checkpoint.not_promised() == []


def test_states_are_kept_more_and_more_rarely(monkeypatch, tmp_path):
    """The first after the first stretch; then so that at most half of the time is lost, and at most `every`."""
    now, at = [0.0], []
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(checkpoints, "save", lambda *_: at.append(now[0]))
    history = trained(epochs=1).history
    with checkpoint.kept(Checkpoint(tmp_path, every=8), dict) as keeper:
        for seconds in range(1, 41):
            now[0] = float(seconds)
            keeper.look({}, [history])
    assert at == [1, 2, 4, 8, 16, 24, 32, 40]


def test_without_say_it_is_a_warning(kept):
    folder, _ = kept
    altered(checkpoints.paths(folder)[-1])
    with pytest.warns(UserWarning, match="goes on from the state before it"):
        fit(NET, HalfSquaredError(), X, Y, key=KEY, epochs=6, optimizer=optax.adam, learning_rate=0.01, batch_size=4,
            checkpoint=str(folder))  # fmt: skip


def test_seconds_that_are_none_are_refused():
    for every in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match="it must be a number of seconds, 0 or more"):
            Checkpoint("folder", every)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="Cannot keep the run in"):
        trained(tmp_path / "file" / "in it")


def test_what_is_kept_is_plain_to_see(kept):
    folder, alone = kept
    content = tree_file.read(checkpoints.paths(folder)[-1])
    assert content.is_checked
    assert json.loads(content.texts["run"])["model"] == repr(NET)
    assert np.array_equal(content.arrays["history/cost"], alone.history.cost)
    assert np.array_equal(content.arrays["state/params/0/W"], alone.params[0].W)
    assert Path(checkpoints.paths(folder)[-1]).stem == str(len(alone.history.iteration_cost))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_fit_with_what_was_learned(monkeypatch, tmp_path, name):
    """And with the handlers that were there before; a second one in the way of nothing."""
    with_chunks_of(monkeypatch, 4)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]

    def twice(epoch, params):
        os.kill(os.getpid(), getattr(signal, name))
        os.kill(os.getpid(), getattr(signal, name))

    run = fit(NET, HalfSquaredError(), X, Y, key=KEY, epochs=6, batch_size=4, on_epoch=twice, optimizer=optax.adam,
              learning_rate=0.01, checkpoint=Checkpoint(tmp_path / "run", 1e9))  # fmt: skip
    assert run.stopped.reason == "interrupted"
    assert len(run.history.cost) == 1
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    assert equal(trained(tmp_path / "run"), trained())


def test_a_signal_while_the_last_state_is_written_loses_nothing(monkeypatch, tmp_path):
    save = checkpoints.save

    def interrupted(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        save(*args)

    monkeypatch.setattr(checkpoints, "save", interrupted)
    monkeypatch.setattr(checkpoint.Kept, "look", lambda *_: None)  # the last one alone
    run = trained(tmp_path)
    monkeypatch.undo()
    assert run.stopped.reason == "epochs"
    assert equal(run, trained())


def test_a_signal_that_was_swallowed_is_heard_again():
    with signals.heard() as ends:
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)  # at once: it is one Ctrl-C, pressed twice
            ends.last -= signals.AGAIN
        with signals.heard() as inner:
            inner.deaf = True
            os.kill(os.getpid(), signal.SIGTERM)
        assert not ends.deaf
    assert ends.exit_code == 130


def test_an_interrupt_keeps_a_state_and_the_history_up_to_it(monkeypatch, tmp_path):
    with_chunks_of(monkeypatch, 4)
    looks, look = count(), checkpoint.Kept.look

    def interrupted(keeper, state, parts):
        if next(looks) == 3:
            raise KeyboardInterrupt
        look(keeper, state, parts)

    monkeypatch.setattr(checkpoint.Kept, "look", interrupted)
    run = trained(tmp_path)
    assert run.stopped.reason == "interrupted"
    monkeypatch.setattr(checkpoint.Kept, "look", look)
    assert equal(trained(tmp_path), trained())


@pytest.mark.parametrize("mine", [signal.SIG_IGN, lambda *_: heard.append("mine")], ids=["nohup", "the caller's"])
def test_a_signal_that_has_a_handler_keeps_it(mine):
    heard.clear()
    before = signal.signal(signal.SIGHUP, mine)
    try:
        run = trained(on_epoch=lambda epoch, params: os.kill(os.getpid(), signal.SIGHUP))
        assert signal.getsignal(signal.SIGHUP) == mine
    finally:
        signal.signal(signal.SIGHUP, before)
    assert run.stopped.reason == "epochs"
    assert heard == ([] if mine == signal.SIG_IGN else ["mine"] * 6)


heard: list[str] = []


def test_in_another_thread_no_handler_is_set():
    handlers = []
    with ThreadPoolExecutor(1) as pool:
        pool.submit(
            trained, optimizer=optax.sgd, on_epoch=lambda *_: handlers.append(signal.getsignal(signal.SIGTERM))
        ).result()
    assert handlers == [signal.SIG_DFL] * 6
