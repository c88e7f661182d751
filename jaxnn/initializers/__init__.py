"""Where the weights W (n_out, n_in) start, one way a file; biases start at zero.

xavier, he and lecun draw from the normal distribution cut at two standard deviations and rescaled, as in JAX.
"""
