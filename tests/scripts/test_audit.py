"""scripts/audit: it prints the table of docs/verification.md, and the rules of JAX and optax are right."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.audited import RULES, Rule
from jaxnn import verify

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "audit"
AT_HAND = [rule for rule in RULES if rule.package in ("jax", "optax")]
SLOW = {"`numpy.linalg.pinv`", "`ctc_loss`", "`pallas.ops.gpu.attention`, a kernel"}  # over a second each


def cells(line):
    return re.split(r"(?<!\\)\|", line)[1:-1]


def audit(*flags):
    done = subprocess.run([sys.executable, SCRIPT, *flags], capture_output=True, text=True, encoding="utf-8")
    return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.mark.sample(lambda rule: AT_HAND.index(rule) // 3)
@pytest.mark.filterwarnings("ignore:jax.experimental.pallas.ops:DeprecationWarning")
@pytest.mark.parametrize("rule", [rule for rule in AT_HAND if rule.name not in SLOW], ids=lambda rule: rule.name)
def test_rules_of_packages_at_hand(rule, standard_promotion):
    assert rule.ask().verdict == verify.PASS


def test_a_rule_has_a_process_of_its_own():
    code, lines, errors = audit("--rules", "`nn.log1mexp`")
    assert code == 0, errors
    assert len(lines) == 3
    assert re.fullmatch(r"\| jax \| [\d.]+ \| `nn.log1mexp` in both branches \| PASS \| \d+\.\d \|", lines[2])


def test_what_is_no_verdict_is_said():
    script = runpy.run_path(str(SCRIPT))
    row = script["cells"](0, RULES[0], 0.01)
    assert row[3:] == ("none in 0.01 s", "")
    absent = Rule("no-such-package", "a rule", verify.gradient)
    assert script["line"](absent, script["cells"](0, absent, 1)) == "| no-such-package | not installed | a rule |  |  |"


def test_the_document_has_the_table_that_is_printed():
    text = (ROOT / "docs" / "verification.md").read_text(encoding="utf-8")
    section = text.partition("## Tried on the rules of others\n")[2].partition("\n## ")[0]
    head, _, *rows = [cells(line) for line in section.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in head] == ["package", "version", "rule", "verdict", "seconds"]
    bugs = (ROOT / "docs" / "bugs_of_others.md").read_text(encoding="utf-8")
    for rule, row in zip(RULES, rows, strict=True):
        package, version, name, verdict, seconds = (cell.strip() for cell in row)
        assert (package, name) == (rule.package, rule.name)
        assert version[0].isdigit()
        expected = [f"[FAIL](bugs_of_others.md#{rule.bug})"] if rule.bug else ["PASS", "INCONCLUSIVE"]
        assert verdict in expected
        assert 0 <= float(seconds) < 60
        assert not rule.bug or f"{package} {version}" in bugs
