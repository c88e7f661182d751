"""What JAX asks of a custom rule beside being right."""
