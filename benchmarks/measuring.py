"""Contenders in turn, round after round: medians with their range, ratios round by round; as JSON and as a table."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

PAUSE = 0.2  # seconds before each turn: the threads of the one before wait for work that long, and take a core
LEAST = 0.25  # seconds that a turn takes at least
MOST = 600  # seconds for all rounds of a row after the third


class Wrong(Exception):
    """A result that is not the known one."""


@dataclass(frozen=True)
class Contender:
    job: Callable[[], Any]  # all its cases, the same at each call; gives its answer, if it has one, or raises `Wrong`
    cases: int = 1


def timed(job):
    """(seconds of one call, its answer); of a short one, the mean over a quarter of a second."""
    start, calls = time.perf_counter(), 0
    while not calls or time.perf_counter() - start < LEAST:
        answer = job()
        calls += 1
    return (time.perf_counter() - start) / calls, answer


def told(job):
    """For a job whose answer is the figure."""
    figure = job()
    return figure, figure


@dataclass(frozen=True)
class Row:
    """A figure of each contender, the smaller the better: seconds of a case, MiB."""

    name: str
    contenders: Callable[[], dict[str, Contender | str]]  # ours first; a string says why one is left out
    goal: float | None = None  # of ours, at most
    ratios: Mapping[str, float] = field(default_factory=dict)  # a contender's figure over ours, at least
    agree: Callable[[Any, Any], None] | None = None  # raises `Wrong` for an answer that is not ours: all must agree
    figure: Callable = timed  # job -> (figure, answer)
    unit: str = "s"


def measure(row, contenders, rounds):
    """(figures by contender, one for each round; what was wrong with a contender, which is then out).

    The first call, which compiles, is not among the rounds. Without ours the row ends.
    """
    figures, wrong, reference = {name: [] for name in contenders}, {}, None
    ours, start = next(iter(contenders)), time.perf_counter()
    for done in range(rounds + 1):
        if done == 1:
            start = time.perf_counter()
        if done > 3 and time.perf_counter() - start > MOST:
            break
        for name in [name for name in contenders if name not in wrong]:
            job, cases = contenders[name].job, contenders[name].cases
            try:
                if done:
                    time.sleep(PAUSE)
                    figure, answer = row.figure(job)
                    figures[name].append(figure / cases)
                else:
                    answer = job()
                reference = answer if name == ours else reference
                if row.agree and answer is not None:
                    row.agree(reference, answer)
            except Wrong as error:
                wrong[name] = str(error)
                if name == ours:
                    return {}, wrong
    return {name: values for name, values in figures.items() if name not in wrong}, wrong


def spread(values):
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def result(row, rounds):
    """What is known of a row, of types that JSON has."""
    contenders = row.contenders()
    ours = next(iter(contenders))
    left_out = {name: why for name, why in contenders.items() if isinstance(why, str)}
    contenders = {name: contender for name, contender in contenders.items() if name not in left_out}
    figures, wrong = ({}, {}) if ours in left_out else measure(row, contenders, rounds)
    found = {"row": row.name, "unit": row.unit, "contenders": {}, "wrong": wrong, "left_out": left_out}
    found["failed"] = bool(wrong) if row.agree else ours in wrong
    for name, values in figures.items():
        its = {"figure": spread(values), "rounds": len(values)}
        if name == ours:
            its["goal"] = row.goal
            its["met"] = None if row.goal is None else its["figure"]["median"] <= row.goal
        else:
            its["ratio"] = spread([theirs / mine for theirs, mine in zip(values, figures[ours], strict=True)])
            its["goal"] = row.ratios.get(name)
            its["met"] = None if its["goal"] is None else its["ratio"]["median"] >= its["goal"]
        found["contenders"][name] = its
    return found


def three(v):
    return f"{v:,.0f}" if abs(v) >= 100 else f"{v:.3g}"


def quantity(v, unit):
    if unit != "s":
        return f"{three(v)} {unit}"
    scale, unit = next(((scale, unit) for scale, unit in ((1, "s"), (1e-3, "ms")) if abs(v) >= scale), (1e-6, "µs"))
    return f"{three(v / scale)} {unit}"


def ranged(values, of):
    return f"{of(values['median'])} ({of(values['least'])} to {of(values['most'])})"


def table(results):
    """The results as people read them: everything in it is in the JSON."""
    from rich.table import Table  # not on every machine with an accelerator, where the rows are measured too

    title = "medians of the rounds (least to most); ×: the contender's figure over ours"
    grid = Table("row", "figure", "times ours", "goal", title=title)
    mark = {None: "", True: ": met", False: ": MISSED"}
    for found in results:
        grid.add_row(found["row"])
        for name, its in found["contenders"].items():
            figure = ranged(its["figure"], lambda v, unit=found["unit"]: quantity(v, unit))
            ratio = ranged(its["ratio"], lambda v: f"{three(v)}×") if "ratio" in its else ""
            if its["goal"] is None:
                goal = ""
            else:
                goal = f"≥ {three(its['goal'])}×" if ratio else f"≤ {quantity(its['goal'], found['unit'])}"
            grid.add_row(f"  {name}", figure, ratio, goal + mark[its["met"]])
        for what, said in (("ERROR", found["wrong"]), ("left out", found["left_out"])):
            for name, why in said.items():
                grid.add_row(f"  {name}", f"{what}: {why[:300]}")
        grid.add_section()
    return grid
