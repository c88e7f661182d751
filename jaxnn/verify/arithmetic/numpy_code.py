"""NumPy code evaluated on real numbers, as it was written."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import flint
import numpy as np

from jaxnn.protocols import PyTree
from jaxnn.verify.arithmetic.balls import enter
from jaxnn.verify.arithmetic.evaluation import Evaluation
from jaxnn.verify.arithmetic.numpy_functions import as_array, floats_of, special_functions
from jaxnn.verify.arithmetic.real_numbers import Real, Reals, current, of_balls, reals
from jaxnn.verify.arithmetic.stand_ins import Mode, running

SPECIAL = special_functions()


class OnReals(Mode):
    """A run on real numbers."""

    numbers = (Real, Reals)
    special = SPECIAL

    def call(self, f: Callable, args: tuple, kwargs: dict) -> PyTree:
        """f(*args, **kwargs); of the dtype of real numbers np.finfo says what it says of float64."""
        args = (np.float64,) if f is np.finfo and args == (np.dtype(object),) else args
        return super().call(f, args, kwargs)

    def array(self, v: np.ndarray) -> Reals:
        """Floats as real numbers, exactly."""
        return reals(v) if v.dtype == object else of_balls(enter(v))

    def as_array(self, v: PyTree) -> PyTree:
        """A real number, or a list that has some, as `Reals`."""
        return as_array(v)

    def floats(self, v: PyTree) -> PyTree:
        """The floats next to real numbers."""
        return floats_of(v)


@contextmanager
def computing(evaluation: Evaluation) -> Iterator[None]:
    """Real numbers in here take their precision, rounding and ties from this evaluation, and report to it."""
    token = current.set(evaluation)
    try:
        with flint.ctx.workprec(evaluation.precision), running(OnReals()):
            yield
    finally:
        current.reset(token)
