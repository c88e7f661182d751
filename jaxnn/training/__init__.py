"""Gradient descent in compiled chunks of epochs, and what is watched meanwhile."""
