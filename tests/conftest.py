import collections
import datetime
import gc
import os
import random
import subprocess
import sys

import hypothesis
import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

QUICK = "--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false"  # of XLA: it compiles in a third
SAMPLE = "sample(stratum): of a test's cases, one for each value of this function of their parameters; without it one"


def pytest_configure(config):
    """Compiled programs are kept between test runs, for commands in processes of their own too; a fresh clone starts
    with none. XLA compiles quickly, with --all as users have it."""
    config.addinivalue_line("markers", SAMPLE)
    is_worker = hasattr(config, "workerinput")  # which has the environment of its parent
    if not config.option.all and not is_worker and are_known(QUICK):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}"
    examples = 100 if config.option.all else 30
    hypothesis.settings.register_profile(
        "ours", deadline=None, print_blob=True, derandomize="CI" in os.environ, max_examples=examples
    )
    hypothesis.settings.load_profile("ours")
    gc.set_threshold(100_000)  # a tracer makes millions of objects and few cycles: a fifteenth of the suite's time
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(config.cache.mkdir("jax"))
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def are_known(flags):
    """Whether this XLA knows these flags: one that it does not know ends the process."""
    run = [sys.executable, "-c", "import jax; jax.devices()"]
    return not subprocess.run(run, capture_output=True, env=os.environ | {"XLA_FLAGS": flags}).returncode


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="every case of every table, not a sample of them")
    parser.addoption(
        "--sample", type=int, default=datetime.date.today().toordinal(), help="the seed of the sample: that of the day"
    )


def pytest_report_header(config):
    sample = config.option.sample
    return "all cases" if config.option.all else f"a sample of the cases: --sample {sample} repeats it, --all runs all"


def pytest_collection_modifyitems(config, items):
    """Leaves one case of each stratum, unless all are wanted or a test is named."""
    if config.option.all or any("::" in argument for argument in config.args):
        return
    strata = collections.defaultdict(list)
    for item in items:
        for mark in item.iter_markers("sample"):
            stratum = [str(of(**item.callspec.params)) for of in mark.args]
            strata[item.nodeid.split("[")[0], *stratum].append(item)
    left_out = set()
    for stratum, cases in strata.items():
        left_out |= {*cases} - {random.Random(f"{config.option.sample} {stratum}").choice(cases)}
    config.hook.pytest_deselected(items=[*left_out])
    items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter):
    """How well causes are found: of how many faults the true one is the first, and listed at all."""
    reports = [its for found in terminalreporter.stats.values() for its in found if getattr(its, "when", "") == "call"]
    table = collections.defaultdict(lambda: np.zeros(3, int))
    for label, *counts in (value for its in reports for name, value in its.user_properties if name == "diagnosis"):
        table[label] += counts
    rows = sorted(table.items())
    if rows:
        rows.append(("all", sum(table.values())))
    for label, (faults, first, listed) in rows:
        terminalreporter.write_line(f"{label:<48} {faults:>4} faults, cause first {first:>4}, listed {listed:>4}")


@pytest.fixture(scope="module")
def as_imported(request):
    """The state of a module's generator, whose `normal` is DRAW, before any test."""
    draw = getattr(request.module, "DRAW", None)
    return None if draw is None else (draw.__self__.bit_generator, draw.__self__.bit_generator.state)


@pytest.fixture(autouse=True)
def drawn_anew(as_imported):
    """The numbers that a test draws do not depend on the tests before it."""
    if as_imported is not None:
        generator, state = as_imported
        generator.state = state


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def standard_promotion():
    """For optax optimisers that mix int and float."""
    with jax.numpy_dtype_promotion("standard"):
        yield
