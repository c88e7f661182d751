"""The command `jaxnn`. What it runs, and JAX with it, is imported after its arguments are read: --help never waits."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from io import TextIOWrapper

from jaxnn.commands.config import AnyCommand, Explain, Predict, Sample, Sweep, TrainText, Verify, parsed
from jaxnn.commands.spelling import mistake
from jaxnn.signals import INTERRUPTED, Heard, heard


def main(args: Sequence[str] | None = None, ends: Heard | None = None) -> int:
    """Runs a command. Exit code 0: done; 1: a training that diverged, or a FAIL of verify or explain; 2: bad input, one
    sentence says what; 3: of verify and explain, no FAIL but an INCONCLUSIVE; 130, 143 or 129: interrupted by SIGINT,
    SIGTERM or SIGHUP. ends: by which of these the process is ended, where it hears them already."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # an encoding without λ prints ?
    args = sys.argv[1:] if args is None else args
    with heard() if ends is None else nullcontext(ends) as ends:
        return exit_code(args, ends)


def exit_code(args: Sequence[str], ends: Heard) -> int:
    """That of the command, run."""
    code = 0
    try:
        if list(args) == ["--version"]:
            print(f"jaxnn {version()}")
            return 0
        mistyped = mistake(args)
        if mistyped:
            raise ValueError(mistyped)
        config = parsed(args)
        if not isinstance(config, Predict):
            config.check()
        ends.at_once = True  # an interrupted import of JAX is a long traceback
        run = command_of(config, args)
        ends.at_once = False
        code = run()
        sys.stdout.flush()
        return ends.exit_code if code == INTERRUPTED else code
    except BrokenPipeError:  # the reader, such as head, closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code
    except (ValueError, OSError) as error:
        tell(f"jaxnn: {error}")
        return 2
    except KeyboardInterrupt as error:
        tell(f"jaxnn: interrupted; {str(error) or 'nothing is written.'}")
        os._exit(ends.exit_code)  # a Python that ends in the middle of a compilation can crash


def tell(sentence: str) -> None:
    """Says why a command ended, if anybody still hears it."""
    with suppress(OSError):
        print(sentence, file=sys.stderr, flush=True)


def command_of(config: AnyCommand, args: Sequence[str]) -> Callable[[], int]:
    """What runs the command, whose imports take a second; a user's file in a process of its own."""
    if isinstance(config, (Verify, Explain)):
        from jaxnn.commands.own_file import file_of

        path = file_of(config)
        if path:
            from jaxnn.commands.own_process import ask

            return lambda: ask(path, args).give()
    if isinstance(config, Verify):
        from jaxnn.commands.verify import verify

        return lambda: verify(config)
    if isinstance(config, Explain):
        from jaxnn.commands.explain import explain

        return lambda: explain(config)
    if isinstance(config, Sweep):
        from jaxnn.commands.sweep import sweep

        return lambda: sweep(config)
    if isinstance(config, Predict):
        from jaxnn.commands.predict import predict

        return lambda: predict(config)
    if isinstance(config, Sample):
        from jaxnn.commands.sample import sample

        return lambda: sample(config)
    if isinstance(config, TrainText):
        from jaxnn.commands.train_text import train_text

        return lambda: train_text(config)
    from jaxnn.commands.train import train

    return lambda: train(config)


def version() -> str:
    """The version of the package that is installed."""
    import importlib.metadata  # for --version alone

    return importlib.metadata.version("jaxnn-verified")
