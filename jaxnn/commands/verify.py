"""What `jaxnn verify` does."""

import importlib.metadata
import json
import platform
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
from jax import Array
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from jaxnn import catalogue, ops
from jaxnn import verify as verifier
from jaxnn.commands.answer import Answer
from jaxnn.commands.config import Verify
from jaxnn.commands.own_file import check_writable, own_functions, python_file
from jaxnn.commands.verify_step import rules_in
from jaxnn.examples import LAYERS, LOSSES, OPS, draw_arguments, draw_params, draw_x, draw_y, draw_z
from jaxnn.models.perceptron import perceptron
from jaxnn.penalty import L2
from jaxnn.protocols import PyTree
from jaxnn.verify import FAIL, INCONCLUSIVE, PASS, Report, RulesReport
from jaxnn.verify.reports.later import Questions
from jaxnn.verify.reports.page import page
from jaxnn.verify.reports.words import shown
from jaxnn.verify.waiting import aloud

STYLES = {PASS: "bold green", FAIL: "bold red", INCONCLUSIVE: "bold yellow"}
EXIT_CODES = {PASS: 0, FAIL: 1, INCONCLUSIVE: 3}
Keywords = dict[str, PyTree]  # the keywords of a question of jaxnn.verify


def verify(config: Verify) -> int:
    """What needs no file of the user's: a new one, or all that ships. Exit code: as of `answer`."""
    console = Console(highlight=False)
    if config.new:
        path = python_file(config.new)
        write_template(path)
        console.print(f"Written to {path}: put your formulas in, then run: jaxnn verify {path}", markup=False)
        return 0
    check_writable((config.html, config.json))
    return answer(config, reports_on_all(options_of(config), console, config.power)).give()


def options_of(config: Verify) -> Keywords:
    """The flags that are options of every question."""
    return {name: getattr(config, name) for name in ("key", "points", "digits", "strict", "require")}


def answer(config: Verify, reports: Sequence[Report], text: str = "") -> Answer:
    """The text and what is wished for in files. Exit code 0: all PASS; 1: a FAIL; 3: no FAIL, but something
    INCONCLUSIVE."""
    verdicts = {report.verdict for report in reports}
    verdict = next((v for v in (FAIL, INCONCLUSIVE) if v in verdicts), PASS)
    files = {str(config.html): page(reports)} if config.html else {}
    if config.json:
        versions = {"jaxnn": importlib.metadata.version("jaxnn-verified"), "jax": jax.__version__}
        versions["python"] = platform.python_version()
        findings = {"verdict": verdict, "versions": versions, "reports": [r.to_dict() for r in reports]}
        files[str(config.json)] = json.dumps(findings, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    return Answer(EXIT_CODES[verdict], text, files)


# Everything that ships

SHAPES = (  # of networks with 4 inputs: widths of the hidden layers, examples, λ; no two sizes of a network are equal
    ((6, 2), 5, 0.3),
    ((5,), 7, None),
    ((1,), 5, None),
    ((5, 2), 1, None),
)


def rules(options: Keywords) -> Iterator[tuple[str, Callable[[], Report]]]:
    """(name, function that makes the report) of every op, layer and loss, and a network for each activation and each
    loss."""
    rng = np.random.default_rng(options["key"])
    for op, examples in OPS.items():
        name = next(iter(examples))
        arguments = draw_arguments(examples[name], rng, np.float32)
        arrays = {k: v for k, v in arguments.items() if isinstance(v, jax.Array)}
        settings = {k: v for k, v in arguments.items() if k not in arrays}
        yield f"ops.{op}, {name}", partial(verifier.custom_vjp, of_arrays(op, settings), arrays, **options)
    for name, example in LAYERS.items():
        x, params = draw_x(example, rng, np.float32), draw_params(example.layer, rng, np.float32)
        yield name, partial(verifier.layer, example.layer, x, params, **options)
    for name, case in LOSSES.items():
        z, y = draw_z(case, rng, np.float32), draw_y(case.target, rng, case.shape, np.float32)
        yield name, partial(verifier.loss, case.loss, z, y, **options)
        w = rng.uniform(0.1, 2, case.shape[:-1]).astype(np.float32)
        yield f"{name}, weighted", partial(verifier.loss, case.loss, z, y, w, **options)
    yield from networks(options, rng)


def of_arrays(op: str, settings: Keywords) -> Callable[[Mapping[str, Array]], PyTree]:
    """An op as a function of its arrays by their names."""
    return lambda arrays: getattr(ops, op)(**arrays, **settings)


def networks(options: Keywords, rng: np.random.Generator) -> Iterator[tuple[str, Callable[[], Report]]]:
    """The same of a network for each activation and each loss."""
    activations, shapes = catalogue.names("activations"), cycle(SHAPES)
    columns = zip(cycle(activations), cycle(LOSSES.items()), strict=False)
    for activation, (name, case) in islice(columns, max(len(activations), len(LOSSES))):
        hidden, m, lam = next(shape for shape in shapes if case.shape[-1] not in shape[0])
        hidden = () if activation == "identity" else hidden  # one layer: logistic regression
        widths = (4, *hidden, case.shape[-1])
        model = perceptron(widths, activation, case.loss)
        x = rng.normal(size=(m, 4))
        y = draw_y(case.target, rng, (m, widths[-1]), np.float32)
        params = draw_params(model, rng, np.float32)
        words = ["–".join(map(str, widths)), activation, name, "L2" if lam else "", "one example" if m == 1 else ""]
        parts = (model, case.loss, x.astype(np.float32), y, params, L2(lam) if lam else None)
        yield ", ".join(filter(None, words)), partial(verifier.model, *parts, **options)


def reports_on_all(options: Keywords, console: Console, power: bool) -> list[Report]:
    """A report on each rule that ships; printed are a table of them, and in full those that are not PASS."""
    named, reports = list(rules(options)), []
    right = partial(Column, justify="right")
    grid = Table("rule", right("points"), "verdict", right("digits"), right("hand"), right("jax.grad"), right("time"))
    if power:
        grid.add_column("noticed", justify="right")
    columns = (
        TextColumn("verifying"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[rule]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(named), rule="")
        for name, ask in named:
            progress.update(task, rule=name)
            report = in_float32(replace(ask(), title=name))
            grid.add_row(*row(report), *([noticed(report)] if power else []))
            reports.append(report)
            progress.update(task, advance=1, rule="")
    console.print(grid)
    console.print("hand, jax.grad: correct digits of the least accurate array, computed in float32.")
    if power:
        console.print("noticed: of the changes of the rule that make it wrong, how many these points would notice.")
    print_doubtful(reports, console)
    return reports


def in_float32(report: Report) -> Report:
    """The report, whose precision will be measured in float32 alone."""
    if not isinstance(report.later, Questions):
        return report
    return replace(report, later=replace(report.later, dtypes=("float32",)))


def row(report: Report) -> tuple[str | Text, ...]:
    """The cells of a report in the table."""
    decided = sum(p.verdict != INCONCLUSIVE for p in report.points)
    worst = min(report.precision, key=lambda g: g.hand_digits, default=None)
    return (
        Text(report.title),
        f"{decided}" if decided == len(report.points) else f"{decided} of {len(report.points)}",
        Text(report.verdict, STYLES[report.verdict]),
        "–" if report.verdict == INCONCLUSIVE else shown(report.digits),
        shown(worst.hand_digits) if worst else "–",
        shown(worst.autodiff_digits) if worst else "–",
        f"{report.seconds:.2f} s",
    )


def noticed(report: Report) -> str:
    """How many changes of the rule the report would notice."""
    power = report.power()
    return f"{power.killed} of {power.non_equivalent}" if power else "–"


def print_doubtful(reports: Sequence[Report], console: Console) -> None:
    """Prints in full the reports that are not PASS, or that would not notice some change; then the counts."""
    doubtful = [r for r in reports if not r.ok or has_survivors(r)]
    for report in doubtful:
        console.print()
        show(report, console)
    console.print()
    if not doubtful:
        console.print(Text.assemble(f"{len(reports)} rules: all ", (PASS, STYLES[PASS])))
        return
    numbers = Counter(report.verdict for report in reports)
    counts = ", ".join(f"{numbers[v]} {v}" for v in (FAIL, INCONCLUSIVE, PASS) if numbers[v])
    names = "; ".join(report.title for report in doubtful)
    console.print(Text(f"{len(reports)} rules: {counts}: {names}"), soft_wrap=True)


def has_survivors(report: Report) -> bool:
    """Whether the power was asked for, and some change of the rule would not be noticed."""
    power = report.power() if report.has_power else None
    return power is not None and len(power.survivors) > 0


def show(report: Report | RulesReport, console: Console) -> None:
    """Prints the whole report, its verdict in colour."""
    text = Text(str(report))
    text.stylize(STYLES[report.verdict], 0, len(report.verdict))
    console.print(text, soft_wrap=True)


# A user's file


def answer_on_file(config: Verify, path: Path, module: ModuleType) -> Answer:
    """On the gradient or the rules in a file of the user's, imported. ValueError says in a sentence what is missing."""
    console, options = Console(highlight=False), options_of(config)
    with console.status(f"verifying {path.name}"):
        if config.step:
            step = rules_in(path, config.step.name, module, options)
            with console.capture() as shown:
                show(step, console)
            return answer(config, step.reports, shown.get())
        cost, grad, args = own_functions(path, module, options["key"])
        domain = getattr(module, "domain", None)
        domain = domain if isinstance(domain, dict) else None  # a name that files may use for something else
        with aloud():
            report = verifier.gradient(cost, grad, *args, draw=module.example, domain=domain, **options)
        replay = f"jaxnn verify {shlex.quote(str(path))}{flags(options)}"
        report = replace(report, title=f"gradient in {path.name}", replay=replay)
        if config.power:
            report.power()
        with console.capture() as shown:  # measures the precision and looks for causes, which runs the user's code
            show(report, console)
        return answer(config, [report], shown.get())


def flags(options: Keywords) -> str:
    """The flags that give these options, in so far as they are no defaults."""
    text = ""
    for name, value in options.items():
        if value is True:
            text += f" --{name}"
        elif value not in (None, False, "auto"):
            text += f" --{name} {value:g}" if isinstance(value, float) else f" --{name} {value}"
    return text


def write_template(path: Path) -> None:
    """Writes the template, and never over another file. ValueError: it has no .py, or cannot be written."""
    if path.suffix != ".py":
        raise ValueError(f"--new {path}: the name of a Python file ends in .py.")
    template = Path(__file__).with_name("verify_template.py").read_text(encoding="utf-8")
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(template.replace("THIS_FILE", path.name))
    except FileExistsError:
        raise ValueError(f"{path} is there already: give another name.") from None
    except OSError as error:
        raise ValueError(f"Cannot write {path}: {error.strerror}.") from None
