"""One layer a file: forward, its Jacobians entry by entry, the names of its parameters, and how they are laid out here.

Examples are the last axis of X and of out: (n, m) of vectors, (T, n, m) of sequences, (m,) of single numbers.
"""

from importlib import import_module


def twin(layer):
    """The module here named like the one that defines the layer."""
    return import_module(f"{__name__}.{type(layer).__module__.rpartition('.')[2]}")
