"""What the project promises about speed and memory, measured beside its peers. `scripts/benchmark` runs it."""
