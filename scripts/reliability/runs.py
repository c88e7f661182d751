#!/usr/bin/env python3
"""Prints a table in Markdown: what is left of `jaxnn train` when it is killed, interrupted, or finds no room.

.venv/bin/python scripts/reliability/runs.py [--kills 200] [--signals 60] [--doubles 40] [--starts 600] [--seed 0]

Each command has a process of its own, in a temporary folder. It stands in docs/reliability.md. Exit code 1 if anything
was lost.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from jaxnn.storage import run_record, tree_file

RUN = ["train", "digits", "--hidden", "16", "--epochs", "6000"]
ENDLESS = ["train", "iris", "--hidden", "4", "--epochs", "10000000"]
LEARNED = ("model.safetensors", "history.csv", "iterations.csv")
KNOWN = {*LEARNED, "learning_curve.png", "run.json"}
SLOW = "import os, sys, time; true = os.fsync; os.fsync = lambda file: (time.sleep(0.2), true(file))[1]; "
FULL = (
    "import os, sys, itertools; true, calls, nth = os.fsync, itertools.count(1), int(sys.argv.pop(1))\n"
    "def fsync(file):\n    if next(calls) >= nth: raise OSError(28, 'No space left on device')\n    true(file)\n"
    "os.fsync = fsync; "
)
MAIN = "from jaxnn.__main__ import main; sys.exit(main())"


def begin(args, before="import sys; "):
    """A process of the command; before: what it does first."""
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", before + MAIN, *args], stdout=pipe, stderr=pipe, text=True)


def run(args, before="import sys; "):
    """(exit code, both streams) of the command, run to its end."""
    with begin(args, before) as process:
        out, err = process.communicate()
    return process.returncode, out, err


def learned(folder):
    """The bytes of what a run has learned, and of all of its history."""
    return [(folder / name).read_bytes() for name in LEARNED]


def wait_for(process, is_so, seconds=60.0):
    """Waits until it is so, or the process has ended."""
    end = time.monotonic() + seconds
    while not is_so() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)


def half_written():
    """Whether a file is being written."""
    return any(Path("run").rglob(".*.partial"))


def killed(count, rng):
    """Kills a run again and again until it is done, then another: every other time inside of a write."""
    assert run([*RUN, "--out", "alone"])[0] == 0
    kills = within = done = same = 0
    while kills < count or run_record.is_unfinished(Path("run")):
        args = ["train", "--resume", "run"] if run_record.is_unfinished(Path("run")) else [*RUN, "--out", "run"]
        with begin([*args, "--checkpoint-every", "1s"], SLOW) as process:
            if kills % 2 and kills < count:
                wait_for(process, lambda: False, rng.uniform(0, 6))
            elif kills < count:
                wait_for(process, lambda: False, rng.uniform(1.5, 6))
                wait_for(process, half_written)
            inside = half_written()
            if kills < count:
                process.kill()
            _, err = process.communicate()
        kills += process.returncode == -signal.SIGKILL
        within += inside and process.returncode == -signal.SIGKILL
        assert process.returncode in (0, -signal.SIGKILL), err
        if Path("run/model.safetensors").is_file() and not run_record.is_unfinished(Path("run")):
            done += 1
            same += is_whole(Path("run")) and learned(Path("run")) == learned(Path("alone"))
            move_away()
    return (
        f"{kills} × kill -9, {within} inside of a write",
        f"{same} of {done} runs ended with the same bits",
        same == done,
    )


def is_whole(folder):
    """Whether it has nothing in it but what a run leaves."""
    return {path.name for path in folder.iterdir()} <= KNOWN


def move_away():
    """A run that is done makes room for the next."""
    for path in Path("run").iterdir():
        path.unlink()
    Path("run").rmdir()


def signalled(name, count, times, rng):
    """Sends a signal, some times, at any moment after the first state is kept."""
    kept, late = 0, []
    number = getattr(signal, name)
    for n in range(count):
        folder = Path(f"{name}-{times}-{n}")
        with begin([*ENDLESS, "--out", str(folder)]) as process:
            wait_for(process, lambda folder=folder: any(folder.rglob("*.safetensors")))
            time.sleep(rng.uniform(0, 1))
            sent = time.monotonic()
            for _ in range(times):
                process.send_signal(number)
                time.sleep(rng.uniform(0, 0.5) if times > 1 else 0)
            _, err = process.communicate()
            late.append(time.monotonic() - sent)
        whole = all((folder / name).is_file() for name in LEARNED) and tree_file.read(folder / "model.safetensors")
        kept += bool(process.returncode == 128 + number and whole and not err)
    what = f"{count} × {'double ' if times > 1 else ''}{name}"
    return what, f"{kept} kept what was learned, the slowest in {max(late):.1f} s", kept == count


def racing(count):
    """Runs that begin at once, under one name."""
    barrier = multiprocessing.get_context("fork").Barrier(50)
    workers = [
        multiprocessing.get_context("fork").Process(target=racer, args=(barrier, count // 50)) for _ in range(50)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    folders = [path for path in Path("runs").iterdir() if (path / "model.safetensors").is_file()]
    alike = sum(
        (path / "model.safetensors").read_text() != json.loads((path / "run.json").read_text())["settings"]["me"]
        for path in folders
    )
    wanted = count // 50 * 50
    return (
        f"{wanted} starts at once",
        f"{len(folders)} folders, {alike} of two runs",
        len(folders) == wanted and not alike,
    )


def racer(barrier, count):
    """Begins so many runs, each when all others begin one."""
    for n in range(count):
        barrier.wait()
        with ExitStack() as stack:
            me = f"{os.getpid()} {n}"
            folder = stack.enter_context(run_record.begun(None, "r", "train", {"me": me}, []))
            (folder / "model.safetensors").write_text(me)
            run_record.finish(folder)


def without_room():
    """No room from the n-th write on, for every n; then room again."""
    args = ["train", "iris", "--hidden", "4", "--epochs", "300"]
    assert run([*args, "--out", "roomy"])[0] == 0
    said = same = n = 0
    while True:
        n += 1
        out = Path(f"full-{n}")
        code, text, err = run([str(n), *args, "--out", str(out)], FULL)
        if code == 0 and "No space left" not in text:
            break
        sentences = [line for line in err.splitlines() if line]
        said += ("No space left" in err or "No space left" in text) and len(sentences) <= 1 and "Traceback" not in err
        args_again = ["train", "--resume", str(out)] if run_record.is_unfinished(out) else [*args, "--out", str(out)]
        if code != 0:
            code, _, _ = run(args_again)
        same += code == 0 and learned(out) == learned(Path("roomy"))
    n -= 1
    return f"no room from the n-th write on, n = 1 … {n}", f"{said} said so, {same} ended the same", said == same == n


def main():
    """Runs what is asked for, and prints a row of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in {"kills": 200, "signals": 60, "doubles": 40, "starts": 600, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=number)
    given = parser.parse_args()
    rng, right = random.Random(given.seed), True
    print("| what is done | what is left |\n|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        rows = [
            (racing, given.starts),
            (without_room,),
            (signalled, "SIGTERM", given.signals, 1, rng),
            (signalled, "SIGINT", given.signals, 1, rng),
            (signalled, "SIGINT", given.doubles, 2, rng),
            (killed, given.kills, rng),
        ]
        for of, *settings in rows:
            if settings and not all(settings):
                continue
            what, left, is_right = of(*settings)
            right &= is_right
            print(f"| {what} | {left} |", flush=True)
        os.chdir("/")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
