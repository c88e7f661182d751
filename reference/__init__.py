"""The NumPy twin of jaxnn: the same mathematics, written a second time and differently, as an independent witness.

Examples are columns here (rows in jaxnn), and a derivative is its full entry-wise Jacobian, never a ready-made
backward pass; the product with a cotangent is written once, in vjp.py.

    X             input, one example a column             (n_in, m)
    W, b          weights, bias; row k of W is neuron k   (n_out, n_in), (n_out, 1)
    Z = W X + b   pre-activation                          (n_out, m)
    Y             targets, or integer labels              (K, m), or (m,)
    L, w          loss and weight of each example         (m,)
    J             cost, Σ_i w_i L_i / Σ_i w_i             scalar
    ∂out/∂v       Jacobian of out by the leaf v           out.shape + v.shape

Parameters are plain tuples: Dense (W, b), Activation (), Chain one tuple a layer. A layer or loss is read by its
attributes alone, and its twin is the module of the same name. Every `forward` keeps to the numbers it is given, so
that it runs on float64 arrays and on object arrays of flint.arb balls alike.
"""
