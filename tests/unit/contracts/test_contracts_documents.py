"""docs/contracts.md and docs/errors.md say what the code says."""

import importlib
import inspect
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from p2petd.contracts import testkit
from p2petd.contracts.isolation.allowed import OURS, STANDARD, check_package
from p2petd.contracts.isolation.host import ATTACHMENTS_MAX, BUDGET_NS, MEMORY_BYTES, IsolationRule
from p2petd.contracts.registry import OWN_CONTRACTS, PlatformRule
from p2petd.contracts.rules import Rule
from p2petd.contracts.tariff import TariffRule
from p2petd.contracts.testkit import NotaryChange, Trial

ROOT = Path(__file__).parents[3]
HELPERS = {"SALT", "Signer", "default_parameters", "state_ref"}
TUTORIAL = ROOT / "docs" / "writing-contracts.md"


def test_the_generated_pages_are_committed(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts" / "gen_docs"), str(tmp_path)], check=True, cwd=ROOT)
    for page in ("contracts.md", "errors.md"):
        assert (ROOT / "docs" / page).read_text() == (tmp_path / page).read_text(), "run scripts/gen_docs"


def test_every_rule_has_an_example() -> None:
    """`Rule` knows its subclasses: a rule that no contract lists would not be in the documents."""
    stems = [path.stem for path in Path(__file__).parent.glob("test_contracts_*.py") if path != Path(__file__)]
    tables = [getattr(importlib.import_module(f"tests.unit.contracts.{stem}"), "CASES", {}) for stem in stems]
    shown = set(itertools.chain(*tables))
    listed = {PlatformRule, TariffRule, *(rules for contract in OWN_CONTRACTS for rules in contract.rules)}
    ours = {rules for rules in Rule.__subclasses__() if rules.__module__.startswith("p2petd.contracts.")}
    assert ours == listed | {IsolationRule}
    # What a foreign contract may use up is shown where it runs.
    ours = listed
    assert {rule for rules in ours for rule in rules} == {rule for rule in shown if type(rule) in ours}
    page = (ROOT / "docs" / "contracts.md").read_text()
    assert all(f"| `{rule.code}` |" in page for rule in shown if type(rule) in ours)


def test_the_tutorial_runs_as_written(tmp_path: Path) -> None:
    """Each code block begins with the file that it is the next part of."""
    files: dict[str, str] = {}
    for block in re.findall(r"```python\n(.*?)```", TUTORIAL.read_text(), re.DOTALL):
        name, _, code = block.partition("\n")
        files[name.removeprefix("# ")] = files.get(name.removeprefix("# "), "") + "\n" + code
    assert set(files) == {"booking.py", "test_booking.py"}
    for name, code in files.items():
        (tmp_path / name).write_text(code)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    command = [sys.executable, "-c", "from test_booking import *; replace(cancelled, bounds=None).verifies()"]
    failed = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=100)
    quoted = TUTORIAL.read_text().partition("`verifies()` says:\n")[2].partition("## 6")[0]
    assert " ".join(quoted.split()) in " ".join(failed.stderr.split())


def test_the_tutorials_contract_may_be_isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n# booking.py\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)
    (tmp_path / "booking.py").write_text("\n".join(blocks))
    monkeypatch.syspath_prepend(tmp_path)
    assert check_package("booking") == ("booking",)


def test_the_tutorial_lists_what_a_contract_may_use() -> None:
    listed = TUTORIAL.read_text().partition("### What a contract may use")[2].partition("## The kit")[0]
    for module in {name.partition(".")[0] for name in STANDARD if name != "__future__"} | set(OURS):
        assert f"`{module}`" in listed, module
    assert f"{BUDGET_NS / 10**9:g} s" in listed
    assert f"{MEMORY_BYTES // 2**20} MiB" in listed
    assert f"{ATTACHMENTS_MAX} attachments" in listed


def test_the_tutorial_quotes_the_kit() -> None:
    """Every public name of the kit and every method of its trials stands in the tutorial's table; types aside."""
    listed = TUTORIAL.read_text().partition("## The kit")[2]
    for name in (n for kind in (Trial, NotaryChange) for n, f in vars(kind).items() if inspect.isfunction(f)):
        assert name.startswith("_") or name == "parts" or f".{name}(" in listed, name
    for name in testkit.__all__:
        assert inspect.isclass(getattr(testkit, name)) or name in listed or name in HELPERS, name


@pytest.mark.parametrize("package", ["ledger", "contracts"])
def test_pure_packages_import_nothing_impure(package: str) -> None:
    impure = r"^\s*(?:import|from) (time|datetime|random|secrets|os|socket|logging|asyncio|threading|grpc|pathlib)\b"
    # What runs foreign contracts elsewhere is the one part of these packages that starts a process.
    for path in (p for p in (ROOT / "p2petd" / package).rglob("*.py") if p.parent.name != "isolation"):
        assert not re.findall(impure, path.read_text(), re.MULTILINE), path.name
