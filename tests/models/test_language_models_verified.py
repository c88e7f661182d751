"""A small GPT and a small Llama have an exact PASS; with a mistake in a layer they FAIL, and that layer is named."""

import dataclasses
import inspect
import sys
from types import ModuleType

import numpy as np
import pytest

from jaxnn import SoftmaxCrossEntropy, catalogue, verify
from jaxnn.layers.chain import Chain
from jaxnn.models.gpt import gpt
from jaxnn.models.llama import llama
from jaxnn.verify import FAIL, PASS
from jaxnn.verify.reports.findings import Evidence

WORDS, TOKENS = 5, 4
GPT = gpt(WORDS, TOKENS, layers=2, heads=2, width=4)
LLAMA = llama(WORDS, layers=2, heads=2, kv_heads=1, width=4, units=3, base=100.0)
LAYERS = {  # what people get wrong in a layer: (a text of its file, what it was written as)
    "q turned forward again": ("self.turned(dq, -1)", "self.turned(dq, 1)"),
    "k not turned back": ("self.turned(dk, -1)", "dk"),
    "the way beside the layer forgotten": ("dparams, dout + dx", "dparams, dx"),
    "the layer's own way forgotten": ("dparams, dout + dx", "dparams, dout"),
    "the mean of the tokens, not their sum": ("dz, x)\n", "dz, x) / x.shape[-2]\n"),
    "dx of the weights squared": ('"...o,oi->...i", dz, W)', '"...o,oi->...i", dz, W * W)'),
    "the first place alone": ("of[self.first] + of[self.second]", "of[self.first]"),
    "the second place alone": ("of[self.first] + of[self.second]", "of[self.second]"),
}
MISTAKES = [  # (the model, the place of the layer, the mistake: in the file of its op or in its own)
    (LLAMA, (1, 0, 0), "r taken for a constant"),
    (LLAMA, (1, 0, 0), "γ forgotten"),
    (LLAMA, (1, 1, 0), "∂J/∂γ of x, not of x̂"),
    (LLAMA, (1, 1, 2), "silu′ without g"),
    (LLAMA, (1, 1, 2), "σ for silu"),
    (LLAMA, (1, 1, 2), "gate and up exchanged"),
    (LLAMA, (1, 0, 2), "causality forgotten on the way back"),
    (LLAMA, (1, 0, 2), "the scale left out of dk"),
    (LLAMA, (1, 0, 2), "the scale twice in dq"),
    (LLAMA, (1, 0, 2), "softmax's diagonal alone"),
    (LLAMA, (1, 0, 2), "the first query of a group alone in dk"),
    (LLAMA, (1, 0, 2), "q turned forward again"),
    (LLAMA, (1, 0, 2), "k not turned back"),
    (LLAMA, (1, 0), "the way beside the layer forgotten"),
    (LLAMA, (1, 1), "the layer's own way forgotten"),
    (LLAMA, (1, 0, 3), "the mean of the tokens, not their sum"),
    (GPT, (2, 1, 1), "dx of the weights squared"),
    (GPT, (2, 0, 2), "causality forgotten on the way back"),
    (GPT, (), "the first place alone"),
    (GPT, (), "the second place alone"),
]
IN_THE_SECOND = [case[1:] for case in MISTAKES if case[0] is LLAMA][::4]


def asked(model, words, tokens, **options):
    x, y = np.random.default_rng(0).integers(words, size=(2, 1, tokens))
    return verify.model(model, SoftmaxCrossEntropy(), x, y, **options)


@pytest.mark.sample
@pytest.mark.parametrize("model", [GPT, LLAMA], ids=["gpt", "llama"])
def test_a_tiny_one_is_right(model):
    report = asked(model, WORDS, TOKENS, points="given")
    assert (report.verdict, report.evidence) == (PASS, Evidence.EXACT)


FULL = {
    "gpt": gpt(11, 6, layers=2, heads=2, width=8),
    "llama": llama(11, layers=2, heads=2, kv_heads=1, width=8),
}


@pytest.mark.parametrize("name", FULL)
def test_a_small_one_is_right_at_all_default_points(pytestconfig, name):
    if not pytestconfig.option.all:
        pytest.skip("half a minute each: with --all")
    report = asked(FULL[name], 11, 6)
    assert (report.verdict, report.evidence) == (PASS, Evidence.EXACT)
    assert [point.kind for point in report.points] == ["given", "generic", "tiny", "saturated", "zeros", "mixed"]
    assert report.seconds < 60  # of the processor


def executed(room, name, *change):
    """The file of a rule, but its examples and traps, with a text of it changed, as a module."""
    code, _, _ = inspect.getsource(catalogue.module(room, name)).partition("\nEXAMPLES = ")
    for right, wrong in change:
        assert code.count(right) == 1, "the text is not in the file, or there are several"
        code = code.replace(right, wrong)
    module = ModuleType(f"changed_{name}")
    sys.modules[module.__name__] = module  # where dataclasses look
    exec(code, module.__dict__)
    return module


def with_mistake(layer, mistake):
    """The same layer with a wrong backward pass: a line of it, or of its op, is wrong."""
    name = type(layer).__module__.rpartition(".")[2]
    module = executed("layers", name, *([LAYERS[mistake]] if mistake in LAYERS else []))
    if mistake not in LAYERS:
        module.bwd = executed("ops", name, catalogue.module("ops", name).TRAPS[mistake]).bwd
    wrong = getattr(module, type(layer).__name__)
    return wrong(*(getattr(layer, field.name) for field in dataclasses.fields(layer)))


def changed(model, place, change):
    """The model with change(layer) for the layer at a place, such as 1/0/2; () is the model itself."""
    if not place:
        return change(model)
    if not isinstance(model, Chain):
        return dataclasses.replace(model, layer=changed(model.layer, place, change))
    n, *rest = place
    layers = [changed(layer, rest, change) if i == n else layer for i, layer in enumerate(model.layers)]
    return Chain(tuple(layers))


def assert_named(model, place):
    """The layer at this place is at fault, and no other."""
    report = asked(model, WORDS, TOKENS)
    assert (report.verdict, report.evidence) == (FAIL, Evidence.EXACT)
    faults = [link.name for link in report.links if link.verdict == FAIL and not link.inherited]
    leaf, words = "".join(f"[{n}]" for n in place), f"x of layer {'/'.join(map(str, place))} ("
    assert faults
    assert all(name.startswith(leaf) or words in name for name in faults), faults


@pytest.mark.sample
@pytest.mark.parametrize(("model", "place", "mistake"), MISTAKES, ids=[mistake for _, _, mistake in MISTAKES])
def test_a_wrong_layer_fails_and_is_named(model, place, mistake):
    assert_named(changed(model, place, lambda layer: with_mistake(layer, mistake)), place or (0,))


@pytest.mark.sample
@pytest.mark.parametrize(("place", "mistake"), IN_THE_SECOND, ids=[mistake for _, mistake in IN_THE_SECOND])
def test_a_layer_that_is_wrong_in_the_second_block_alone_is_named(place, mistake):
    words, blocks, *ending = LLAMA.layers
    model = Chain((words, blocks.layer, blocks.layer, *ending))
    place = (2, *place[1:])
    assert_named(changed(model, place, lambda layer: with_mistake(layer, mistake)), place)
