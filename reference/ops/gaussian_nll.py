"""L = ½ (log σ² + (y − μ)² / σ²)."""

import numpy as np

CORE = {"mu": 0, "log_var": 0, "y": 0}


def forward(mu, log_var, y):
    return (log_var + (y - mu) ** 2 / np.exp(log_var)) / 2


def jacobians(mu, log_var, y):
    """∂L/∂μ = −∂L/∂y = (μ − y) / σ²,   ∂L/∂log σ² = ½ (1 − (y − μ)² / σ²)."""
    var = np.exp(log_var)
    return {"mu": (mu - y) / var, "log_var": (1 - (y - mu) ** 2 / var) / 2, "y": (y - mu) / var}
