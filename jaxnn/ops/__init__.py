"""Rules as plain functions with a hand-derived `custom_vjp`, for anyone's JAX code: one op a file, fwd and bwd side by
side."""

from jaxnn import catalogue
from jaxnn.numbers import of_numbers

__all__ = [*catalogue.names("ops")]
globals().update({name: of_numbers(getattr(catalogue.module("ops", name), name)) for name in __all__})
