"""What a property test need not follow. Once an example has failed, Hypothesis traces every line of all that run after
it, to say which lines made it fail: of JAX's and of ours too, which takes several times as long as they do."""

import contextlib
import sys
from collections.abc import Iterator

SCRUTINEER = 3, "scrutineer"  # the number and name of Hypothesis's tool, from Python 3.12 on


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Keeps Hypothesis from tracing what runs within; any other tracer, of a debugger or for coverage, stays."""
    if sys.version_info >= (3, 12):
        number, name = SCRUTINEER
        if sys.monitoring.get_tool(number) != name:
            yield
            return
        events = sys.monitoring.get_events(number)
        sys.monitoring.set_events(number, 0)
        try:
            yield
        finally:
            sys.monitoring.set_events(number, events)
    else:
        trace = sys.gettrace()
        is_hypothesis = (getattr(trace, "__module__", None) or "").startswith("hypothesis.")
        if is_hypothesis:
            sys.settrace(None)
        try:
            yield
        finally:
            if is_hypothesis:
                sys.settrace(trace)
