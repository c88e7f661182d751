"""out = f(θ, X), where one array stands in two places of θ; here θ has it in the first place alone."""

from reference.layers import twin


def names(layer):
    return without(twin(layer.layer).names(layer.layer), places(layer)[1])


def places(layer):
    """The way to each place through nested tuples: one index after the other."""
    return [list(way(twin(layer.layer).names(layer.layer), place.split("/"))) for place in (layer.first, layer.second)]


def way(names, words):
    for word in words:
        i = int(word) if word.isdigit() else names.index(word)
        yield i
        names = names[i]


def at(tree, place):
    for i in place:
        tree = tree[i]
    return tree


def put(tree, place, *new):
    """The tree with what is new before the place."""
    i, *rest = place
    return (*tree[:i], *((put(tree[i], rest, *new), *tree[i + 1 :]) if rest else (*new, *tree[i:])))


def without(tree, place):
    i, *rest = place
    return (*tree[:i], *((without(tree[i], rest),) if rest else ()), *tree[i + 1 :])


def columns(layer, params):
    """As those of f, without the second place."""
    first, second = places(layer)
    whole = replaced(params, second, at(params, first))
    return without(twin(layer.layer).columns(layer.layer, whole), second)


def replaced(params, place, v):
    """The params, tuples or such with names, with v in this place."""
    i, *rest = place
    new = replaced(params[i], rest, v) if rest else v
    parts = (*params[:i], new, *params[i + 1 :])
    return type(params)(*parts) if hasattr(params, "_fields") else parts


def whole(layer, params):
    """θ: with the array in both places."""
    first, second = places(layer)
    return put(params, second, at(params, first))


def forward(layer, params, X):
    return twin(layer.layer).forward(layer.layer, whole(layer, params), X)


def jacobians(layer, params, X):
    """∂out/∂v = ∂out/∂θ_first + ∂out/∂θ_second."""
    first, second = places(layer)
    by_params, by_X = twin(layer.layer).jacobians(layer.layer, whole(layer, params), X)
    both = at(by_params, first) + at(by_params, second)
    return without(put(without(by_params, first), first, both), second), by_X
