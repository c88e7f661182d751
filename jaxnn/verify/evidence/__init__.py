"""What is found at one point."""
