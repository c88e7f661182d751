"""Layers: one rule a file, forward and backward side by side."""
