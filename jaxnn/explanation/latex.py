"""Symbols and formulas of an explanation in LaTeX."""

import re
import unicodedata

NAME = r"[A-Za-zα-ω][A-Za-zα-ω0-9_]*(?:\[[0-9]+\])*(?:′+|⁽[⁰¹²³⁴⁵⁶⁷⁸⁹]+⁾)?"
RAISED, LOWERED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹⁽⁾", "-0123456789()"), str.maketrans("ᵢₖ₀₁₂₃₄₅₆₇₈₉", "ik0123456789")
GREEK = {"alpha", "beta", "gamma", "delta", "epsilon", "eta", "theta", "kappa", "lambda", "mu", "nu", "xi", "pi", "rho"}
GREEK |= {"sigma", "tau", "phi", "chi", "psi", "omega"}
LETTERS = {unicodedata.lookup(f"GREEK SMALL LETTER {name.upper().replace('LAMBDA', 'LAMDA')}"): name for name in GREEK}
LATEX = {
    **{"ᵀ": r"^{\top}", "Σᵢ": r"\sum_i ", "Σₖ": r"\sum_k ", "Σ": r"\sum ", "⊙": r"\odot", "−": "-", "½": r"\tfrac12"},
    **{"√": r"\surd ", "ŷ": r"\hat y", "σ": r"\sigma", "Φ": r"\Phi", "φ": r"\varphi", "1/m": r"\tfrac1m"},
    **{name: rf"\{name} " for name in ("tanh", "max", "min", "exp", "log")},
    **{
        name: rf"\text{{{name}}}"
        for name in ("softmax", "given", "the weights", "the biases", "the parameters", "the examples")
    },
    **{f" {name} ": rf"\text{{ {name} }}" for name in ("if", "else")},
    **{"·": r" \cdot ", "≥": r"\ge ", "≤": r"\le ", "≠": r"\ne ", "×": r"\times ", "…": r"\dots "},
}
PHRASES = [re.escape(sign) for sign in LATEX if " " in sign]
MARKS = [
    "(?P<up>[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)",
    "(?P<down>[₀₁₂₃₄₅₆₇₈₉]+|[ᵢₖ])",
    r"(?P<function>[a-z][a-z_0-9]*)(?=[ᵢₖ₀₁₂₃₄₅₆₇₈₉]*\()",
]
OTHERS = map(re.escape, sorted(LATEX, key=len)[::-1])
SIGNS = re.compile("|".join([rf"∂J/∂(?P<of>{NAME})", *PHRASES, *MARKS, NAME, *OTHERS]))


def latex(text: str) -> str:
    """A symbol or formula of ours in LaTeX."""

    def sign(mark: re.Match) -> str:
        if mark["of"]:
            return rf"\frac{{\partial J}}{{\partial {name(mark['of'])}}}"
        if mark["up"]:
            return f"^{{{mark['up'].translate(RAISED)}}}"
        if mark["down"]:
            return f"_{{{mark['down'].translate(LOWERED)}}}"
        if mark["function"] and mark[0] not in LATEX:
            return r"\operatorname{" + mark[0].replace("_", r"\_") + "}"
        return LATEX.get(mark[0]) or name(mark[0])

    return SIGNS.sub(sign, text)


def name(text: str) -> str:
    """z1 with its index, W1_2 with both, Greek letters as such, other names of several letters as one."""
    ((letters, index, entry, primes, raised),) = re.findall(r"^(.*?)(\d*(?:_\d+)?)((?:\[\d+\])*)(′*)(⁽.*⁾)?$", text)
    index = index.replace("_", ",").removeprefix(",")
    letters = LETTERS.get(letters, letters)
    if letters in GREEK:
        letters = rf"\{letters} "
    elif len(letters) > 1:
        letters = r"\mathit{" + letters.replace("_", r"\_") + "}"
    out = letters + (f"_{{{index}}}" if index else "") + entry + "'" * len(primes)
    return f"{{{out}^{{{raised.translate(RAISED)}}}}}" if raised else out


def latex_shape(shape: tuple[int, ...]) -> str:
    sizes = r" \times ".join(map(str, shape))
    return f"({sizes})" if shape else ""
