"""What is left on disk: whole, or not at all."""
