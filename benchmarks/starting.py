"""How long until something is there: commands from the start of their process to its end, and what an import adds."""

import os
import subprocess
import sys
from functools import partial
from tempfile import TemporaryDirectory

from benchmarks.measuring import Contender, Row, Wrong, told

KEPT = TemporaryDirectory()  # a user's cache, filled by the first call
IMPORT = """
import time, jax
start = time.perf_counter()
import jaxnn
for name in {names}: getattr(jaxnn, name)
print(time.perf_counter() - start)
"""


def process(*arguments, cache):
    """What the process says, in a new folder, for a user with this cache; matplotlib has its list of fonts always."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    env |= {"XDG_CACHE_HOME": cache, "MPLCONFIGDIR": KEPT.name}
    with TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        raise Wrong(
            f"{' '.join(arguments)} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}"
        )
    return done.stdout


def train_cold():
    with TemporaryDirectory() as cache:
        process("-m", "jaxnn", "train", cache=cache)


def train_again():
    process("-m", "jaxnn", "train", cache=KEPT.name)


def importing(names="()"):
    """Seconds that `import jaxnn` adds to a process that has JAX, and public names when they are first used."""
    return float(process("-c", IMPORT.format(names=names), cache=KEPT.name))


def showing_help():
    process("-m", "jaxnn", "--help", cache=KEPT.name)


def rows():
    yield Row("jaxnn train, cold", lambda: {"ours": Contender(train_cold)}, 4)
    yield Row("jaxnn train, with the compilation cache", lambda: {"ours": Contender(train_again)}, 2.5)
    yield Row("import jaxnn beyond import jax", lambda: {"ours": Contender(importing)}, 0.15, figure=told)
    trains = partial(importing, ("Dense", "Activation", "Chain", "SoftmaxCrossEntropy", "fit"))
    yield Row("… and what a training needs", lambda: {"ours": Contender(trains)}, figure=told)
    yield Row("jaxnn --help", lambda: {"ours": Contender(showing_help)}, 0.3)
