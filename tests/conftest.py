import collections
import os

import hypothesis
import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile("default", deadline=None, print_blob=True)
hypothesis.settings.register_profile("ci", parent=hypothesis.settings.get_profile("default"), derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_configure(config):
    """Compiled programs are kept between test runs, for commands in processes of their own too; a fresh clone starts
    with none."""
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(config.cache.mkdir("jax"))
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def pytest_addoption(parser):
    parser.addoption("--all-faults", action="store_true", help="diagnose every wrong gradient, not an eighth of them")


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


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def standard_promotion():
    """For optax optimisers that mix int and float."""
    with jax.numpy_dtype_promotion("standard"):
        yield
