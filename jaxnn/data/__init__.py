"""Sources of data as arrays, split and scaled. NumPy only."""

from jaxnn.data.reading import SETS, load, load_rows, read_csv, read_npz
from jaxnn.data.scale import Scale, brighten, constant, standardise
from jaxnn.data.table import Table, from_arrays, split

__all__ = [
    "SETS",
    "Scale",
    "Table",
    "brighten",
    "constant",
    "from_arrays",
    "load",
    "load_rows",
    "read_csv",
    "read_npz",
    "split",
    "standardise",
]
