"""How much memory this process may use, and a sentence instead of an attempt where that is not enough."""

import os
from contextlib import suppress
from pathlib import Path

with suppress(ImportError):  # not on Windows
    import resource

GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # what a container may use


def available() -> float:
    """Bytes: the least of the machine's memory, that of its container, and the limit of the process (ulimit -v)."""
    limits = [float("inf")]
    with suppress(AttributeError, ValueError, OSError):  # a system that does not say
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for group in GROUPS:
        with suppress(OSError, ValueError):  # there is none, or its limit is "max"
            limits.append(int(Path(group).read_text()))
    with suppress(NameError):
        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        limits += [soft] if soft != resource.RLIM_INFINITY else []
    return min(limits)


def check_fits(needed: float, what: str, remedy: str, memory: float | None = None) -> None:
    """ValueError: this many bytes are more than the memory, by default what is `available`."""
    memory = available() if memory is None else memory
    if needed > memory:
        sizes = f"{in_words(needed)} of memory at least, and there is {in_words(memory)}"
        raise ValueError(f"{what} takes {sizes}: {remedy}")


def in_words(size: float) -> str:
    """1,234.5 GB for a number of bytes."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
