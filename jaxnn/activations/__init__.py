"""Activations: one a file, a = g(z) entry by entry and its derivative side by side."""
