"""The registry of failpoints: complete, documented, and refused where it does not know a name."""

import ast
import re
from pathlib import Path

import pytest

import p2petd
from p2petd.errors import ConfigError
from p2petd.observe import failpoints
from p2petd.observe.failpoints import Failpoint

ROOT = Path(__file__).resolve().parents[3]
# Commits on behalf of others, which pass the points of their own stores.
DELEGATES = {"p2petd/store/room.py"}


def test_parse_takes_both_registries_and_refuses_what_it_does_not_know() -> None:
    assert failpoints.parse("") == {}
    text = ", ".join(f"{name}:{number}" for number, name in enumerate(failpoints.all_names(), start=1))
    assert list(failpoints.parse(text).values()) == list(range(1, len(failpoints.all_names()) + 1))
    for wrong in ("nowhere:1", "log.nowhere:1", "flow.begun", "flow.begun:0", "flow.begun:x", "flow.begun:²"):
        with pytest.raises(ConfigError, match="P2PET_FAILPOINTS"):
            failpoints.parse(wrong)


def test_nothing_is_counted_while_nothing_is_armed() -> None:
    before = failpoints.counters()
    failpoints.pass_(Failpoint.FLOW_BEGUN)
    assert failpoints.counters() == before


def test_names_are_distinct_over_both_registries() -> None:
    assert len(set(failpoints.all_names())) == len(failpoints.all_names())


def test_the_page_of_invariants_lists_every_point() -> None:
    """In the order of the registries; those in Python with the same words."""
    page = (ROOT / "docs" / "invariants.md").read_text("utf-8").split("## Failpoints")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| (.+) \|$", page, re.MULTILINE))
    assert list(rows) == list(failpoints.all_names())
    assert {point.label: rows[point.label] for point in Failpoint} == {point.label: point.where for point in Failpoint}


def _called(node: ast.AST, name: str) -> list[ast.Call]:
    calls = [found for found in ast.walk(node) if isinstance(found, ast.Call)]
    return [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == name]


def test_r01_every_commit_of_a_store_lies_between_failpoints() -> None:
    """A function that commits passes a point BEFORE it and one AFTER it."""
    bare = []
    for path in sorted(Path(p2petd.__file__).parent.rglob("*.py")):
        relative = str(path.relative_to(ROOT))
        functions = [
            node
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        for function in functions:
            commits = [call.lineno for call in _called(function, "commit")]
            points = {ast.unparse(call.args[0]): call.lineno for call in _called(function, "pass_")}
            before = [line for name, line in points.items() if "_BEFORE_" in name]
            after = [line for name, line in points.items() if "_AFTER_" in name]
            if commits and relative not in DELEGATES:
                covered = before and after and min(before) < min(commits) and max(after) > max(commits)
                bare += [] if covered else [f"{relative}: {function.name}"]
    assert bare == []


def test_r01_every_point_is_passed_somewhere() -> None:
    sources = [path.read_text("utf-8") for path in Path(p2petd.__file__).parent.rglob("*.py")]
    unused = [
        point.name for point in Failpoint if not any(f"pass_(Failpoint.{point.name})" in text for text in sources)
    ]
    assert unused == []
