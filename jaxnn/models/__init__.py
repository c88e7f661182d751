"""Models that are built of layers."""
