"""One op a file, for one example: what is one, forward, and its Jacobians entry by entry.

CORE says how many axes of each array one example has: 1 for a vector, 2 for a sequence, which is given in columns,
(n, T); −1 for all but the first, None for all. An array without leading axes, such as γ, is used by every example.
Whole numbers are one an example, unless WHOLE says otherwise in the same way.
"""

from importlib import import_module

import numpy as np


def twin(op):
    """The module here with the name of the op."""
    return import_module(f"{__name__}.{op}")


def forward(op, arguments):
    """The outputs of all examples, a tuple."""
    return joined(op, arguments, lambda of_one: outputs(twin(op).forward(**of_one)))


def vjp(op, arguments, douts):
    """{name: dv} for every name of a real array: dv = Σ over examples and outputs of dout · ∂out/∂v."""
    dvs: dict[str, np.ndarray] = {}
    for index, of_one in examples(op, arguments):
        for dout, jacobian in zip(douts, outputs(twin(op).jacobians(**of_one)), strict=True):
            dout = dout[index].T
            for name, by_v in jacobian.items():
                v = arguments[name]
                dv = dvs.setdefault(name, np.zeros(v.shape))
                dv[place(v, axes(op, name, v), index)] += np.tensordot(dout, by_v, np.ndim(dout)).T
    return dvs


def outputs(out):
    return out if isinstance(out, tuple) else (out,)


def examples(op, arguments):
    """(index, the arguments of the example there, in columns) of every example."""
    arrays = {name: v for name, v in arguments.items() if isinstance(v, np.ndarray)}
    core = {name: axes(op, name, v) for name, v in arrays.items()}
    leading = np.broadcast_shapes(*(v.shape[: v.ndim - core[name]] for name, v in arrays.items()))
    for index in np.ndindex(leading):
        yield index, arguments | {name: np.asarray(v[place(v, core[name], index)]).T for name, v in arrays.items()}


def axes(op, name, v):
    """How many axes of this argument one example has."""
    core = getattr(twin(op), "WHOLE", {}).get(name, 0) if v.dtype.kind in "iu" else twin(op).CORE[name]
    if core is None:
        return v.ndim
    return core if core >= 0 else v.ndim + core


def place(v, axes, index):
    """Where in v the example of this index is: axes that are missing or of length 1 are used by every example."""
    leading = v.shape[: v.ndim - axes]
    return tuple(0 if n == 1 else i for n, i in zip(leading, index[len(index) - len(leading) :], strict=True))


def joined(op, arguments, of_one):
    """The outputs of all examples, each in an array with the leading axes of the examples."""
    found = [(index, [np.asarray(out).T for out in of_one(example)]) for index, example in examples(op, arguments)]
    leading = tuple(1 + i for i in found[-1][0])
    return tuple(
        np.stack(outs).reshape(leading + outs[0].shape) for outs in zip(*(outs for _, outs in found), strict=False)
    )
