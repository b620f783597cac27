"""docs/contracts.md and docs/errors.md say what the code says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def test_the_generated_pages_are_committed(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts" / "gen_docs"), str(tmp_path)], check=True, cwd=ROOT)
    for page in ("contracts.md", "errors.md"):
        assert (ROOT / "docs" / page).read_text() == (tmp_path / page).read_text(), "run scripts/gen_docs"


def test_the_examples_run() -> None:
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "contracts.md").read_text(), re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        exec(compile(example, "docs/contracts.md", "exec"), {"__name__": "p2petd.contracts.rules"})


@pytest.mark.parametrize("package", ["ledger", "contracts"])
def test_pure_packages_import_nothing_impure(package: str) -> None:
    impure = r"^\s*(?:import|from) (time|datetime|random|secrets|os|socket|logging|asyncio|threading|grpc|pathlib)\b"
    for path in (ROOT / "p2petd" / package).rglob("*.py"):
        assert not re.findall(impure, path.read_text(), re.MULTILINE), path.name
