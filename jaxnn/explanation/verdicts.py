"""The verifier's verdicts on the derivatives of a network, sorted by its layers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax import Array
from jax.tree_util import keystr, tree_leaves_with_path

from jaxnn import verify
from jaxnn.layers.chain import Chain
from jaxnn.protocols import Layer, Params
from jaxnn.verify import FAIL, PASS, Report
from jaxnn.verify.arguments import is_float_leaf
from jaxnn.verify.named_model import NAME_OF_DZ, name_of_dx


class Verdicts(NamedTuple):
    """Those on what a layer makes of dout: "" where nothing is known."""

    dout: str
    dparams: Sequence[str]  # by leaf
    dx: str
    has_faults: bool  # something in the network is wrong


class AllVerdicts(NamedTuple):
    loss: Verdicts
    layers: list[Verdicts]


def verdicts_of(report: Report | None, chain: Chain, params: Params) -> AllVerdicts:
    """The verdicts of a report on every derivative; none without a report."""
    has_faults = report is not None and report.verdict == FAIL
    leaves = {leaf.path: leaf.verdict for leaf in report.leaves} if report else {}
    links = {link.name: link.verdict for link in report.links} if report else {}  # where a layer is wrong
    verdict_of_all = report.verdict if report and report.ok else ""
    dout = verdict_of_all or links.get(NAME_OF_DZ, "")
    of_loss = Verdicts(PASS if report else "", (), dout, has_faults)  # what comes back to it is ∂J/∂J
    layers: list[Verdicts] = []
    for n in reversed(range(len(chain.layers))):
        of_params = [leaves.get(f"[{n}]{path}", "") for path, _ in float_entries(params[n])]
        dx = verdict_of_all or links.get(name_of_dx(str(n), chain.layers[n]), "")
        layers.insert(0, Verdicts(dout, of_params, dx, has_faults))
        dout = dx
    return AllVerdicts(of_loss, layers)


def with_dx(verdicts: Verdicts, layer: Layer, params: Params, x: Array) -> Verdicts:
    """Those on the first layer, with that on its ∂J/∂x: no gradient depends on it, so that no report on the network
    has it. Where dout is right, it is that of `verify.layer`."""
    if not is_float_leaf(x):
        return verdicts
    if verdicts.dout != PASS:
        return verdicts._replace(dx=verdicts.dout)
    *_, leaf = verify.layer(layer, x, params, points="given").leaves  # that of x comes last
    return verdicts._replace(dx=leaf.verdict)


def float_entries(params: Params) -> list[tuple[str, Array]]:
    """(path, leaf) of the leaves that are learned."""
    entries = [(keystr(path), v) for path, v in tree_leaves_with_path(params)]
    return [(path, v) for path, v in entries if is_float_leaf(v) and np.size(v)]
