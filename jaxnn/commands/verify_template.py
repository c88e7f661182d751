"""A gradient to verify: two layers, softmax cross-entropy. Put your own formulas here, then run: jaxnn verify THIS_FILE

The file defines three functions, in JAX as here, or in NumPy (np for jnp; what else changes then is said below):

    example(key) -> (params, *data)    what to evaluate them at
    cost(params, *data) -> J           the forward pass: one number
    grad(params, *data) -> grads       the backward pass, by hand: a tree like params; or the pair (J, grads)

It may also say where params lie, if not anywhere: domain = {"W1": "symmetric"}, or "positive definite", "orthogonal",
"unit", "simplex", "sorted", "positive".

The verdict is PASS, FAIL or INCONCLUSIVE. `grad` is compared with the derivative of `cost`, so `cost` must be right.
"""

import jax
from jax import numpy as jnp


def example(key):
    """Random params and data. No two of the sizes m, n0, n1 and K are equal: else a transposed W, or a sum over the
    wrong axis, could go unseen."""
    m, n0, n1, K = 6, 3, 5, 4
    keys = jax.random.split(key, 6)  # in NumPy: rng = np.random.default_rng(int(jax.random.bits(key))), rng.normal(…)
    params = {
        "W1": jax.random.normal(keys[0], (n1, n0)),
        "b1": jax.random.normal(keys[1], (n1,)),  # random too: with a bias of 0 a lost bias goes unseen
        "W2": jax.random.normal(keys[2], (K, n1)),
        "b2": jax.random.normal(keys[3], (K,)),
    }
    x = jax.random.normal(keys[4], (m, n0))  # one example a row
    y = jax.nn.one_hot(jax.random.randint(keys[5], (m,), 0, K), K)  # in NumPy: np.eye(K)[rng.integers(0, K, m)]
    return params, x, y


def forward(params, x):
    z1 = x @ params["W1"].T + params["b1"]
    a1 = jnp.tanh(z1)
    z2 = a1 @ params["W2"].T + params["b2"]
    return a1, z2


def cost(params, x, y):
    """J = −1/m Σᵢ Σₖ yᵢₖ log Pᵢₖ, with P = softmax(z2)."""
    m = len(x)
    _, z2 = forward(params, x)
    log_P = z2 - jnp.log(jnp.exp(z2).sum(axis=1, keepdims=True))
    return -(y * log_P).sum() / m


def grad(params, x, y):
    """dv stands for ∂J/∂v and has the shape of v."""
    m = len(x)
    a1, z2 = forward(params, x)
    P = jnp.exp(z2) / jnp.exp(z2).sum(axis=1, keepdims=True)
    dz2 = (P - y) / m  # the 1/m of the mean, once
    dW2 = dz2.T @ a1
    db2 = dz2.sum(axis=0)  # over the examples
    da1 = dz2 @ params["W2"]
    dz1 = da1 * (1 - a1**2)  # tanh′(z1) = 1 − a1²
    dW1 = dz1.T @ x
    db1 = dz1.sum(axis=0)
    return {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}
