"""Functions as lists of equations."""
