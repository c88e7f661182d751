"""The command `jaxnn`. What it runs, and JAX with it, is imported after its arguments are read: --help never waits."""

import os
import signal
import sys
from io import TextIOWrapper

import tyro

from jaxnn.commands.config import Command, Explain, Predict, Sweep, Verify


def main(args=None):
    """Runs a command. Exit code 0: done; 2: bad input, one sentence says what; 130: interrupted; of verify, 1: a FAIL,
    3: nothing worse than INCONCLUSIVE."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # where there is no λ, ? is shown
    try:
        config = tyro.cli(
            Command, args=args, prog="jaxnn", description="Neural networks with gradients derived by hand."
        )
        if not isinstance(config, Predict):
            config.check()
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupted import of JAX is a long traceback
        if isinstance(config, Verify):
            from jaxnn.commands.verify import verify as command
        elif isinstance(config, Explain):
            from jaxnn.commands.explain import explain as command
        elif isinstance(config, Sweep):
            from jaxnn.commands.sweep import sweep as command
        elif isinstance(config, Predict):
            from jaxnn.commands.predict import predict as command
        else:
            from jaxnn.commands.train import train as command

        signal.signal(signal.SIGINT, before)
        code = command(config)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # who reads the output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        print(f"jaxnn: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("jaxnn: interrupted; nothing is written.", file=sys.stderr, flush=True)
        os._exit(130)  # a Python that ends in the middle of a compilation can crash
