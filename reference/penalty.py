"""L2: R = λ/2 Σ W² over the parameters named W, W1, W2, …, a term added to J."""

import re

from reference.layers import twin


def is_weight(name):
    return re.fullmatch(r"W\d*", name)


def forward(penalty, model, params):
    """params -> R."""

    def term(name, v):
        if isinstance(v, tuple):
            return sum(map(term, name, v))
        return penalty.lam / 2 * (v * v).sum() if is_weight(name) else 0

    return term(twin(model).names(model), params)


def gradient(penalty, model, params):
    """∂R/∂W_kj = λ W_kj, and 0 by all else: a tree like params."""

    def term(name, v):
        if isinstance(v, tuple):
            return tuple(map(term, name, v))
        return penalty.lam * v if is_weight(name) else 0 * v

    return term(twin(model).names(model), params)
