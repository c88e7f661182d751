"""The mistakes that are tried, one by one: by what they change what goes back, and by how much."""

from types import SimpleNamespace

import numpy as np
import pytest

from jaxnn.verify.diagnosis import several_equations
from jaxnn.verify.diagnosis.edit import Edit
from jaxnn.verify.diagnosis.edits_of_cost import everywhere
from jaxnn.verify.diagnosis.losses import Residual, Wrong, with_residual
from jaxnn.verify.diagnosis.mistakes import Mistake
from jaxnn.verify.diagnosis.one_equation import is_positive, largest, transposes
from jaxnn.verify.diagnosis.values import Values


@pytest.mark.parametrize(("x", "result", "tags"), [((3, 2), (3, 4), {"part.T"}), ((2, 3, 4), (2, 3), set())])
def test_what_comes_back_to_a_matrix_may_be_transposed(x, result, tags):
    equation = SimpleNamespace(
        values=SimpleNamespace(label=str),
        tape=SimpleNamespace(values={1: np.ones(x)}),
        n=0,
        out=2,
        inputs=[1],
        active=[0],
        result=np.ones(result),
        edit=lambda kind, changes, what: kind,
    )
    assert {tag for tagged in transposes(equation) for _, tag in tagged[0]} == tags


def test_a_mask_of_what_is_positive_leaves_out_0():
    assert is_positive(np.array([-1.0, 0.0, 2.0])).tolist() == [False, False, True]


def test_a_wrong_residual_stands_for_the_right_one_and_0_where_that_is_0():
    """D = c (P − Y) becomes c times the wrong one."""
    right = Residual(SimpleNamespace(f=lambda z: z), SimpleNamespace(array=lambda tape: np.array([0.0, 1.0])), [])
    wrong = Wrong(Mistake.UNKNOWN, (), lambda tape: np.array([3.0, 1.0]), lambda tape: np.zeros(2), "")
    cotangent = with_residual(0, right, wrong)
    tape = SimpleNamespace(values={0: np.array([2.0, 1.0])})
    assert cotangent(tape, lambda z: np.array([4.0, 0.0])).tolist() == [6.0, 0.0]


def test_what_is_wrong_everywhere_is_left_out_doubled_halved_of_the_other_sign_or_a_mean():
    edits = [Edit(Mistake.UNKNOWN, "", "", {(0, i): len}, amounts=()) for i in (0, 1)]
    values = SimpleNamespace(independent=lambda changes: False)
    for m, more in ((None, ()), (5, (4, -0.8))):
        (edit,) = everywhere(edits, values, m)
        assert len(edit.changes) == 2
        assert {*edit.amounts} == {-1.0, 1.0, -2.0, -0.5, *more}


def test_the_largest_of_a_row_gets_what_goes_back_or_its_rivals_do():
    x, D = np.array([[1.0, 3.0, 2.0], [5.0, 4.0, 0.0]]), lambda z: np.array([10.0, 20.0])
    equation = SimpleNamespace(
        values=SimpleNamespace(label=str),
        tape=SimpleNamespace(values={1: x}, steps=[SimpleNamespace(params={"axes": (1,)})]),
        n=0,
        out=2,
        inputs=[1],
        edit=lambda kind, changes, *words, **other: changes[0, 0](equation.tape, D, np.zeros(())),
    )
    edits = {tags[0]: edit.tolist() for tags, edit in largest(equation)}
    assert edits["all"] == [[10, 10, 10], [20, 20, 20]]
    assert edits["others"] == [[10, 0, 10], [0, 20, 20]]
    assert edits["1"] == [[0, 1, 0], [1, 0, 0]]
    np.testing.assert_allclose(edits["mean"], [[10 / 3] * 3, [20 / 3] * 3])


def test_a_part_from_another_tape_stands_for_the_right_one(monkeypatch):
    monkeypatch.setattr(several_equations, "back", lambda tape, slot, D, inputs: D * inputs[0])
    other = SimpleNamespace(steps=[SimpleNamespace(inputs=[np.array([3.0])])])
    change = several_equations.from_other_tape(0, (0, 0))
    assert change(SimpleNamespace(outs=[[1]], others=[other]), lambda v: np.array([5.0]), np.array([2.0])) == 13


@pytest.mark.parametrize(("inner", "decides"), [(set(), True), ({0}, False)])
def test_a_function_decides_by_what_is_not_inside_of_another(inner, decides):
    out = np.ones(1)
    steps = [SimpleNamespace(name="max", outputs=[out]), SimpleNamespace(name="mul", outputs=[out])]
    values = SimpleNamespace(is_known=lambda v: False, tape=SimpleNamespace(steps=steps, outs=[[0], [1]]), inner=inner)
    assert Values.decides(values, SimpleNamespace(steps=(0, 1))) == decides
