"""Jaxprs and NumPy code evaluated in balls: real numbers with a proven error bound."""
