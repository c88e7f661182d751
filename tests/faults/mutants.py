"""Users' backward passes with one equation changed by the mutator, and the causes that are true of such a change."""

import functools

import jax
import numpy as np
from faults.diagnosed import RIGHT
from jax.extend.core import Literal, jaxprs_in_params

from jaxnn.verify import power
from jaxnn.verify.diagnosis.causes import explained
from jaxnn.verify.diagnosis.gradients import gradient_of
from jaxnn.verify.diagnosis.predictions import predictions_of
from jaxnn.verify.evidence.comparison import comparison_of
from jaxnn.verify.evidence.points import GENERIC, redraw
from jaxnn.verify.problems import gradient_problem

ARCHITECTURES = ["tanh regression", "softmax classifier with tanh", "recurrent net", "layer norm", "attention"]
TRUE = {  # what was changed: the causes of it. A row of which 1 % was added has none in the list: left out.
    "the sign": {"constant_factor"},
    " times ": {"constant_factor", "missing_mean"},
    "transpos": {"transpose"},
    "averaged": {"extra_mean", "bias_averaged"},
    "other axis": {"wrong_axis"},
    "another value": {"stale_residual", "other_leaf", "missing_activation_derivative", "derivative_of_other_layer"},
    "summand": {"path_left_out", "missing_penalty"},
    "factor": {
        *("missing_activation_derivative", "wrong_mask", "ignored_cotangent", "constant_factor", "missing_mean"),
        *("path_left_out", "extra_mean", "stale_residual", "other_leaf"),
    },
}


def backward(jaxpr):
    """The first results of the equations that come after a cotangent with a name."""
    after, found = set(), set()
    for eqn in jaxpr.eqns:
        for inner in jaxprs_in_params(eqn.params):
            found |= backward(inner)
        comes_after = any(v in after for v in eqn.invars if not isinstance(v, Literal))
        if comes_after:
            found.add(eqn.outvars[0])
        if comes_after or (eqn.primitive.name == "name" and eqn.params["name"].startswith("d")):
            after.update(eqn.outvars)
    return found


def diagnosed(architecture):
    """(what was changed, whether the verdict is FAIL, the true causes, those that are given) of each mutant."""
    right = RIGHT[architecture]
    make = functools.partial(gradient_problem, right.cost, right.grad, argnums=0, has_aux=False)
    problem = make(right.params, *right.data)
    comparison, its = comparison_of(problem), problem.arguments
    rng = np.random.default_rng(0)
    new = [
        redraw(GENERIC, its.floats, its.dtypes, problem.redrawable, problem.cotangents, rng, problem.domains)
        for _ in range(2)
    ]
    points = [list(its.floats), *new]

    def problem_of(args):
        with jax.enable_x64(False):
            return make(*args)

    with jax.enable_x64(True):
        predictions = predictions_of(problem, comparison, points, problem_of, (right.params, *right.data))
        exact = power.Observer(problem, comparison, its.floats)
        inputs = [[np.asarray(floats[i], np.float64) for i in comparison.free(problem)] for floats in points]
        later = backward(comparison.hand_jaxpr.jaxpr)
        for eqn, before in power.equations(comparison.hand_jaxpr.jaxpr, {}):
            if eqn.outvars[0] not in later:
                continue
            for mutant in power.mutants_at(comparison.hand_jaxpr, eqn, before):
                true = next((causes for words, causes in TRUE.items() if words in mutant.what), None)
                hand = gradient_of(mutant.jaxpr, problem, comparison, points)
                if true is None or np.abs((hand - predictions.true) / predictions.scale).max() < 1e-9:
                    continue  # it is right all the same
                kinds = [cause.kind for cause in explained(predictions, hand, hand, mutant.jaxpr, inputs)]
                yield mutant.what, exact.notices(mutant), true, kinds
