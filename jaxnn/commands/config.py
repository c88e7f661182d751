"""The commands' settings: frozen dataclasses whose fields are the flags. No JAX here, so that --help is quick."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TypeAlias, get_args, get_type_hints

import tyro
from tyro.conf import Positional, arg, subcommand

from jaxnn import catalogue
from jaxnn.storage import run_record

if TYPE_CHECKING:
    Activation: TypeAlias = str
    Initializer: TypeAlias = str
    Loss: TypeAlias = str
else:  # the names of the files that ship
    Activation = Literal[catalogue.names("activations")]
    Initializer = Literal[catalogue.names("initializers")]
    Loss = Literal[("auto", *catalogue.names("losses"))]


LEAST, MOST = 2.0**-126, (2 - 2.0**-23) * 2.0**127  # of the positive numbers of float32, and of bfloat16 about


def check_held(what: str, value: float | None, dtype: str) -> None:
    """ValueError: to compute in this dtype makes the number infinite, or 0 where it is not. what: how it is named."""
    if value and dtype != "float64" and not LEAST <= abs(value) <= MOST:
        becomes = "infinite" if abs(value) > MOST else "0"
        raise ValueError(f"{what} {value:g}, which is {becomes} in {dtype}: it must be {LEAST:.2g} to {MOST:.2g}.")


def check_whole(config: object, **least: int) -> None:
    """ValueError: a whole number among the settings is below its least, or would not fit into an int32."""
    for name, smallest in least.items():
        value = getattr(config, name)
        if value is not None and not smallest <= value < 2**31:
            raise ValueError(f"--{name.replace('_', '-')} is {value}: it must be {smallest} or more, and below 2³¹.")


@dataclass(frozen=True)
class Train:
    """Train a network by gradient descent, with the gradient derived by hand, and write a run folder."""

    data: Annotated[Positional[str], arg(metavar="SET")] = "breast_cancer"
    """breast_cancer, iris, wine, digits, diabetes or linnerud; or a .csv file, one example a line, the target last;
    or a .npz file with arrays x and y. Text, or at most 20 different whole numbers, in the target are classes."""
    model: Literal["perceptron", "vit", "gpt", "llama"] = "perceptron"
    """vit: a vision transformer of images. gpt or llama: a language model of a text, with flags of its own, see
    jaxnn train --model gpt --help."""
    hidden: tuple[int, ...] = (100,)
    """Units of each hidden layer, --hidden alone for none; of a vit the width of each block, all the same."""
    activation: Activation = "relu"
    """g of the hidden layers."""
    slope: float | None = None
    """Of an activation that has one: leaky_relu, for negative z (0.01 when not given)."""
    initializer: Initializer = "xavier"
    """Where the weights start."""
    loss: Loss = "auto"
    """auto: half squared error for values, sigmoid cross-entropy for two classes, softmax cross-entropy for more."""
    l2: float = 0.0
    """λ of the penalty λ/2 Σ W²."""
    optimizer: str = "adam"
    """Any optimiser of optax by its name: adam, sgd (plain gradient descent w ← w − α ∂J/∂w), adamw, rmsprop, …"""
    learning_rate: float | None = None
    """α (0.1 for sgd and 0.001 for the others when not given)."""
    epochs: int = 50
    """Passes over the training rows."""
    batch_size: int | None = 32
    """Examples of one update; 1: stochastic, None: all rows."""
    shuffle: bool = True
    """A new order in every epoch; --no-shuffle keeps that of the split."""
    target_cost: float | None = None
    """Stop at an epoch whose cost is at most this."""
    tolerance: float | None = None
    """Stop when no parameter changed by more than this in an epoch."""
    patience: int | None = None
    """Hold out a fifth of the training rows, and stop when their cost has not improved for this many epochs."""
    seed: int = 0
    """Of the split, the first weights and the order. The same seed gives the same run."""
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    """To compute in. With bfloat16 the parameters stay float32."""
    out: Path | None = None
    """The run folder to make (runs/SET, or runs/SET-2, … when not given)."""
    checkpoint_every: str = "1m"
    """How often, at most, the run is kept on disk while it goes on: a number and s, m or h."""
    resume: Annotated[Path | None, arg(metavar="RUN")] = None
    """Go on with this run, that was killed or interrupted, with its own settings."""
    cache: bool = True
    """Keep compiled programs in the user's cache folder, so that the next run starts sooner."""

    def check(self) -> None:
        """ValueError for a number out of range."""
        check_whole(self, epochs=1, batch_size=1, patience=1, seed=0)
        for name in ("l2", "target_cost", "tolerance"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < inf:
                raise ValueError(f"--{name.replace('_', '-')} is {value}: it must be a finite number, 0 or more.")
        if self.learning_rate is not None and not 0 < self.learning_rate < inf:
            raise ValueError(f"--learning-rate is {self.learning_rate}: it must be a positive number.")
        if self.slope is not None and not isfinite(self.slope):
            raise ValueError(f"--slope is {self.slope}: it must be a number.")
        for name in ("learning_rate", "l2", "slope", "target_cost", "tolerance"):
            check_held(f"--{name.replace('_', '-')} is", getattr(self, name), self.dtype)
        if min(self.hidden, default=1) < 1:
            raise ValueError(f"--hidden is {' '.join(map(str, self.hidden))}: a layer needs one unit at least.")
        seconds(self.checkpoint_every)


@dataclass(frozen=True)
class TrainText:
    """Train a language model on a text, with the gradient derived by hand, and write a run folder.

    The last tenth of the text is held out. AdamW (β 0.9 and 0.99), a learning rate that warms up and falls to a tenth
    along a cosine, gradients clipped by their norm.
    """

    data: Annotated[Positional[str], arg(metavar="TEXT")] = "documents"
    """A text file; documents: those of this project."""
    model: Literal["gpt", "llama"] = "gpt"
    """gpt: learned positions, LayerNorm, GELU. llama: rotary positions, RMSNorm, SwiGLU."""
    tokens: Literal["characters", "bytes"] = "characters"
    """What is predicted, one after the other."""
    context: int = 128
    """Tokens that are seen at once."""
    width: int = 128
    """Numbers that stand for a token; a multiple of heads."""
    layers: int = 4
    """Blocks of attention and a perceptron."""
    heads: int = 4
    """Of attention."""
    kv_heads: int | None = None
    """Of keys and values of a llama; divides heads, and is as many when not given."""
    keep: float = 1.0
    """The probability that dropout keeps a number."""
    batch_size: int = 12
    """Contexts of one batch."""
    accumulate: int = 1
    """Batches whose gradients are averaged for one update."""
    learning_rate: float = 0.001
    """The highest."""
    warm_up: int | None = None
    """Updates until it is reached (100, or a tenth of all if these are fewer, when not given)."""
    weight_decay: float = 0.1
    """Of the matrices named W."""
    clip: float = 1.0
    """The largest norm that a gradient may have."""
    epochs: int | None = None
    """Passes over the training text (4 when neither these nor --steps are given)."""
    steps: int | None = None
    """Batches to train on, in place of --epochs."""
    seed: int = 0
    """Of the first weights, the order and dropout. The same seed gives the same run."""
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    """To compute in. With bfloat16 the parameters stay float32."""
    out: Path | None = None
    """The run folder to make (runs/TEXT-MODEL, … when not given)."""
    checkpoint_every: str = "1m"
    """As in `jaxnn train` of tables."""
    resume: Annotated[Path | None, arg(metavar="RUN")] = None
    """Go on with this run, that was killed or interrupted, with its own settings."""
    cache: bool = True
    """Keep compiled programs in the user's cache folder, so that the next run starts sooner."""

    def check(self) -> None:
        """ValueError for a number out of range, or settings that contradict each other."""
        check_whole(self, context=1, width=1, layers=1, heads=1, kv_heads=1, batch_size=1, accumulate=1, warm_up=0)
        check_whole(self, epochs=1, steps=1, seed=0)
        for name, least in (("learning_rate", LEAST), ("clip", LEAST), ("weight_decay", 0.0)):
            value = getattr(self, name)
            if not least <= value <= MOST:
                raise ValueError(f"--{name.replace('_', '-')} is {value}: it must be {least:.2g} to {MOST:.2g}.")
        if not 0 < self.keep <= 1:
            raise ValueError(f"--keep is {self.keep}: it must be above 0, and 1 at most.")
        if self.epochs is not None and self.steps is not None:
            raise ValueError("--epochs and --steps both say how long: give one of them.")
        if self.kv_heads is not None and self.model != "llama":
            raise ValueError(f"--kv-heads is {self.kv_heads}: only a llama has them. Leave it out, or --model llama.")
        if self.kv_heads is not None and self.heads % self.kv_heads:
            raise ValueError(f"--kv-heads is {self.kv_heads}: it must divide the {self.heads} heads.")
        seconds(self.checkpoint_every)


@dataclass(frozen=True)
class Sweep:
    """Train many networks at once, of every width, learning rate and seed, and keep the best of them.

    A fifth of the training rows is held out; a network is as good as its lowest cost on these, and is kept as it was
    then; a width and learning rate are as good as the mean over the seeds. The run folder has results.csv, sweep.png,
    and what `jaxnn train` writes of the best network of the best setting.
    """

    data: Annotated[Positional[str], arg(metavar="SET")] = "breast_cancer"
    """As in `jaxnn train`."""
    widths: tuple[int, ...] = (8, 32, 100)
    """Units of the hidden layers, for each a group of networks."""
    layers: int = 1
    """How many hidden layers."""
    learning_rates: tuple[float, ...] = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03)
    """α."""
    seeds: int = 4
    """How many starts and orders of each."""
    activation: Activation = "relu"
    """g of the hidden layers."""
    initializer: Initializer = "xavier"
    """Where the weights start."""
    loss: Loss = "auto"
    """As in `jaxnn train`."""
    l2: float = 0.0
    """λ of the penalty λ/2 Σ W²."""
    optimizer: str = "adam"
    """Any optimiser of optax by its name."""
    epochs: int = 50
    """Passes over the training rows."""
    batch_size: int | None = 32
    """Examples of one update; 1: stochastic, None: all rows."""
    seed: int = 0
    """Of the split, and the first of the seeds."""
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    """To compute in. With bfloat16 the parameters stay float32."""
    out: Path | None = None
    """The run folder to make (runs/SET-sweep, … when not given)."""
    checkpoint_every: str = "1m"
    """As in `jaxnn train`."""
    resume: Annotated[Path | None, arg(metavar="RUN")] = None
    """Go on with this run, that was killed or interrupted, with its own settings."""
    cache: bool = True
    """Keep compiled programs in the user's cache folder, so that the next run starts sooner."""

    def check(self) -> None:
        """ValueError for a number out of range."""
        for name, least in (("layers", 1), ("seeds", 1)):
            if not least <= getattr(self, name) <= 10_000:
                raise ValueError(f"--{name} is {getattr(self, name)}: it must be {least} to 10000.")
        for name in ("widths", "learning_rates"):
            if not getattr(self, name):
                raise ValueError(f"--{name.replace('_', '-')} is empty: give one at least.")
        if min(self.widths) < 1:
            raise ValueError(f"--widths are {' '.join(map(str, self.widths))}: a layer needs one unit at least.")
        if not all(0 < rate < inf for rate in self.learning_rates):
            raise ValueError(f"--learning-rates are {' '.join(map(str, self.learning_rates))}: give positive numbers.")
        for rate in self.learning_rates:
            check_held("--learning-rates has", rate, self.dtype)
        self.network(self.widths[0]).check()

    def network(self, width: int, learning_rate: float | None = None) -> Train:
        """The settings of `jaxnn train` for one of the networks; seed: that of the split."""
        names = {field.name for field in fields(Train)} & {field.name for field in fields(Sweep)}
        shared = {name: getattr(self, name) for name in names}
        return Train(**shared, hidden=(width,) * self.layers, learning_rate=learning_rate, patience=self.epochs)


@dataclass(frozen=True)
class Sample:
    """Let a language model go on with a text: the prompt and what comes after it, on the standard output."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """A run folder of a language model."""
    prompt: str | None = None
    """What the text begins with (a line end, or the first character that the model knows, when not given)."""
    tokens: int = 200
    """How many more, characters or bytes."""
    temperature: float = 0.8
    """By which the logits are divided; 0: always the likeliest token."""
    top_k: int | None = 50
    """Only so many of the likeliest tokens are drawn; None: all."""
    seed: int = 0
    """Of the draws. The same seed gives the same text."""

    def check(self) -> None:
        """ValueError for a number out of range, or an empty prompt."""
        check_whole(self, tokens=1, top_k=1, seed=0)
        if not 0 <= self.temperature < inf:
            raise ValueError(f"--temperature is {self.temperature}: it must be a finite number, 0 or more.")
        if self.prompt == "":
            raise ValueError("--prompt is empty: give one character at least, or leave it out.")


@dataclass(frozen=True)
class Predict:
    """Predict the target of new rows with a trained run; CSV on the standard output, or into a file."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """A run folder of `jaxnn train`."""
    rows: Annotated[Positional[Path], arg(metavar="ROWS")]
    """Rows of the form the run was trained on, without the target: a .csv file, or a .npz file with an array x."""
    out: Path | None = None
    """The .csv file to write."""


class Step(NamedTuple):
    """A function in a user's file."""

    file: Path
    name: str


@dataclass(frozen=True)
class Verify:
    """Decide in ball arithmetic whether a gradient derived by hand is right: that in your own FILE.py or, without one,
    those of every layer and loss that ships and of a set of networks.

    FILE.py defines cost(params, *data), grad(params, *data) and example(key) -> (params, *data), in JAX or NumPy.
    With --rules it is every custom_vjp and custom_jvp that a function of yours calls, whoever wrote it.
    Exit code 0: all PASS; 1: a FAIL; 3: no FAIL, but something INCONCLUSIVE; 2: bad input, or a file without a verdict.
    """

    file: Annotated[Positional[Path | None], arg(metavar="FILE.py")] = None
    """Your formulas."""
    rules: Annotated[str | None, arg(metavar="FILE.py:STEP")] = None
    """Every custom rule that STEP calls, a function in FILE.py such as a training step. There,
    example(key) returns the tuple of its arguments."""
    new: Annotated[Path | None, arg(metavar="FILE.py")] = None
    """Write a commented example of such a file, to put your own formulas in."""
    html: Annotated[Path | None, arg(metavar="FILE")] = None
    """Write one self-contained page, with heat maps of the error of every entry."""
    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """Write all that was found."""
    key: int = 0
    """Seed of everything random: the same key meets the same points."""
    points: Literal["auto", "given"] = "auto"
    """auto: the parameters are redrawn, small, large, at zeros and ties; given: only what example returns."""
    digits: float | None = None
    """Decimal digits that must agree (12 when not given)."""
    strict: bool = False
    """INCONCLUSIVE where a side of a branch was met by no point."""
    require: Literal["exact"] | None = None
    """exact: INCONCLUSIVE where ball arithmetic cannot decide, instead of a decision in floating point."""
    power: bool = False
    """Also change the rule as mistakes would, and say which changes were noticed."""

    @property
    def step(self) -> Step | None:
        """What --rules means."""
        file, _, name = (self.rules or "").rpartition(":")
        return Step(Path(file), name) if self.rules else None

    def check(self) -> None:
        """ValueError for settings that are out of range or contradict each other."""
        if not 0 <= self.key < 2**31:
            raise ValueError(f"--key is {self.key}: it must be 0 or more, and below 2³¹.")
        if self.digits is not None and not 0 < self.digits <= 1000:
            raise ValueError(f"--digits is {self.digits}: it must be a positive number, 1000 at most.")
        if self.rules and (self.file or self.new or self.power):
            raise ValueError("--rules asks of the rules in its own file: give it without FILE.py, --new and --power.")
        if self.step and not (self.step.file.name and self.step.name.isidentifier()):
            raise ValueError(f"--rules {self.rules}: give a file and a function in it, such as train.py:step.")
        if self.new and (self.file or self.html or self.json):
            raise ValueError("--new writes a file and verifies nothing: give it alone, then verify the file.")
        if self.html and self.html == self.json:
            raise ValueError(f"--html and --json are both {self.html}: give them different names.")


OF_A_NEW_NETWORK = ("hidden", "activation", "initializer", "loss", "l2")  # flags of explain


@dataclass(frozen=True)
class Explain:
    """Show the forward pass, the chain rule and the update of a network, link by link, with shapes and values."""

    what: Annotated[Positional[str], arg(metavar="SET, RUN or FILE.py")] = "iris"
    """Data as `jaxnn train` takes, for a new network of the flags below; a run folder of `jaxnn train`; or your own
    cost, grad and example, a file as `jaxnn verify` takes."""
    hidden: tuple[int, ...] = (5,)
    """Units of each hidden layer; --hidden alone for none."""
    activation: Activation = "sigmoid"
    """g of the hidden layers."""
    initializer: Initializer = "xavier"
    """Where the weights start."""
    loss: Loss = "auto"
    """As in `jaxnn train`."""
    l2: float = 0.0
    """λ of the penalty λ/2 Σ W²."""
    examples: int = 6
    """How many of the training rows."""
    notation: Literal["rows", "columns", "wtx"] = "rows"
    """rows: x Wᵀ + b; columns: W x + b; wtx: Wᵀ x + b with W (n_in, n_out)."""
    learning_rate: float = 0.1
    """α of the update."""
    seed: int = 0
    """Of the split and the first weights."""
    latex: Annotated[Path | None, arg(metavar="FILE")] = None
    """Write the derivation for a paper: an align* environment."""
    html: Annotated[Path | None, arg(metavar="FILE")] = None
    """Write a page: the network drawn, to step through its links and through iterations of gradient descent."""
    iterations: int = 20
    """How many of these the page has."""

    def check(self) -> None:
        """ValueError for a number out of range."""
        if not 1 <= self.examples < 2**31:
            raise ValueError(f"--examples is {self.examples}: it must be 1 or more.")
        if not 1 <= self.iterations <= 1000:
            raise ValueError(f"--iterations is {self.iterations}: it must be 1 to 1000.")
        if self.html and self.html == self.latex:
            raise ValueError(f"--html and --latex are both {self.html}: give them different names.")
        if not 0 <= self.l2 < inf:
            raise ValueError(f"--l2 is {self.l2}: it must be a finite number, 0 or more.")
        if not 0 < self.learning_rate < inf:
            raise ValueError(f"--learning-rate is {self.learning_rate}: it must be a positive number.")
        for name in ("learning_rate", "l2"):
            check_held(f"--{name.replace('_', '-')} is", getattr(self, name), "float32")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"--seed is {self.seed}: it must be 0 or more, and below 2³¹.")
        if min(self.hidden, default=1) < 1:
            raise ValueError(f"--hidden is {' '.join(map(str, self.hidden))}: a layer needs one unit at least.")

    def refuse(self, *names: str) -> None:
        """ValueError: one of these flags, which are of a new network, is given for a run or a file."""
        for name in names:
            if getattr(self, name) != getattr(Explain, name):
                raise ValueError(f"--{name} is of a new network, and {self.what} has its own: leave it out.")


def seconds(text: str) -> float:
    """Those of "90s", "1m" or "2h". ValueError: anything else."""
    number, unit = text[:-1], text[-1:]
    if unit not in UNITS or not number.replace(".", "", 1).isdecimal():
        raise ValueError(f"--checkpoint-every is {text}: give a number and s, m or h, such as 30s or 1m.")
    return float(number) * UNITS[unit]


UNITS = {"s": 1, "m": 60, "h": 3600}

AnyCommand: TypeAlias = Train | TrainText | Sweep | Sample | Predict | Verify | Explain
Command = (
    Annotated[Train, subcommand("train")]
    | Annotated[Sweep, subcommand("sweep")]
    | Annotated[Sample, subcommand("sample")]
    | Annotated[Predict, subcommand("predict")]
    | Annotated[Verify, subcommand("verify")]
    | Annotated[Explain, subcommand("explain")]
)
COMMANDS: dict[str, type] = {name.name: command for command, name in map(get_args, get_args(Command))}
LANGUAGE_MODELS = get_args(get_type_hints(TrainText)["model"])


def class_of(args: Sequence[str]) -> type:
    """That of the settings of this command line, whose first word is a command: `train` has two."""
    kind = COMMANDS[args[0]]
    if kind is not Train:
        return kind
    run = value_of("--resume", args)
    model: object = value_of("--model", args)
    if run is not None:
        with suppress(ValueError):  # it is said where the settings are read
            model = run_record.settings_of(Path(run), "train").get("model")
    return TrainText if model in LANGUAGE_MODELS else Train


def value_of(flag: str, args: Sequence[str]) -> str | None:
    """What is given for a flag; None if it is not there."""
    for word, following in pairwise([*args, ""]):
        name, equals, value = word.partition("=")
        if name == flag:
            return value if equals else following
    return None


def parsed(args: Sequence[str]) -> AnyCommand:
    """The command that is meant; one that goes on with a run has the settings of that run. What is wrong with a flag,
    or --help, ends Python with a message.

    ValueError: no such run; a flag that is not as it was then.
    """
    config: AnyCommand
    if args and args[0] == "train" and class_of(args) is TrainText:
        config = tyro.cli(TrainText, args=args[1:], prog="jaxnn train")
    else:
        config = tyro.cli(
            Command,
            args=args,
            prog="jaxnn",
            description="Neural networks with gradients derived by hand. jaxnn --version: which version this is.",
        )
    if not isinstance(config, (Train, TrainText, Sweep)) or config.resume is None:
        return config
    settings = run_record.settings_of(config.resume, args[0])
    names = {field.name for field in fields(config)}
    if not settings.keys() <= names:
        raise ValueError(f"{config.resume} is of another version of jaxnn: begin the run anew.")
    before = tyro.cli(type(config), args=words(settings))
    given = {arg.partition("=")[0].removeprefix("--").removeprefix("no-").replace("-", "_") for arg in args}
    for name in names - {*OF_THE_PROCESS, "resume"}:
        new, old = getattr(config, name), config.resume if name == "out" else getattr(before, name)
        if new != old and (name in given or new != getattr(type(config)(), name)):
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} is {new}, and {config.resume} was begun with {old}: leave it out.")
    return replace(before, resume=config.resume, **{name: getattr(config, name) for name in OF_THE_PROCESS})


OF_THE_PROCESS = ("cache", "checkpoint_every")  # may be other ones where a run goes on
NOT_OF_THE_RUN = (*OF_THE_PROCESS, "resume", "out")


def words(settings: Mapping[str, object]) -> list[str]:
    """The command line that gives these settings."""
    line = [str(settings["data"])] if "data" in settings else []
    for name, value in settings.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            line.append(f"--{flag}" if value else f"--no-{flag}")
        elif name != "data":
            values = value if isinstance(value, list | tuple) else [value]
            line += [f"--{flag}", *map(str, values)]
    return line
