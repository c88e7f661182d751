"""Compiled programs kept between runs of the command, so that the next one starts sooner."""

import os
import platform
import warnings
from pathlib import Path

import jax

FOLDER = "jax_compilation_cache_dir"


def keep() -> None:
    """In $JAX_COMPILATION_CACHE_DIR if that is set, else in the user's cache folder, there in a folder named after
    the computer, since the code is for its processor. Nowhere where the user has no such folder.

    JAX writes an entry in place: one that another process is still writing, or that a killed one left half written, is
    compiled anew, without a word."""
    if getattr(jax.config, FOLDER) is None:
        try:
            folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxnn" / platform.node()
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError):
            return
        jax.config.update(FOLDER, str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # not only those that took a second
    warnings.filterwarnings("ignore", "Error reading persistent compilation cache entry")
