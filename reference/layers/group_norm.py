"""out_pki = γ_k x̂_pki + β_k, x̂_pki = (x_pki − μ_gi) / s_gi of channel k at place p, with μ_gi and s_gi² = σ²_gi + ε of
the group of k: N entries, those of its channels at all places."""

import numpy as np


def names(layer):
    return "gamma", "beta"


def columns(layer, params):
    return params.gamma[..., None], params.beta[..., None]


def groups(layer):
    """The channels of each group."""
    return np.split(np.arange(layer.n), layer.groups)


def normalised(layer, X):
    """(x̂, s) of X (places, n, m), both of its shape."""
    X_hat, S = 0 * X, 0 * X
    for channels in groups(layer):
        of_group = X[:, channels]
        N = of_group.shape[0] * of_group.shape[1]
        centred = of_group - of_group.sum(axis=(0, 1)) / N
        S[:, channels] = np.sqrt((centred * centred).sum(axis=(0, 1)) / N + layer.epsilon)
        X_hat[:, channels] = centred / S[:, channels]
    return X_hat, S


def places(X):
    """(…, n, m) -> (places, n, m)"""
    return X.reshape(-1, *X.shape[-2:])


def forward(layer, params, X):
    """(…, n, m) -> (…, n, m)."""
    gamma, beta = params
    X_hat, _ = normalised(layer, places(X))
    return (gamma * X_hat + beta).reshape(X.shape)


def jacobians(layer, params, X):
    """
    ∂out_pki/∂γ_l = δ_kl x̂_pki,   ∂out_pki/∂β_l = δ_kl                                            (…, n, m, n, 1)
    ∂out_pki/∂x_qlj = γ_k δ_ij (δ_pq δ_kl − (1 + x̂_pki x̂_qli) / N) / s_gi, k and l of one group   (…, n, m, …, n, m)
    """
    gamma, _ = params
    X_hat, S = normalised(layer, places(X))
    (P, n, m), N = X_hat.shape, X_hat.shape[0] * layer.n // layer.groups
    entries, one_group = np.eye(n), np.zeros((n, n))
    for channels in groups(layer):
        one_group[np.ix_(channels, channels)] = 1
    same = np.einsum("pq,kl,i->pkiql", np.eye(P), entries, np.ones(m))
    shared = np.einsum("kl,pkiql->pkiql", one_group, 1 + np.einsum("pki,qli->pkiql", X_hat, X_hat)) / N
    by_X = np.einsum("k,pkiql,pki,ij->pkiqlj", gamma[:, 0], same - shared, 1 / S, np.eye(m))
    by_gamma = np.einsum("pki,kl->pkil", X_hat, entries).reshape(*X.shape, n, 1)
    by_beta = np.einsum("kl,pki->pkil", entries, np.ones(X_hat.shape)).reshape(*X.shape, n, 1)
    return (by_gamma, by_beta), by_X.reshape(2 * X.shape)
