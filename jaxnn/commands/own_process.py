"""A user's FILE.py in a process of its own: what it answers is true, or there is no answer. No JAX in the parent.

    parent                                child
    starts it                       →     imports FILE.py
    makes a nonce                   ←     "imported"
                                    →     runs example, cost and grad
    gives the answer                ←     the answer, with the nonce

What runs at import cannot know a nonce that is not yet made, and a process that ends in any way has sent none, or no
whole line. So whatever ends the child, exit code 0, 1 or 3 is that of a verdict.
"""

import faulthandler
import json
import os
import queue
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, NoReturn

from jaxnn.commands.answer import Answer
from jaxnn.commands.config import Explain, Verify, parsed
from jaxnn.commands.own_file import imported, in_users_words, lines_in

Message = Mapping[str, Any]  # one line of JSON
SECONDS = 1.0  # that a child may take to end when it has said all


def ask(path: Path, args: Sequence[str]) -> Answer:
    """What the command `jaxnn *args` finds in the file, told by a child. ValueError: the sentence of why it cannot."""
    (told, tell), (heard, hear) = os.pipe(), os.pipe()
    with tempfile.TemporaryFile() as trace, open(told, errors="replace") as answers, open(hear, "w") as questions:
        of_child = (tell, heard, trace.fileno())
        command = [sys.executable, "-P", "-m", __name__, *map(str, of_child), str(path), *args]
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # of an interrupted child its parent is told first
        child = subprocess.Popen(command, pass_fds=of_child)
        signal.signal(signal.SIGINT, before)
        os.close(tell)
        os.close(heard)
        message: Message = {}
        code = None
        try:
            message = conversation(answers, questions)
            with suppress(subprocess.TimeoutExpired):
                code = child.wait(SECONDS)
        finally:
            child.kill()
            child.wait()
            if "answer" not in message and sys.stdout.isatty():
                print("\r\x1b[K\x1b[?25h", end="", flush=True)  # over the line of a spinner, with a cursor again
        if "answer" in message:
            return Answer(**message["answer"])
        trace.seek(0)
        raise ValueError(message.get("error") or death(path, code, trace.read().decode(errors="replace")))


def conversation(answers: IO[str], questions: IO[str]) -> Message:
    """What the child says at last: a whole answer with the nonce, an error, or {} if it ended before."""
    message = message_of(answers.readline())
    if "imported" not in message:
        return {name: message[name] for name in message if name == "error"}
    nonce = secrets.token_hex()
    with suppress(BrokenPipeError):
        print(nonce, file=questions, flush=True)
    message = message_of(answers.readline())
    return message if "error" in message or message.get("nonce") == nonce else {}


def message_of(line: str) -> Message:
    """The message of a line; {} for a line that is none, or is not whole."""
    try:
        message = json.loads(line) if line.endswith("\n") else {}
    except ValueError:
        message = {}
    return message if isinstance(message, dict) else {}


def death(path: Path, code: int | None, trace: str) -> str:
    """How a child ended that gave no answer, with the user's line if its trace knows it. code: as of `Popen`, None of a
    child that had not ended."""
    if code is None:
        return f"{path.name} closed the files of its process, before there was a verdict."
    how = signal.strsignal(-code) if code < 0 else f"exit code {code}"
    last = trace.rpartition("Fatal Python error")[2]
    frames = [
        traceback.FrameSummary(file, int(line), name)
        for file, line, name in re.findall(r'^  File "(.+)", line (\d+) in (.+)$', last, re.MULTILINE)
    ]
    lines = lines_in(path.resolve().parent, frames[::-1])
    return "\n".join([f"{path.name} ended its process ({how}) before there was a verdict.", *lines])


# In the child


def answer(path: Path, args: Sequence[str], confirm: Callable[[], None] = lambda: None) -> Answer:
    """What the command finds in the file; confirm: is called when it is imported. ValueError: why it cannot."""
    config = parsed(args)
    assert isinstance(config, (Verify, Explain)), "no other command takes a user's file"
    with in_users_words(path), imported(path) as module:
        confirm()
        if isinstance(config, Verify):
            from jaxnn.commands.verify import answer_on_file

            return answer_on_file(config, path, module)
        from jaxnn.commands.explain import answer_on_functions

        return answer_on_functions(config, path, module)


def main() -> None:
    """Answers the parent, who gave three file descriptors, the file and the command line."""
    tell, heard, trace = map(int, sys.argv[1:4])
    path, args = Path(sys.argv[4]), sys.argv[5:]
    sys.argv = [str(path)]  # as of `python FILE.py`
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    for descriptor in (tell, heard, trace):
        os.set_inheritable(descriptor, False)
    signal.signal(signal.SIGINT, lambda *_: None)  # the parent ends this process
    leave_traces(trace)
    nonces: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(heard, nonces), daemon=True).start()
    with suppress(OSError, ValueError), open(tell, "w") as answers:  # which the user's code, or a fork, may close
        nonce = ""

        def leave_to_itself() -> None:
            """What a fork of the user's code finds is no answer, and Ctrl-C ends it."""
            answers.close()
            signal.signal(signal.SIGINT, signal.default_int_handler)

        def confirm() -> None:
            nonlocal nonce
            print('{"imported": true}', file=answers, flush=True)
            nonce = nonces.get()

        os.register_at_fork(after_in_child=leave_to_itself)
        message: Message
        try:
            found = answer(path, args, confirm)
            message = {"nonce": nonce, "answer": asdict(found)}
        except (ValueError, OSError) as error:
            message = {"error": str(error)}
        except BaseException:
            traceback.print_exc()
            message = {"error": f"the verifier itself fails at {path.name}: please report the lines above."}
        with suppress(Exception):
            sys.stdout.flush()
        print(json.dumps(message), file=answers, flush=True)


def listen(heard: int, nonces: queue.SimpleQueue[str]) -> None:
    """Hears the nonce and, when the parent is no more, ends this process."""
    with open(heard) as questions:
        nonces.put(questions.readline().strip())
        questions.readline()
        os._exit(2)


def leave_traces(trace: int) -> None:
    """Lets whatever ends this process write the stack of Python's calls into a file first."""
    faulthandler.enable(trace)
    own, leave, kill = os.getpid(), os._exit, os.kill

    def write_stack() -> None:
        os.ftruncate(trace, 0)
        os.lseek(trace, 0, os.SEEK_SET)
        faulthandler.dump_traceback(trace, all_threads=False)

    def traced_exit(status: int) -> NoReturn:
        if os.getpid() == own:  # not a fork's, which ends so
            write_stack()
        leave(status)

    def traced_kill(pid: int, signal: int, /) -> None:
        if pid == own:
            write_stack()
        kill(pid, signal)

    os._exit, os.kill = traced_exit, traced_kill  # faulthandler has signals alone, and of these not SIGKILL


if __name__ == "__main__":
    main()
