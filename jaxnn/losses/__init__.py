"""Losses: one a file, J and ∂J/∂z side by side."""
