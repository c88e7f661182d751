"""Held-out wrong gradients: other architectures, written without knowledge of how causes are found."""

import numpy as np
from faults.diagnosed import ints, normal, sigmoid, written
from jax import numpy as jnp
from jax.nn import log_softmax, logsumexp, one_hot, softmax, softplus
from jax.scipy.special import erf

RATE = 0.1


# --- softmax regression, examples weighted, weight decay --------------------------------------------------------------


def weighted_softmax():
    wrong = written(
        normal(100, W=(4, 3), b=3, x=(6, 4))
        | {"y": ints(0, 2, 1, 1, 2, 0), "w": np.array([0.5, 1.5, 0.7, 2.2, 1.1, 0.3], np.float32)},
        "W b",
        forward={
            "m": lambda v: len(v.x),
            "z": lambda v: v.x @ v.W + v.b,
            "l": lambda v: -jnp.take_along_axis(log_softmax(v.z), v.y[:, None], 1)[:, 0],
            "lam": lambda v: 0.3,
        },
        J=lambda v: (v.w * v.l).sum() / v.m + v.lam / 2 * (v.W**2).sum(),
        backward={
            "dl": lambda v: v.w / v.m,
            "dz": lambda v: v.dl[:, None] * (softmax(v.z) - one_hot(v.y, 3)),
            "dW": lambda v: v.x.T @ v.dz + v.lam * v.W,
            "db": lambda v: v.dz.sum(0),
        },
        named="z l dl dz",
    )
    return wrong, {
        "the weights are not averaged": wrong("missing_mean", "dl", dl=lambda v: v.w),
        "the weights of the examples are left out": wrong(
            "ignored_cotangent", "dz", dz=lambda v: (softmax(v.z) - one_hot(v.y, 3)) / v.m
        ),
        "labels start at one": wrong(
            "shifted_labels", "dz", dz=lambda v: v.dl[:, None] * (softmax(v.z) - one_hot((v.y + 1) % 3, 3))
        ),
        "the weight is applied as a square": wrong(
            "nonlinear_in_cotangent", "dz", dz=lambda v: v.dl[:, None] ** 2 * v.m * (softmax(v.z) - one_hot(v.y, 3))
        ),
        "softmax over the examples": wrong(
            "wrong_axis", "dz", dz=lambda v: v.dl[:, None] * (softmax(v.z, axis=0) - one_hot(v.y, 3))
        ),
        "the decay has no half": wrong("scaled_penalty", "W", dW=lambda v: v.x.T @ v.dz + 2 * v.lam * v.W),
        "the decay is averaged": wrong("scaled_penalty", "W", dW=lambda v: v.x.T @ v.dz + v.lam * v.W / v.m),
        "the bias decays as well": wrong("extra_penalty", "b", db=lambda v: v.dz.sum(0) + v.lam * v.b),
        "the bias is averaged": wrong("bias_averaged extra_mean", "b", db=lambda v: v.dz.mean(0)),
    }


# --- matrix factorisation of ratings ----------------------------------------------------------------------------------


def factorisation():
    seen = np.array([[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 0]], np.float32)
    wrong = written(
        normal(101, U=(5, 3), V=(4, 3), bu=5, bv=4, R=(5, 4)) | {"M": seen},
        "U V bu bv",
        forward={
            "lam": lambda v: 0.2,
            "P": lambda v: v.U @ v.V.T + v.bu[:, None] + v.bv[None],
        },
        J=lambda v: 0.5 * (v.M * (v.P - v.R) ** 2).sum() + v.lam / 2 * ((v.U**2).sum() + (v.V**2).sum()),
        backward={
            "dP": lambda v: v.M * (v.P - v.R),
            "dU": lambda v: v.dP @ v.V + v.lam * v.U,
            "dV": lambda v: v.dP.T @ v.U + v.lam * v.V,
            "dbu": lambda v: v.dP.sum(1),
            "dbv": lambda v: v.dP.sum(0),
        },
        named="P dP",
    )
    return wrong, {
        "ratings never given count": wrong("wrong_mask", "dP", dP=lambda v: v.P - v.R),
        "the mask is the wrong way round": wrong("wrong_mask", "dP", dP=lambda v: (1 - v.M) * (v.P - v.R)),
        "the biases are not in the prediction": wrong(
            "stale_residual path_left_out", "dP", dP=lambda v: v.M * (v.U @ v.V.T - v.R)
        ),
        "the half is overlooked": wrong("constant_factor", "dP", dP=lambda v: 2 * v.M * (v.P - v.R)),
        "items are not regularised": wrong("missing_penalty", "V", dV=lambda v: v.dP.T @ v.U),
        "users step before the items": wrong(
            "updated_weights", "V", dV=lambda v: v.dP.T @ (v.U - RATE * v.dU) + v.lam * v.V
        ),
        "the biases of items are regularised": wrong("extra_penalty", "bv", dbv=lambda v: v.dP.sum(0) + v.lam * v.bv),
        "a user's bias takes the mean over the items": wrong(
            "bias_averaged constant_factor extra_mean", "bu", dbu=lambda v: v.dP.mean(1)
        ),
        "the first user is skipped": wrong("example_left_out", "V", dV=lambda v: v.dP[1:].T @ v.U[1:] + v.lam * v.V),
    }


# --- Poisson regression with exposure, NumPy; the first feature is the intercept --------------------------------------


def poisson():
    values = normal(102, w=4, X=(7, 4)) | {
        "y": np.array([0, 2, 1, 4, 0, 3, 1], np.float32),
        "t": np.array([1, 2, 1, 3, 1, 2, 2], np.float32),
    }
    values["w"] *= 0.5
    values["X"][:, 0] = 1
    intercept = np.array([0, 1, 1, 1], np.float32)
    wrong = written(
        values,
        "w",
        forward={
            "m": lambda v: v.X.shape[0],
            "lam": lambda v: 0.4,
            "eta": lambda v: np.dot(v.X, v.w),
            "mu": lambda v: v.t * np.exp(v.eta),
        },
        J=lambda v: np.sum(v.mu - v.y * v.eta) / v.m + v.lam / 2 * np.sum(intercept * v.w**2),
        backward={
            "deta": lambda v: v.mu - v.y,
            "dw": lambda v: np.dot(v.X.T, v.deta) / v.m + v.lam * intercept * v.w,
        },
    )
    return wrong, {
        "as for least squares of exp": wrong("extra_activation_derivative", deta=lambda v: (v.mu - v.y) * v.mu),
        "eta for mu": wrong(
            "stale_residual missing_activation_derivative derivative_of_other_function", deta=lambda v: v.eta - v.y
        ),
        "the exposure is forgotten": wrong("stale_residual", deta=lambda v: np.exp(v.eta) - v.y),
        "the log-likelihood's sign": wrong("constant_factor", deta=lambda v: v.y - v.mu),
        "no mean": wrong("missing_mean", dw=lambda v: np.dot(v.X.T, v.deta) + v.lam * intercept * v.w),
        "the last example is skipped": wrong(
            "example_left_out", dw=lambda v: np.dot(v.X[:-1].T, v.deta[:-1]) / v.m + v.lam * intercept * v.w
        ),
        "the intercept is regularised": wrong(
            "extra_penalty single_entry", dw=lambda v: np.dot(v.X.T, v.deta) / v.m + v.lam * v.w
        ),
        "the penalty is divided by m": wrong(
            "scaled_penalty", dw=lambda v: (np.dot(v.X.T, v.deta) + v.lam * intercept * v.w) / v.m
        ),
    }


# --- Huber regression with two hidden layers, softplus and tanh -------------------------------------------------------


def huber():
    def rho(r):
        return jnp.where(jnp.abs(r) <= 1, r**2 / 2, jnp.abs(r) - 0.5)

    wrong = written(
        normal(103, W1=(3, 4), b1=4, W2=(4, 4), b2=4, W3=(4, 2), b3=2, x=(6, 3), y=(6, 2)),
        "W1 b1 W2 b2 W3 b3",
        forward={
            "m": lambda v: len(v.x),
            "z1": lambda v: v.x @ v.W1 + v.b1,
            "a1": lambda v: softplus(v.z1),
            "z2": lambda v: v.a1 @ v.W2 + v.b2,
            "a2": lambda v: jnp.tanh(v.z2),
            "z3": lambda v: v.a2 @ v.W3 + v.b3,
        },
        J=lambda v: rho(v.z3 - v.y).sum() / v.m,
        backward={
            "dz3": lambda v: jnp.clip(v.z3 - v.y, -1, 1) / v.m,
            "dW3": lambda v: v.a2.T @ v.dz3,
            "db3": lambda v: v.dz3.sum(0),
            "da2": lambda v: v.dz3 @ v.W3.T,
            "dz2": lambda v: v.da2 * (1 - v.a2**2),
            "dW2": lambda v: v.a1.T @ v.dz2,
            "db2": lambda v: v.dz2.sum(0),
            "da1": lambda v: v.dz2 @ v.W2.T,
            "dz1": lambda v: v.da1 * sigmoid(v.z1),
            "dW1": lambda v: v.x.T @ v.dz1,
            "db1": lambda v: v.dz1.sum(0),
        },
        named="z1 a1 z2 a2 z3 dz3 da2 dz2 da1 dz1",
    )
    below2, below1 = "W1 b1 W2 b2", "W1 b1"
    return wrong, {
        "large residuals as in least squares": wrong(
            "derivative_of_other_function wrong_mask", "dz3", dz3=lambda v: (v.z3 - v.y) / v.m
        ),
        "sign of every residual": wrong(
            "derivative_of_other_function", "dz3", dz3=lambda v: jnp.sign(v.z3 - v.y) / v.m
        ),
        "softplus' is sigmoid(a1)": wrong(
            "derivative_at_activation", "dz1", below1, dz1=lambda v: v.da1 * sigmoid(v.a1)
        ),
        "softplus' is sigmoid'": wrong(
            "derivative_of_other_function",
            "dz1",
            below1,
            dz1=lambda v: v.da1 * sigmoid(v.z1) * (1 - sigmoid(v.z1)),
        ),
        "softplus is not differentiated": wrong("missing_activation_derivative", "dz1", below1, dz1=lambda v: v.da1),
        "hidden layers exchanged: tanh' of the second in the first": wrong(
            "derivative_of_other_layer derivative_of_other_function",
            "dz1",
            below1,
            dz1=lambda v: v.da1 * (1 - v.a2**2),
        ),
        "softplus' in the tanh layer": wrong(
            "derivative_of_other_function", "dz2", below2, dz2=lambda v: v.da2 * sigmoid(v.z2)
        ),
        "tanh' without the cotangent": wrong("ignored_cotangent", "dz2", below2, dz2=lambda v: 1 - v.a2**2),
        "da for a in tanh'": wrong("nonlinear_in_cotangent", "dz2", below2, dz2=lambda v: v.da2 * (1 - v.da2**2)),
        "W2 is not transposed": wrong("transpose", "da1", below1, da1=lambda v: v.dz2 @ v.W2),
        "W2 steps before the first layer": wrong(
            "updated_weights", "da1", below1, da1=lambda v: v.dz2 @ (v.W2 - RATE * v.dW2).T
        ),
        "dW2 in the other order": wrong("swapped_operands transpose", "W2", dW2=lambda v: v.dz2.T @ v.a1),
        "dW2 from z1": wrong("stale_residual", "W2", dW2=lambda v: v.z1.T @ v.dz2),
        "b1 gets b2's": wrong("other_leaf stale_residual", "b1", db1=lambda v: v.dz2.sum(0)),
    }


# --- a minimal gated recurrent unit, three steps, learned first state ------------------------------------------------


def gated():
    forward = {
        "m": lambda v: len(v.x),
        "s0": lambda v: jnp.broadcast_to(v.h0, (5, 4)),
    }
    for t in (1, 2, 3):
        forward |= {
            f"f{t}": lambda v, t=t: sigmoid(v.x[:, t - 1] @ v.Wf + getattr(v, f"s{t - 1}") @ v.Uf + v.bf),
            f"c{t}": lambda v, t=t: jnp.tanh(v.x[:, t - 1] @ v.Wc + getattr(v, f"s{t - 1}") @ v.Uc + v.bc),
            f"s{t}": lambda v, t=t: (
                getattr(v, f"f{t}") * getattr(v, f"s{t - 1}") + (1 - getattr(v, f"f{t}")) * getattr(v, f"c{t}")
            ),
        }
    forward["out"] = lambda v: v.s3 @ v.V

    class At:
        """v's values at step t: f, c, s, before, ds, dzf, dzc."""

        def __init__(self, v, t):
            self.v, self.t = v, t

        def __getattr__(self, name):
            if name == "before":
                return getattr(self.v, f"s{self.t - 1}")
            return getattr(self.v, f"{name}{self.t}")

    def every(line, *ts):
        return {t: (lambda v, t=t: line(v, At(v, t))) for t in ts or (3, 2, 1)}

    def steps(dzf=None, dzc=None, ds=None):
        """ds is what step t hands to the state before it."""
        lines = {}
        for t in (3, 2, 1):
            for name, line, at in ("dzf", dzf, t), ("dzc", dzc, t), ("ds", ds, t - 1):
                if line is not None:
                    lines[f"{name}{at}"] = every(line)[t]
        return lines

    def total(line):
        return lambda v: sum(line(v, At(v, t)) for t in (1, 2, 3))

    wrong = written(
        normal(104, Wf=(2, 4), Uf=(4, 4), bf=4, Wc=(2, 4), Uc=(4, 4), bc=4, V=(4, 3), h0=4, x=(5, 3, 2), y=(5, 3)),
        "Wf Uf bf Wc Uc bc V h0",
        forward=forward,
        J=lambda v: ((v.out - v.y) ** 2).sum() / (2 * v.m),
        backward={
            "dout": lambda v: (v.out - v.y) / v.m,
            "dV": lambda v: v.s3.T @ v.dout,
            "ds3": lambda v: v.dout @ v.V.T,
        }
        | steps(
            dzf=lambda v, at: at.ds * (at.before - at.c) * at.f * (1 - at.f),
            dzc=lambda v, at: at.ds * (1 - at.f) * (1 - at.c**2),
            ds=lambda v, at: at.ds * at.f + at.dzf @ v.Uf.T + at.dzc @ v.Uc.T,
        )
        | {
            "dWf": total(lambda v, at: v.x[:, at.t - 1].T @ at.dzf),
            "dUf": total(lambda v, at: at.before.T @ at.dzf),
            "dbf": total(lambda v, at: at.dzf.sum(0)),
            "dWc": total(lambda v, at: v.x[:, at.t - 1].T @ at.dzc),
            "dUc": total(lambda v, at: at.before.T @ at.dzc),
            "dbc": total(lambda v, at: at.dzc.sum(0)),
            "dh0": lambda v: v.ds0.sum(0),
        },
        named="f1 c1 s1 f2 c2 s2 f3 c3 s3 out dout ds3 dzf3 dzc3 ds2 dzf2 dzc2 ds1 dzf1 dzc1 ds0",
    )
    below = "Wf Uf bf Wc Uc bc h0"

    def clipped(v, at):
        d = at.ds * at.f + at.dzf @ v.Uf.T + at.dzc @ v.Uc.T
        return d * jnp.minimum(1, 0.05 / jnp.sqrt((d**2).sum()))

    return wrong, {
        "the gate's path to the state before is left out": wrong(
            "path_left_out", "ds2", below, **steps(ds=lambda v, at: at.ds * at.f + at.dzc @ v.Uc.T)
        ),
        "the carry is left out": wrong(
            "path_left_out", "ds2", below, **steps(ds=lambda v, at: at.dzf @ v.Uf.T + at.dzc @ v.Uc.T)
        ),
        "the gate closes no candidate": wrong(
            "path_left_out", "ds2", below, **steps(dzf=lambda v, at: at.ds * at.before * at.f * (1 - at.f))
        ),
        "the gate's sigmoid is not differentiated": wrong(
            "missing_activation_derivative", "ds2", below, **steps(dzf=lambda v, at: at.ds * (at.before - at.c))
        ),
        "the gate's sigmoid is differentiated at f": wrong(
            "derivative_at_activation",
            "ds2",
            below,
            **steps(dzf=lambda v, at: at.ds * (at.before - at.c) * sigmoid(at.f) * (1 - sigmoid(at.f))),
        ),
        "the gate gets tanh'": wrong(
            "derivative_of_other_function",
            "ds2",
            below,
            **steps(dzf=lambda v, at: at.ds * (at.before - at.c) * (1 - at.f**2)),
        ),
        "f for 1 - f in the candidate": wrong(
            "stale_residual", "ds2", below, **steps(dzc=lambda v, at: at.ds * at.f * (1 - at.c**2))
        ),
        "the cotangent is clipped on the way": wrong("nonlinear_in_cotangent", "ds2", below, **steps(ds=clipped)),
        "Uc is not transposed": wrong(
            "transpose", "ds2", below, **steps(ds=lambda v, at: at.ds * at.f + at.dzf @ v.Uf.T + at.dzc @ v.Uc)
        ),
        "Uf from the state after": wrong("stale_residual", "Uf", dUf=total(lambda v, at: at.s.T @ at.dzf)),
        "bc from the last step alone": wrong("path_left_out", "bc", dbc=lambda v: v.dzc3.sum(0)),
        "the last step counts twice in Wc": wrong(
            "example_counted_twice constant_factor unknown",
            "Wc",
            dWc=lambda v: sum(v.x[:, t - 1].T @ getattr(v, f"dzc{t}") for t in (1, 2, 3, 3)),
        ),
        "dWf and dWc are returned in the wrong order": wrong(
            "other_leaf stale_residual swapped_operands",
            "Wf",
            "Wf Wc",
            dWf=total(lambda v, at: v.x[:, at.t - 1].T @ at.dzc),
            dWc=total(lambda v, at: v.x[:, at.t - 1].T @ at.dzf),
        ),
        "the first state takes the mean of the batch": wrong(
            "bias_averaged extra_mean", "h0", dh0=lambda v: v.ds0.mean(0)
        ),
        "the last entry of the first state stays zero": wrong(
            "single_entry", "h0", dh0=lambda v: v.ds0.sum(0).at[-1].set(0)
        ),
    }


# --- a siamese net with a contrastive loss ----------------------------------------------------------------------------


def siamese():
    wrong = written(
        normal(105, W=(3, 5), b=5, xa=(7, 3), xb=(7, 3)) | {"s": np.array([1, 0, 0, 1, 0, 1, 0], np.float32)},
        "W b",
        forward={
            "m": lambda v: len(v.xa),
            "za": lambda v: v.xa @ v.W + v.b,
            "zb": lambda v: v.xb @ v.W + v.b,
            "ua": lambda v: jnp.tanh(v.za),
            "ub": lambda v: jnp.tanh(v.zb),
            "e": lambda v: v.ua - v.ub,
            "D": lambda v: (v.e**2).sum(1),
        },
        J=lambda v: (v.s * v.D + (1 - v.s) * jnp.maximum(0, 4 - v.D)).sum() / v.m,
        backward={
            "dD": lambda v: (v.s - (1 - v.s) * (v.D < 4)) / v.m,
            "de": lambda v: 2 * v.dD[:, None] * v.e,
            "dua": lambda v: v.de,
            "dub": lambda v: -v.de,
            "dza": lambda v: v.dua * (1 - v.ua**2),
            "dzb": lambda v: v.dub * (1 - v.ub**2),
            "dW": lambda v: v.xa.T @ v.dza + v.xb.T @ v.dzb,
            "db": lambda v: v.dza.sum(0) + v.dzb.sum(0),
        },
        named="za zb ua ub e D dD de dza dzb",
    )
    return wrong, {
        "pairs beyond the margin push too": wrong("wrong_mask", "dD", dD=lambda v: (v.s - (1 - v.s)) / v.m),
        "pairs beyond the margin alone push": wrong(
            "wrong_mask", "dD", dD=lambda v: (v.s - (1 - v.s) * (v.D > 4)) / v.m
        ),
        "only similar pairs have a gradient": wrong("path_left_out", "dD", dD=lambda v: v.s / v.m),
        "no 2 of the square": wrong("constant_factor", "de", de=lambda v: v.dD[:, None] * v.e),
        "the second branch has no minus": wrong("constant_factor", "dzb", dub=lambda v: v.de),
        "the second branch with the first's tanh'": wrong(
            "derivative_of_other_layer stale_residual", "dzb", dzb=lambda v: v.dub * (1 - v.ua**2)
        ),
        "W from the first branch alone": wrong("path_left_out", "W", dW=lambda v: v.xa.T @ v.dza),
        "the first branch counts twice": wrong("path_left_out stale_residual", "b", db=lambda v: 2 * v.dza.sum(0)),
        "inputs crossed with branches": wrong(
            "swapped_operands stale_residual", "W", dW=lambda v: v.xa.T @ v.dzb + v.xb.T @ v.dza
        ),
        "the labels are of the next pair": wrong(
            "shifted_labels", "dD", dD=lambda v: (jnp.roll(v.s, -1) - (1 - jnp.roll(v.s, -1)) * (v.D < 4)) / v.m
        ),
    }


# --- RMSNorm between two linear layers -------------------------------------------------------------------------------


def rms_norm():
    eps = 0.1
    wrong = written(
        normal(106, W=(3, 5), g=5, V=(5, 2), c=2, x=(6, 3), y=(6, 2)),
        "W g V c",
        forward={
            "m": lambda v: len(v.x),
            "z": lambda v: v.x @ v.W,
            "r": lambda v: jnp.sqrt((v.z**2).mean(1, keepdims=True) + eps),
            "n": lambda v: v.z / v.r,
            "a": lambda v: v.g * v.n,
            "out": lambda v: v.a @ v.V + v.c,
        },
        J=lambda v: ((v.out - v.y) ** 2).sum() / v.m,
        backward={
            "dout": lambda v: 2 * (v.out - v.y) / v.m,
            "dV": lambda v: v.a.T @ v.dout,
            "dc": lambda v: v.dout.sum(0),
            "da": lambda v: v.dout @ v.V.T,
            "dg": lambda v: (v.da * v.n).sum(0),
            "dn": lambda v: v.da * v.g,
            "dz": lambda v: (v.dn - v.n * (v.n * v.dn).mean(1, keepdims=True)) / v.r,
            "dW": lambda v: v.x.T @ v.dz,
        },
        named="z r n a out dout da dn dz",
    )

    def unguarded(v):
        r = jnp.sqrt((v.z**2).mean(1, keepdims=True))
        n = v.z / r
        return (v.dn - n * (n * v.dn).mean(1, keepdims=True)) / r

    return wrong, {
        "the mean square is a constant": wrong("path_left_out", "dz", "W", dz=lambda v: v.dn / v.r),
        "as for layer norm": wrong(
            "derivative_of_other_function unknown",
            "dz",
            "W",
            dz=lambda v: (v.dn - v.dn.mean(1, keepdims=True) - v.n * (v.n * v.dn).mean(1, keepdims=True)) / v.r,
        ),
        "the projection averages over the examples": wrong(
            "wrong_axis", "dz", "W", dz=lambda v: (v.dn - v.n * (v.n * v.dn).mean(0, keepdims=True)) / v.r
        ),
        "the projection sums over the features": wrong(
            "missing_mean", "dz", "W", dz=lambda v: (v.dn - v.n * (v.n * v.dn).sum(1, keepdims=True)) / v.r
        ),
        "epsilon is forgotten": wrong("guard_ignored", "dz", "W", dz=unguarded),
        "z for n in the projection": wrong(
            "stale_residual", "dz", "W", dz=lambda v: (v.dn - v.z * (v.n * v.dn).mean(1, keepdims=True)) / v.r
        ),
        "g from z": wrong("stale_residual", "g", dg=lambda v: (v.da * v.z).sum(0)),
        "the last gain is never reached": wrong("single_entry", "g", dg=lambda v: (v.da * v.n).sum(0).at[-1].set(0)),
        "the first example is not in V": wrong("example_left_out", "V", dV=lambda v: v.a[1:].T @ v.dout[1:]),
        "c of the last example": wrong("bias_not_summed example_left_out", "c", dc=lambda v: v.dout[-1]),
    }


# --- batch norm in training mode, NumPy -------------------------------------------------------------------------------


def batch_norm():
    eps = 0.1

    def dvar(v):
        return np.sum(v.dN * (v.Z - v.mu) * -0.5 * (v.var + eps) ** -1.5, axis=0)

    def dmu(v):
        return np.sum(-v.dN / v.std, axis=0)

    wrong = written(
        normal(107, W=(3, 4), gamma=4, beta=4, V=(4, 2), X=(6, 3), Y=(6, 2)),
        "W gamma beta V",
        forward={
            "m": lambda v: v.X.shape[0],
            "Z": lambda v: np.dot(v.X, v.W),
            "mu": lambda v: np.sum(v.Z, axis=0) / v.m,
            "var": lambda v: np.sum((v.Z - v.mu) ** 2, axis=0) / v.m,
            "std": lambda v: np.sqrt(v.var + eps),
            "N": lambda v: (v.Z - v.mu) / v.std,
            "A": lambda v: v.gamma * v.N + v.beta,
            "out": lambda v: np.dot(v.A, v.V),
        },
        J=lambda v: np.sum((v.out - v.Y) ** 2) / (2 * v.m),
        backward={
            "dout": lambda v: (v.out - v.Y) / v.m,
            "dV": lambda v: np.dot(v.A.T, v.dout),
            "dA": lambda v: np.dot(v.dout, v.V.T),
            "dgamma": lambda v: np.sum(v.dA * v.N, axis=0),
            "dbeta": lambda v: np.sum(v.dA, axis=0),
            "dN": lambda v: v.dA * v.gamma,
            "dvar": dvar,
            "dmu": dmu,
            "dZ": lambda v: v.dN / v.std + v.dvar * 2 * (v.Z - v.mu) / v.m + v.dmu / v.m,
            "dW": lambda v: np.dot(v.X.T, v.dZ),
        },
    )

    def one_line(v, axis):
        def mean(a):
            return np.sum(a, axis=axis, keepdims=True) / v.m

        return (v.dN - mean(v.dN) - v.N * mean(v.dN * v.N)) / v.std

    return wrong, {
        "as at test time, statistics constant": wrong("path_left_out", leaves="W", dZ=lambda v: v.dN / v.std),
        "the mean's path is left out": wrong(
            "path_left_out", leaves="W", dZ=lambda v: v.dN / v.std + v.dvar * 2 * (v.Z - v.mu) / v.m
        ),
        "the variance's path is left out": wrong("path_left_out", leaves="W", dZ=lambda v: v.dN / v.std + v.dmu / v.m),
        "the variance's path without 1/m": wrong(
            "missing_mean",
            leaves="W",
            dZ=lambda v: v.dN / v.std + v.dvar * 2 * (v.Z - v.mu) + v.dmu / v.m,
        ),
        "sums over the features": wrong("wrong_axis", leaves="W", dZ=lambda v: one_line(v, 1)),
        "epsilon is forgotten": wrong(
            "guard_ignored", leaves="W", dZ=lambda v: (one_line(v, 0) * v.std) / np.sqrt(v.var)
        ),
        "gamma from Z": wrong("stale_residual", leaves="gamma", dgamma=lambda v: np.sum(v.dA * v.Z, axis=0)),
        "beta is averaged": wrong("bias_averaged extra_mean", leaves="beta", dbeta=lambda v: np.mean(v.dA, axis=0)),
        "beta from dN": wrong("stale_residual", leaves="beta", dbeta=lambda v: np.sum(v.dA * v.gamma, axis=0)),
        "V from N": wrong("stale_residual", leaves="V", dV=lambda v: np.dot(v.N.T, v.dout)),
    }


# --- max pooling in windows of two, then the mean ---------------------------------------------------------------------


def pooling():
    def windows(v):
        return v.z.reshape(4, 3, 2, 5)

    def winners(v):
        w = windows(v)
        return w == w.max(2, keepdims=True)

    def unpooled(v, mask):
        return (v.dp[:, :, None] * mask).reshape(4, 6, 5)

    wrong = written(
        normal(108, W=(3, 5), b=5, V=(5, 2), x=(4, 6, 3), y=(4, 2)),
        "W b V",
        forward={
            "m": lambda v: len(v.x),
            "z": lambda v: v.x @ v.W + v.b,
            "p": lambda v: windows(v).max(2),
            "q": lambda v: v.p.mean(1),
            "out": lambda v: v.q @ v.V,
        },
        J=lambda v: ((v.out - v.y) ** 2).sum() / (2 * v.m),
        backward={
            "dout": lambda v: (v.out - v.y) / v.m,
            "dV": lambda v: v.q.T @ v.dout,
            "dq": lambda v: v.dout @ v.V.T,
            "dp": lambda v: jnp.broadcast_to(v.dq[:, None] / 3, v.p.shape),
            "dz": lambda v: unpooled(v, winners(v)),
            "dW": lambda v: jnp.einsum("nti,ntj->ij", v.x, v.dz),
            "db": lambda v: v.dz.sum((0, 1)),
        },
        named="z p q out dout dq dp dz",
    )
    return wrong, {
        "every place gets the gradient": wrong(
            "wrong_mask", "dz", "W b", dz=lambda v: unpooled(v, jnp.ones((4, 3, 2, 5)))
        ),
        "as for mean pooling": wrong(
            "derivative_of_other_function wrong_mask", "dz", "W", dz=lambda v: unpooled(v, jnp.full((4, 3, 2, 5), 0.5))
        ),
        "the losers get the gradient": wrong("wrong_mask", "dz", "W", dz=lambda v: unpooled(v, ~winners(v))),
        "the mean over the windows has no 1/3": wrong(
            "missing_mean constant_factor", "dp", "W b", dp=lambda v: jnp.broadcast_to(v.dq[:, None], v.p.shape)
        ),
        "the mask alone": wrong(
            "ignored_cotangent", "dz", "W b", dz=lambda v: winners(v).astype(v.z.dtype).reshape(4, 6, 5)
        ),
        "b is averaged over the places": wrong(
            "bias_averaged extra_mean constant_factor", "b", db=lambda v: v.dz.mean(1).sum(0)
        ),
        "b of the last place": wrong(
            "bias_not_summed example_left_out path_left_out", "b", db=lambda v: v.dz[:, -1].sum(0)
        ),
        "V from the last window": wrong("stale_residual", "V", dV=lambda v: v.p[:, -1].T @ v.dout),
        "the first example is looped over twice": wrong(
            "example_counted_twice", "V", dV=lambda v: v.q.T @ v.dout + v.q[:1].T @ v.dout[:1]
        ),
    }


# --- cross attention with two heads and padding -----------------------------------------------------------------------


def cross_attention():
    pad = np.array([True, True, True, True, False])
    scale = 2**-0.5

    def heads(a):
        return a.reshape(len(a), 2, 2)

    def flat(a):
        return a.reshape(len(a), 4)

    def softmax_back(dA, A, axis):
        return A * (dA - (A * dA).sum(axis, keepdims=True))

    wrong = written(
        normal(109, E=(3, 6), Q=(3, 4), K=(6, 4), V=(6, 4), O=(4, 2), x=(3, 3), c=(5, 3), y=(3, 2)),
        "E Q K V O",
        forward={
            "mem": lambda v: jnp.tanh(v.c @ v.E),
            "q": lambda v: heads(v.x @ v.Q),
            "k": lambda v: heads(v.mem @ v.K),
            "w": lambda v: heads(v.mem @ v.V),
            "S": lambda v: jnp.where(pad, jnp.einsum("thd,shd->hts", v.q, v.k) * scale, -1e9),
            "A": lambda v: softmax(v.S, axis=2),
            "o": lambda v: jnp.einsum("hts,shd->thd", v.A, v.w),
            "out": lambda v: flat(v.o) @ v.O,
        },
        J=lambda v: ((v.out - v.y) ** 2).sum() / (2 * 3),
        backward={
            "dout": lambda v: (v.out - v.y) / 3,
            "dO": lambda v: flat(v.o).T @ v.dout,
            "do": lambda v: heads(v.dout @ v.O.T),
            "dw": lambda v: jnp.einsum("hts,thd->shd", v.A, v.do),
            "dA": lambda v: jnp.einsum("thd,shd->hts", v.do, v.w),
            "dS": lambda v: softmax_back(v.dA, v.A, 2),
            "dq": lambda v: jnp.einsum("hts,shd->thd", v.dS, v.k) * scale,
            "dk": lambda v: jnp.einsum("hts,thd->shd", v.dS, v.q) * scale,
            "dQ": lambda v: v.x.T @ flat(v.dq),
            "dK": lambda v: v.mem.T @ flat(v.dk),
            "dV": lambda v: v.mem.T @ flat(v.dw),
            "dmem": lambda v: flat(v.dk) @ v.K.T + flat(v.dw) @ v.V.T,
            "dE": lambda v: v.c.T @ (v.dmem * (1 - v.mem**2)),
        },
        named="mem q k w S A o out dout do dw dA dS dq dk dmem",
    )
    return wrong, {
        "heads are split the wrong way": wrong(
            "wrong_axis transpose stale_residual",
            "do",
            "E Q K V",
            do=lambda v: (v.dout @ v.O.T).reshape(3, 2, 2).swapaxes(1, 2),
        ),
        "softmax' without its sum": wrong("path_left_out", "dS", "E Q K", dS=lambda v: v.A * v.dA),
        "softmax is not differentiated": wrong(
            "missing_activation_derivative", "dS", "E Q K", dS=lambda v: jnp.where(pad, v.dA, 0)
        ),
        "softmax' sums over the queries": wrong("wrong_axis", "dS", "E Q K", dS=lambda v: softmax_back(v.dA, v.A, 1)),
        "softmax' as if of a sigmoid": wrong(
            "derivative_of_other_function path_left_out", "dS", "E Q K", dS=lambda v: v.dA * v.A * (1 - v.A)
        ),
        "dq is scaled by the width of all heads": wrong(
            "constant_factor", "dq", "Q", dq=lambda v: jnp.einsum("hts,shd->thd", v.dS, v.k) / 2
        ),
        "dk from k": wrong(
            "stale_residual swapped_operands",
            "dk",
            "E K",
            dk=lambda v: jnp.einsum("hts,thd->shd", v.dS, v.k[:3]) * scale,
        ),
        "the memory through the values alone": wrong("path_left_out", "dmem", "E", dmem=lambda v: flat(v.dw) @ v.V.T),
        "K and V exchanged on the way to the memory": wrong(
            "swapped_operands stale_residual", "dmem", "E", dmem=lambda v: flat(v.dk) @ v.V.T + flat(v.dw) @ v.K.T
        ),
        "dK and dV are returned in the wrong order": wrong(
            "other_leaf stale_residual swapped_operands",
            "K",
            "K V",
            dK=lambda v: v.mem.T @ flat(v.dw),
            dV=lambda v: v.mem.T @ flat(v.dk),
        ),
        "the memory's tanh is not differentiated": wrong(
            "missing_activation_derivative", "E", dE=lambda v: v.c.T @ v.dmem
        ),
    }


# --- GELU and label smoothing -----------------------------------------------------------------------------------------


def gelu():
    smooth = 0.3

    def Phi(z):
        return 0.5 * (1 + erf(z / jnp.sqrt(2.0)))

    def phi(z):
        return jnp.exp(-(z**2) / 2) / jnp.sqrt(2 * jnp.pi)

    def target(v):
        return (1 - smooth) * one_hot(v.y, 4) + smooth / 4

    wrong = written(
        normal(110, W1=(3, 5), b1=5, W2=(5, 4), b2=4, x=(6, 3)) | {"y": ints(0, 3, 1, 2, 2, 0)},
        "W1 b1 W2 b2",
        forward={
            "m": lambda v: len(v.x),
            "z1": lambda v: v.x @ v.W1 + v.b1,
            "a1": lambda v: v.z1 * Phi(v.z1),
            "z2": lambda v: v.a1 @ v.W2 + v.b2,
        },
        J=lambda v: -(target(v) * log_softmax(v.z2)).sum() / v.m,
        backward={
            "dz2": lambda v: (softmax(v.z2) - target(v)) / v.m,
            "dW2": lambda v: v.a1.T @ v.dz2,
            "db2": lambda v: v.dz2.sum(0),
            "da1": lambda v: v.dz2 @ v.W2.T,
            "dz1": lambda v: v.da1 * (Phi(v.z1) + v.z1 * phi(v.z1)),
            "dW1": lambda v: v.x.T @ v.dz1,
            "db1": lambda v: v.dz1.sum(0),
        },
        named="z1 a1 z2 dz2 da1 dz1",
    )
    below = "W1 b1"
    return (
        wrong,
        {
            "labels are not smoothed": wrong(
                "stale_residual path_left_out", "dz2", dz2=lambda v: (softmax(v.z2) - one_hot(v.y, 4)) / v.m
            ),
            "labels of the next example": wrong(
                "shifted_labels",
                "dz2",
                "W1 b1 W2",  # b2 sums the same labels
                dz2=lambda v: (softmax(v.z2) - (1 - smooth) * one_hot(jnp.roll(v.y, -1), 4) - smooth / 4) / v.m,
            ),
            "no mean": wrong("missing_mean", "dz2", dz2=lambda v: softmax(v.z2) - target(v)),
            "the product rule's second term is left out": wrong(
                "path_left_out", "dz1", below, dz1=lambda v: v.da1 * Phi(v.z1)
            ),
            "the product rule's first term is left out": wrong(
                "path_left_out", "dz1", below, dz1=lambda v: v.da1 * v.z1 * phi(v.z1)
            ),
            "gelu' at a": wrong(
                "derivative_at_activation", "dz1", below, dz1=lambda v: v.da1 * (Phi(v.a1) + v.a1 * phi(v.a1))
            ),
            "relu'": wrong("derivative_of_other_function", "dz1", below, dz1=lambda v: v.da1 * (v.z1 > 0)),
            "silu'": wrong(
                "derivative_of_other_function",
                "dz1",
                below,
                dz1=lambda v: v.da1 * sigmoid(v.z1) * (1 + v.z1 * (1 - sigmoid(v.z1))),
            ),
            "gelu is taken for gelu'": wrong(
                "derivative_of_other_function stale_residual", "dz1", below, dz1=lambda v: v.da1 * v.a1
            ),
            "the last example is left out of W2": wrong(
                "example_left_out", "W2", dW2=lambda v: v.a1[:-1].T @ v.dz2[:-1]
            ),
            "b2 is averaged": wrong("bias_averaged extra_mean", "b2", db2=lambda v: v.dz2.mean(0)),
        },
    )


# --- a variational autoencoder ----------------------------------------------------------------------------------------


def variational():
    wrong = written(
        normal(111, Wm=(5, 2), bm=2, Wl=(5, 2), bl=2, D=(2, 5), c=5, x=(6, 5), noise=(6, 2)),
        "Wm bm Wl bl D c",
        forward={
            "m": lambda v: len(v.x),
            "mu": lambda v: v.x @ v.Wm + v.bm,
            "lv": lambda v: v.x @ v.Wl + v.bl,
            "s": lambda v: jnp.exp(v.lv / 2),
            "z": lambda v: v.mu + v.s * v.noise,
            "xh": lambda v: v.z @ v.D + v.c,
        },
        J=lambda v: (((v.xh - v.x) ** 2).sum() + (jnp.exp(v.lv) + v.mu**2 - 1 - v.lv).sum()) / (2 * v.m),
        backward={
            "dxh": lambda v: (v.xh - v.x) / v.m,
            "dD": lambda v: v.z.T @ v.dxh,
            "dc": lambda v: v.dxh.sum(0),
            "dz": lambda v: v.dxh @ v.D.T,
            "dmu": lambda v: v.dz + v.mu / v.m,
            "dlv": lambda v: v.dz * v.noise * v.s / 2 + (jnp.exp(v.lv) - 1) / (2 * v.m),
            "dWm": lambda v: v.x.T @ v.dmu,
            "dbm": lambda v: v.dmu.sum(0),
            "dWl": lambda v: v.x.T @ v.dlv,
            "dbl": lambda v: v.dlv.sum(0),
        },
        named="mu lv s z xh dxh dz dmu dlv",
    )
    return wrong, {
        "the divergence is left out of dmu": wrong("missing_penalty path_left_out", "dmu", "Wm bm", dmu=lambda v: v.dz),
        "the divergence alone in dmu": wrong(
            "path_left_out ignored_cotangent", "dmu", "Wm bm", dmu=lambda v: v.mu / v.m
        ),
        "the divergence is not averaged in dmu": wrong(
            "scaled_penalty missing_mean", "dmu", "Wm bm", dmu=lambda v: v.dz + v.mu
        ),
        "the sample's path is left out of dlv": wrong(
            "path_left_out ignored_cotangent", "dlv", "Wl bl", dlv=lambda v: (jnp.exp(v.lv) - 1) / (2 * v.m)
        ),
        "exp is not differentiated": wrong(
            "missing_activation_derivative",
            "dlv",
            "Wl bl",
            dlv=lambda v: v.dz * v.noise / 2 + (jnp.exp(v.lv) - 1) / (2 * v.m),
        ),
        "the deviation for the variance in the divergence": wrong(
            "stale_residual", "dlv", "Wl bl", dlv=lambda v: v.dz * v.noise * v.s / 2 + (v.s - 1) / (2 * v.m)
        ),
        "the divergence has no half in dlv": wrong(
            "scaled_penalty constant_factor",
            "dlv",
            "Wl bl",
            dlv=lambda v: v.dz * v.noise * v.s / 2 + (jnp.exp(v.lv) - 1) / v.m,
        ),
        "noise is drawn anew for the backward pass": wrong(
            "stale_residual",
            "dlv",
            "Wl bl",
            dlv=lambda v: v.dz * jnp.roll(v.noise, 1, 0) * v.s / 2 + (jnp.exp(v.lv) - 1) / (2 * v.m),
        ),
        "the heads are returned in the wrong order": wrong(
            "other_leaf swapped_operands stale_residual",
            "Wm",
            "Wm Wl",
            dWm=lambda v: v.x.T @ v.dlv,
            dWl=lambda v: v.x.T @ v.dmu,
        ),
        "the decoder from the mean": wrong("stale_residual", "D", dD=lambda v: v.mu.T @ v.dxh),
        "D steps before the encoder": wrong(
            "updated_weights", "dz", "Wm bm Wl bl", dz=lambda v: v.dxh @ (v.D - RATE * v.dD).T
        ),
    }


# --- normal likelihood with a learned variance ------------------------------------------------------------------------


def variance():
    wrong = written(
        normal(112, W=(3, 4), b=4, Wm=(4, 2), Ws=(4, 2), bs=2, x=(7, 3), y=(7, 2)),
        "W b Wm Ws bs",
        forward={
            "m": lambda v: len(v.x),
            "h": lambda v: jnp.tanh(v.x @ v.W + v.b),
            "mu": lambda v: v.h @ v.Wm,
            "s": lambda v: v.h @ v.Ws + v.bs,
            "var": lambda v: softplus(v.s) + 0.2,
        },
        J=lambda v: (jnp.log(v.var) + (v.mu - v.y) ** 2 / v.var).sum() / (2 * v.m),
        backward={
            "dmu": lambda v: (v.mu - v.y) / v.var / v.m,
            "dvar": lambda v: (1 / v.var - (v.mu - v.y) ** 2 / v.var**2) / (2 * v.m),
            "ds": lambda v: v.dvar * sigmoid(v.s),
            "dWm": lambda v: v.h.T @ v.dmu,
            "dWs": lambda v: v.h.T @ v.ds,
            "dbs": lambda v: v.ds.sum(0),
            "dh": lambda v: v.dmu @ v.Wm.T + v.ds @ v.Ws.T,
            "dz": lambda v: v.dh * (1 - v.h**2),
            "dW": lambda v: v.x.T @ v.dz,
            "db": lambda v: v.dz.sum(0),
        },
        named="h mu s var dmu dvar ds dh dz",
    )
    return wrong, {
        "the residual is not divided by the variance": wrong(
            "path_left_out unknown ignored_cotangent", "dmu", "W b Wm", dmu=lambda v: (v.mu - v.y) / v.m
        ),
        "the logarithm is left out": wrong(
            "path_left_out", "dvar", "W b Ws bs", dvar=lambda v: -((v.mu - v.y) ** 2) / v.var**2 / (2 * v.m)
        ),
        "the examples are not averaged in dvar": wrong(
            "missing_mean", "dvar", "W b Ws bs", dvar=lambda v: (1 / v.var - (v.mu - v.y) ** 2 / v.var**2) / 2
        ),
        "softplus is not differentiated": wrong(
            "missing_activation_derivative", "ds", "W b Ws bs", ds=lambda v: v.dvar
        ),
        "softplus' at the variance": wrong(
            "derivative_at_activation", "ds", "W b Ws bs", ds=lambda v: v.dvar * sigmoid(v.var)
        ),
        "exp' for softplus'": wrong("derivative_of_other_function", "ds", "W b Ws bs", ds=lambda v: v.dvar * v.var),
        "the variance's head is left out of dh": wrong("path_left_out", "dh", "W b", dh=lambda v: v.dmu @ v.Wm.T),
        "each head with the other's weights": wrong(
            "swapped_operands stale_residual", "dh", "W b", dh=lambda v: v.dmu @ v.Ws.T + v.ds @ v.Wm.T
        ),
        "tanh' once more at the mean": wrong(
            "extra_activation_derivative",
            "dmu",
            "W b Wm",
            dmu=lambda v: (v.mu - v.y) / v.var / v.m * (1 - jnp.tanh(v.mu) ** 2),
        ),
        "softplus' of the cotangent": wrong(
            "nonlinear_in_cotangent", "ds", "W b Ws bs", ds=lambda v: v.dvar * sigmoid(v.dvar)
        ),
        "bs is of one example": wrong("bias_not_summed example_left_out", "bs", dbs=lambda v: v.ds[0]),
    }


# --- a deep linear net in columns, NumPy ------------------------------------------------------------------------------


def deep_linear():
    wrong = written(
        normal(113, W1=(4, 3), W2=(4, 4), W3=(4, 4), W4=(2, 4), X=(3, 6), Y=(2, 6)),
        "W1 W2 W3 W4",
        forward={
            "m": lambda v: v.X.shape[1],
            "H1": lambda v: np.dot(v.W1, v.X),
            "H2": lambda v: np.dot(v.W2, v.H1),
            "H3": lambda v: np.dot(v.W3, v.H2),
            "H4": lambda v: np.dot(v.W4, v.H3),
        },
        J=lambda v: np.sum((v.H4 - v.Y) ** 2) / (2 * v.m),
        backward={
            "D4": lambda v: (v.H4 - v.Y) / v.m,
            "dW4": lambda v: np.dot(v.D4, v.H3.T),
            "D3": lambda v: np.dot(v.W4.T, v.D4),
            "dW3": lambda v: np.dot(v.D3, v.H2.T),
            "D2": lambda v: np.dot(v.W3.T, v.D3),
            "dW2": lambda v: np.dot(v.D2, v.H1.T),
            "D1": lambda v: np.dot(v.W2.T, v.D2),
            "dW1": lambda v: np.dot(v.D1, v.X.T),
        },
    )
    return wrong, {
        "W3 is not transposed": wrong("transpose", leaves="W1 W2", D2=lambda v: np.dot(v.W3, v.D3)),
        "dW2 is transposed": wrong("transpose swapped_operands", leaves="W2", dW2=lambda v: np.dot(v.H1, v.D2.T)),
        "W2 for W3": wrong("stale_residual", leaves="W1 W2", D2=lambda v: np.dot(v.W2.T, v.D3)),
        "dW3 from its own output": wrong("stale_residual", leaves="W3", dW3=lambda v: np.dot(v.D3, v.H3.T)),
        "W3 steps first": wrong("updated_weights", leaves="W1 W2", D2=lambda v: np.dot((v.W3 - RATE * v.dW3).T, v.D3)),
        "dW2 and dW3 are exchanged": wrong(
            "other_leaf stale_residual swapped_operands",
            leaves="W2 W3",
            dW3=lambda v: np.dot(np.dot(v.W3.T, v.D3), v.H1.T),
            dW2=lambda v: np.dot(v.D3, v.H2.T),
        ),
        "the sign": wrong("constant_factor", D4=lambda v: (v.Y - v.H4) / v.m),
        "1/m once more in dW1": wrong("extra_mean", leaves="W1", dW1=lambda v: np.dot(v.D1, v.X.T) / v.m),
        "the last example twice in dW1": wrong(
            "example_counted_twice",
            leaves="W1",
            dW1=lambda v: np.dot(v.D1, v.X.T) + np.dot(v.D1[:, -1:], v.X[:, -1:].T),
        ),
    }


# --- concatenated skips, logistic outputs -----------------------------------------------------------------------------


def concatenated():
    wrong = written(
        normal(114, W1=(3, 4), b1=4, W2=(7, 4), b2=4, W3=(8, 2), b3=2, x=(5, 3))
        | {"y": np.array([[1, 0], [0, 0], [1, 1], [0, 1], [1, 0]], np.float32)},
        "W1 b1 W2 b2 W3 b3",
        forward={
            "m": lambda v: len(v.x),
            "z1": lambda v: v.x @ v.W1 + v.b1,
            "a1": lambda v: jnp.tanh(v.z1),
            "c1": lambda v: jnp.concatenate([v.x, v.a1], 1),
            "z2": lambda v: v.c1 @ v.W2 + v.b2,
            "a2": lambda v: sigmoid(v.z2),
            "c2": lambda v: jnp.concatenate([v.a1, v.a2], 1),
            "z3": lambda v: v.c2 @ v.W3 + v.b3,
        },
        J=lambda v: (softplus(v.z3) - v.y * v.z3).sum() / v.m,
        backward={
            "dz3": lambda v: (sigmoid(v.z3) - v.y) / v.m,
            "dW3": lambda v: v.c2.T @ v.dz3,
            "db3": lambda v: v.dz3.sum(0),
            "dc2": lambda v: v.dz3 @ v.W3.T,
            "da2": lambda v: v.dc2[:, 4:],
            "dz2": lambda v: v.da2 * v.a2 * (1 - v.a2),
            "dW2": lambda v: v.c1.T @ v.dz2,
            "db2": lambda v: v.dz2.sum(0),
            "dc1": lambda v: v.dz2 @ v.W2.T,
            "da1": lambda v: v.dc2[:, :4] + v.dc1[:, 3:],
            "dz1": lambda v: v.da1 * (1 - v.a1**2),
            "dW1": lambda v: v.x.T @ v.dz1,
            "db1": lambda v: v.dz1.sum(0),
        },
        named="z1 a1 c1 z2 a2 c2 z3 dz3 dc2 da2 dz2 dc1 da1 dz1",
    )
    return wrong, {
        "the output's sigmoid is differentiated as well": wrong(
            "extra_activation_derivative",
            "dz3",
            dz3=lambda v: (sigmoid(v.z3) - v.y) * sigmoid(v.z3) * (1 - sigmoid(v.z3)) / v.m,
        ),
        "z3 for its probability": wrong(
            "stale_residual missing_activation_derivative derivative_of_other_function",
            "dz3",
            dz3=lambda v: (v.z3 - v.y) / v.m,
        ),
        "the other half of c2": wrong("stale_residual", "da2", "W1 b1 W2 b2", da2=lambda v: v.dc2[:, :4]),
        "the long skip is left out": wrong("path_left_out", "da1", "W1 b1", da1=lambda v: v.dc1[:, 3:]),
        "the layer between is left out": wrong("path_left_out", "da1", "W1 b1", da1=lambda v: v.dc2[:, :4]),
        "c1 is split one place too early": wrong(
            "stale_residual unknown", "da1", "W1 b1", da1=lambda v: v.dc2[:, :4] + v.dc1[:, 2:6]
        ),
        "tanh' of the first layer in the second": wrong(
            "derivative_of_other_layer derivative_of_other_function",
            "dz2",
            "W1 b1 W2 b2",
            dz2=lambda v: v.da2 * (1 - v.a1**2),
        ),
        "tanh' at a1": wrong(
            "derivative_at_activation", "dz1", "W1 b1", dz1=lambda v: v.da1 * (1 - jnp.tanh(v.a1) ** 2)
        ),
        "sigmoid' as a2": wrong(
            "derivative_of_other_function path_left_out", "dz2", "W1 b1 W2 b2", dz2=lambda v: v.da2 * v.a2
        ),
        "one weight of W1": wrong("single_entry", "W1", dW1=lambda v: (v.x.T @ v.dz1).at[0, 0].set(0)),
        "b2 is returned for b1": wrong("other_leaf stale_residual", "b1", db1=lambda v: v.dz2.sum(0)),
    }


# --- linear SVM with L2, NumPy ----------------------------------------------------------------------------------------


def hinge():
    values = normal(115, w=(4, 1), b=1, X=(7, 4)) | {"y": np.array([[1], [-1], [-1], [1], [-1], [1], [1]], np.float32)}
    wrong = written(
        values,
        "w b",
        forward={
            "m": lambda v: v.X.shape[0],
            "lam": lambda v: 0.3,
            "s": lambda v: np.dot(v.X, v.w) + v.b,
        },
        J=lambda v: np.sum(np.maximum(0, 1 - v.y * v.s)) / v.m + v.lam / 2 * np.sum(v.w**2),
        backward={
            "ds": lambda v: np.where(v.y * v.s < 1, -v.y, 0) / v.m,
            "dw": lambda v: np.dot(v.X.T, v.ds) + v.lam * v.w,
            "db": lambda v: np.sum(v.ds, axis=0),
        },
    )
    return wrong, {
        "as for a perceptron": wrong(
            "wrong_mask derivative_of_other_function", ds=lambda v: np.where(v.y * v.s < 0, -v.y, 0) / v.m
        ),
        "the margin without the label": wrong("wrong_mask", ds=lambda v: np.where(v.s < 1, -v.y, 0) / v.m),
        "every example is a support vector": wrong("wrong_mask", ds=lambda v: -v.y / v.m),
        "as for the squared hinge": wrong(
            "derivative_of_other_function", ds=lambda v: -2 * v.y * np.maximum(0, 1 - v.y * v.s) / v.m
        ),
        "the sign": wrong("constant_factor", ds=lambda v: np.where(v.y * v.s < 1, v.y, 0) / v.m),
        "no mean": wrong("missing_mean", ds=lambda v: np.where(v.y * v.s < 1, -v.y, 0)),
        "no penalty": wrong("missing_penalty", leaves="w", dw=lambda v: np.dot(v.X.T, v.ds)),
        "the penalty is doubled": wrong(
            "scaled_penalty", leaves="w", dw=lambda v: np.dot(v.X.T, v.ds) + 2 * v.lam * v.w
        ),
        "the bias is penalised": wrong("extra_penalty", leaves="b", db=lambda v: np.sum(v.ds, axis=0) + v.lam * v.b),
        "b is of the last example": wrong("bias_not_summed example_left_out", leaves="b", db=lambda v: v.ds[-1]),
    }


# --- a learned slope (PReLU), NumPy -----------------------------------------------------------------------------------


def slope():
    wrong = written(
        normal(116, W=(4, 3), b=4, k=4, V=(2, 4), X=(6, 3), Y=(6, 2)),
        "W b k V",
        forward={
            "m": lambda v: v.X.shape[0],
            "Z": lambda v: np.dot(v.X, v.W.T) + v.b,
            "A": lambda v: np.where(v.Z > 0, v.Z, v.k * v.Z),
            "out": lambda v: np.dot(v.A, v.V.T),
        },
        J=lambda v: np.sum((v.out - v.Y) ** 2) / v.m,
        backward={
            "dout": lambda v: 2 * (v.out - v.Y) / v.m,
            "dV": lambda v: np.dot(v.dout.T, v.A),
            "dA": lambda v: np.dot(v.dout, v.V),
            "dk": lambda v: np.sum(np.where(v.Z > 0, 0, v.dA * v.Z), axis=0),
            "dZ": lambda v: np.where(v.Z > 0, v.dA, v.k * v.dA),
            "dW": lambda v: np.dot(v.dZ.T, v.X),
            "db": lambda v: np.sum(v.dZ, axis=0),
        },
    )
    return wrong, {
        "relu' in dZ": wrong(
            "derivative_of_other_function path_left_out wrong_mask",
            leaves="W b",
            dZ=lambda v: np.where(v.Z > 0, v.dA, 0),
        ),
        "the sides are exchanged": wrong("wrong_mask", leaves="W b", dZ=lambda v: np.where(v.Z > 0, v.k * v.dA, v.dA)),
        "the side is that of A": wrong(
            "derivative_at_activation wrong_mask", leaves="W b", dZ=lambda v: np.where(v.A > 0, v.dA, v.k * v.dA)
        ),
        "the side is that of dA": wrong(
            "nonlinear_in_cotangent wrong_mask", leaves="W b", dZ=lambda v: np.where(v.dA > 0, v.dA, v.k * v.dA)
        ),
        "positive Z count in dk": wrong("wrong_mask", leaves="k", dk=lambda v: np.sum(v.dA * v.Z, axis=0)),
        "dk from A": wrong("stale_residual", leaves="k", dk=lambda v: np.sum(np.where(v.Z > 0, 0, v.dA * v.A), axis=0)),
        "dk is averaged": wrong(
            "bias_averaged extra_mean", leaves="k", dk=lambda v: np.mean(np.where(v.Z > 0, 0, v.dA * v.Z), axis=0)
        ),
        "the 2 of the square": wrong("constant_factor", dout=lambda v: (v.out - v.Y) / v.m),
        "examples are left out of V": wrong("example_left_out", leaves="V", dV=lambda v: np.dot(v.dout[1:].T, v.A[1:])),
        "V from Z": wrong("stale_residual", leaves="V", dV=lambda v: np.dot(v.dout.T, v.Z)),
    }


# --- cosine similarity of two projections -----------------------------------------------------------------------------


def cosine():
    eps = 0.1

    def length(u, eps=eps):
        return jnp.sqrt((u**2).sum(1, keepdims=True) + eps)

    wrong = written(
        normal(117, U=(3, 4), V=(2, 4), x=(6, 3), q=(6, 2), t=(6, 1)),
        "U V",
        forward={
            "m": lambda v: len(v.x),
            "a": lambda v: v.x @ v.U,
            "e": lambda v: v.q @ v.V,
            "na": lambda v: length(v.a),
            "ne": lambda v: length(v.e),
            "c": lambda v: (v.a * v.e).sum(1, keepdims=True) / (v.na * v.ne),
        },
        J=lambda v: ((v.c - v.t) ** 2).sum() / (2 * v.m),
        backward={
            "dc": lambda v: (v.c - v.t) / v.m,
            "da": lambda v: v.dc * (v.e / (v.na * v.ne) - v.c * v.a / v.na**2),
            "de": lambda v: v.dc * (v.a / (v.na * v.ne) - v.c * v.e / v.ne**2),
            "dU": lambda v: v.x.T @ v.da,
            "dV": lambda v: v.q.T @ v.de,
        },
        named="a e na ne c dc da de",
    )
    return wrong, {
        "the lengths are constants": wrong("path_left_out", "da", "U", da=lambda v: v.dc * v.e / (v.na * v.ne)),
        "the other length in the projection": wrong(
            "stale_residual", "da", "U", da=lambda v: v.dc * (v.e / (v.na * v.ne) - v.c * v.a / v.ne**2)
        ),
        "the other vector in the projection": wrong(
            "stale_residual", "de", "V", de=lambda v: v.dc * (v.a / (v.na * v.ne) - v.c * v.a / v.ne**2)
        ),
        "da and de are exchanged": wrong(
            "swapped_operands stale_residual other_leaf",
            "da",
            da=lambda v: v.dc * (v.a / (v.na * v.ne) - v.c * v.e / v.ne**2),
            de=lambda v: v.dc * (v.e / (v.na * v.ne) - v.c * v.a / v.na**2),
        ),
        "epsilon is forgotten": wrong(
            "guard_ignored",
            "da",
            "U",
            da=lambda v: v.dc * (v.e / (length(v.a, 0) * v.ne) - v.c * v.a / length(v.a, 0) ** 2),
        ),
        "the similarity's error is left out": wrong(
            "ignored_cotangent", "da", "U", da=lambda v: v.e / (v.na * v.ne) - v.c * v.a / v.na**2
        ),
        "the error is squared": wrong(
            "nonlinear_in_cotangent", "de", "V", de=lambda v: v.dc**2 * (v.a / (v.na * v.ne) - v.c * v.e / v.ne**2)
        ),
        "the sign": wrong("constant_factor", "dc", dc=lambda v: (v.t - v.c) / v.m),
        "1/m in U once more": wrong("extra_mean", "U", dU=lambda v: v.x.T @ v.da / v.m),
    }


# --- a mixture of spherical normals -----------------------------------------------------------------------------------


def mixture():
    wrong = written(
        normal(118, pi=3, M=(3, 2), ls=3, x=(7, 2)),
        "pi M ls",
        forward={
            "m": lambda v: len(v.x),
            "D": lambda v: ((v.x[:, None] - v.M) ** 2).sum(2),
            "l": lambda v: log_softmax(v.pi) - v.D * jnp.exp(-2 * v.ls) / 2 - 2 * v.ls,
        },
        J=lambda v: -logsumexp(v.l, axis=1).sum() / v.m,
        backward={
            "dl": lambda v: -softmax(v.l, axis=1) / v.m,
            "dpi": lambda v: v.dl.sum(0) - softmax(v.pi) * v.dl.sum(),
            "dD": lambda v: -v.dl * jnp.exp(-2 * v.ls) / 2,
            "dM": lambda v: 2 * (v.dD.sum(0)[:, None] * v.M - v.dD.T @ v.x),
            "dls": lambda v: (v.dl * (v.D * jnp.exp(-2 * v.ls) - 2)).sum(0),
        },
        named="D l dl dD",
    )
    return wrong, {
        "responsibilities over the examples": wrong("wrong_axis", "dl", dl=lambda v: -softmax(v.l, axis=0) / v.m),
        "the prior for the responsibilities": wrong(
            "stale_residual", "dl", dl=lambda v: -jnp.broadcast_to(softmax(v.pi), v.l.shape) / v.m
        ),
        "hard assignment": wrong("derivative_of_other_function", "dl", dl=lambda v: -one_hot(v.l.argmax(1), 3) / v.m),
        "no mean": wrong("missing_mean", "dl", dl=lambda v: -softmax(v.l, axis=1)),
        "the prior's normaliser is left out": wrong("path_left_out", "pi", dpi=lambda v: v.dl.sum(0)),
        "the precision is left out": wrong("path_left_out unknown", "dD", "M", dD=lambda v: -v.dl / 2),
        "only the means pull": wrong("path_left_out", "M", dM=lambda v: -2 * (v.dD.T @ v.x)),
        "the means' term is not weighted by the responsibilities": wrong(
            "ignored_cotangent path_left_out", "M", dM=lambda v: 2 * (v.M - v.dD.T @ v.x)
        ),
        "the deviation's normaliser is left out": wrong(
            "path_left_out", "ls", dls=lambda v: (v.dl * v.D * jnp.exp(-2 * v.ls)).sum(0)
        ),
        "the last component keeps its deviation": wrong(
            "single_entry", "ls", dls=lambda v: (v.dl * (v.D * jnp.exp(-2 * v.ls) - 2)).sum(0).at[-1].set(0)
        ),
        "ls of one example": wrong(
            "bias_not_summed example_left_out", "ls", dls=lambda v: (v.dl * (v.D * jnp.exp(-2 * v.ls) - 2))[-1]
        ),
    }


# --- triplet loss, NumPy ----------------------------------------------------------------------------------------------


def triplet():
    def active(v):
        return np.where(v.gap > 0, 1, 0)[:, None] / v.m

    wrong = written(
        normal(119, W=(4, 3), XA=(6, 4), XP=(6, 4), XN=(6, 4)),
        "W",
        forward={
            "m": lambda v: v.XA.shape[0],
            "A": lambda v: np.dot(v.XA, v.W),
            "P": lambda v: np.dot(v.XP, v.W),
            "N": lambda v: np.dot(v.XN, v.W),
            "gap": lambda v: np.sum((v.A - v.P) ** 2, axis=1) - np.sum((v.A - v.N) ** 2, axis=1) + 1,
        },
        J=lambda v: np.sum(np.maximum(0, v.gap)) / v.m,
        backward={
            "dA": lambda v: 2 * active(v) * (v.N - v.P),
            "dP": lambda v: 2 * active(v) * (v.P - v.A),
            "dN": lambda v: 2 * active(v) * (v.A - v.N),
            "dW": lambda v: np.dot(v.XA.T, v.dA) + np.dot(v.XP.T, v.dP) + np.dot(v.XN.T, v.dN),
        },
    )
    return wrong, {
        "the anchor is not trained": wrong("path_left_out", dW=lambda v: np.dot(v.XP.T, v.dP) + np.dot(v.XN.T, v.dN)),
        "the anchor misses the negative": wrong("path_left_out", dA=lambda v: 2 * active(v) * (v.A - v.P)),
        "satisfied triplets count": wrong(
            "wrong_mask",
            dA=lambda v: 2 * (v.N - v.P) / v.m,
            dP=lambda v: 2 * (v.P - v.A) / v.m,
            dN=lambda v: 2 * (v.A - v.N) / v.m,
        ),
        "the negative has the sign of the positive": wrong("constant_factor", dN=lambda v: 2 * active(v) * (v.N - v.A)),
        "positive and negative inputs are exchanged": wrong(
            "swapped_operands stale_residual",
            dW=lambda v: np.dot(v.XA.T, v.dA) + np.dot(v.XN.T, v.dP) + np.dot(v.XP.T, v.dN),
        ),
    }


ARCHITECTURES = {
    "weighted softmax": weighted_softmax(),
    "factorisation": factorisation(),
    "Poisson regression (NumPy)": poisson(),
    "Huber net": huber(),
    "gated recurrent net": gated(),
    "siamese net": siamese(),
    "RMS norm": rms_norm(),
    "batch norm (NumPy)": batch_norm(),
    "pooling": pooling(),
    "cross attention": cross_attention(),
    "GELU": gelu(),
    "variational autoencoder": variational(),
    "learned variance": variance(),
    "deep linear net (NumPy)": deep_linear(),
    "concatenated skips": concatenated(),
    "hinge (NumPy)": hinge(),
    "learned slope (NumPy)": slope(),
    "cosine similarity": cosine(),
    "mixture": mixture(),
    "triplet (NumPy)": triplet(),
}

RIGHT = {name: wrong() for name, (wrong, _) in ARCHITECTURES.items()}
FAULTS = {f"{name}: {fault}": wrong for name, (_, faults) in ARCHITECTURES.items() for fault, wrong in faults.items()}
