"""A plugin of pytest that writes which lines of jaxnn each test executes, for scripts/mutants: pytest -p executed.

Each process writes a file of its own into the folder $EXECUTED: a line for a test, {"test": its name, "seconds": of the
CPU, "lines": {file: [numbers]}}. Tests that fail are left out.
"""

import collections
import json
import os
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = f"{ROOT / 'jaxnn'}{os.sep}"
executed: dict[str, set[int]] = collections.defaultdict(set)
failed = set()


def enter(frame, event, argument):
    return visit if frame.f_code.co_filename.startswith(OURS) else None


def visit(frame, event, argument):
    executed[frame.f_code.co_filename].add(frame.f_lineno)
    return visit


def pytest_runtest_logreport(report):
    if report.failed:
        failed.add(report.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    executed.clear()
    start = sum(os.times()[:4])
    threading.settrace(enter)
    sys.settrace(enter)
    try:
        return (yield)
    finally:
        sys.settrace(None)
        threading.settrace(None)
        lines = {str(Path(path).relative_to(ROOT)): sorted(numbers) for path, numbers in list(executed.items())}
        row = {"test": item.nodeid, "seconds": sum(os.times()[:4]) - start, "lines": lines}
        if item.nodeid not in failed:
            with (Path(os.environ["EXECUTED"]) / f"{os.getpid()}.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
