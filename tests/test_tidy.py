"""The limits that keep the code readable. There is no list of exceptions: what does not fit is split."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 400
TEST_LINES_MAX = 600
PUBLIC_METHODS_MAX = 15

GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$|^Cargo\.lock$|^core-rs/.*/Cargo\.lock$")
CODE_SUFFIXES = {".py", ".pyi", ".rs", ".sh", ".toml", ".proto", ".yaml", ".yml", ".md"}
# Spelled so that this file passes its own test.
POSTPONED = re.compile(r"\b(T[O]DO|F[I]XME|H[A]CK)\b")
SILENCED = re.compile(r"# (noqa|type: ignore)\b")
# A silenced rule is named, and after it stands why.
SILENCED_WITH_REASON = re.compile(r"# (noqa: [A-Z0-9, ]+ - .{8,}|type: ignore\[[a-z-]+(, [a-z-]+)*\] {1,2}# .{8,})")
RUST_FUNCTION = re.compile(r"( *)(pub(\([a-z]+\))? )?(const )?(unsafe )?fn (\w+)")


def project_files() -> list[Path]:
    """Every text file of the project that people write: what git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("these tests read the project as git lists it")
    files = [ROOT / name for name in listed if name and not GENERATED.search(name)]
    return [file for file in files if file.is_file() and (file.suffix in CODE_SUFFIXES or is_script(file))]


def is_script(file: Path) -> bool:
    with file.open("rb") as stream:
        return file.suffix == "" and stream.read(2) == b"#!"


def is_python(file: Path) -> bool:
    return file.suffix in (".py", ".pyi") or (file.suffix == "" and "python" in lines_of(file)[0])


def lines_of(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def named(file: Path, line: int) -> str:
    return f"{file.relative_to(ROOT)}:{line}"


def is_test(file: Path) -> bool:
    parts = file.relative_to(ROOT).parts
    return "tests" in parts or "benches" in parts


def python_trees() -> Iterator[tuple[Path, ast.Module]]:
    for file in project_files():
        if is_python(file):
            yield file, ast.parse(file.read_text(encoding="utf-8"))


def test_modules_are_short() -> None:
    long = []
    for file in project_files():
        if is_python(file) or file.suffix == ".rs":
            lines, limit = len(lines_of(file)), TEST_LINES_MAX if is_test(file) else MODULE_LINES_MAX
            if lines > limit:
                long.append(f"{file.relative_to(ROOT)} has {lines} lines, at most {limit} are allowed")
    assert not long, "\n".join(long)


def test_python_functions_are_short() -> None:
    long = []
    for file, tree in python_trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    long.append(f"{named(file, node.lineno)}: {node.name} has {lines} lines")
    assert not long, "\n".join(long)


def test_python_classes_have_few_public_methods() -> None:
    wide = []
    for file, tree in python_trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                methods = {
                    one.name
                    for one in node.body
                    if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and not one.name.startswith("_")
                }
                if len(methods) > PUBLIC_METHODS_MAX:
                    wide.append(f"{named(file, node.lineno)}: {node.name} has {len(methods)} public methods")
    assert not wide, "\n".join(wide)


def test_rust_functions_are_short() -> None:
    long = []
    for file in project_files():
        if file.suffix == ".rs":
            long += [f"{named(file, start)}: {name} has {n} lines" for name, start, n in rust_functions(lines_of(file))]
    assert not long, "\n".join(long)


def rust_functions(lines: list[str]) -> Iterator[tuple[str, int, int]]:
    """Name, first line and length of each function that is too long; rustfmt closes it at its own indentation."""
    for start, line in enumerate(lines):
        match = RUST_FUNCTION.match(line)
        if match and not line.endswith(";"):
            closing = match[1] + "}"
            end = next((i for i in range(start, len(lines)) if lines[i] in (closing, match[1] + ");")), start)
            if end - start + 1 > FUNCTION_LINES_MAX:
                yield match[6], start + 1, end - start + 1


def test_nothing_is_postponed_in_a_comment() -> None:
    found = [
        f"{named(file, number)}: {line.strip()}"
        for file in project_files()
        for number, line in enumerate(lines_of(file), start=1)
        if POSTPONED.search(line)
    ]
    assert not found, "\n".join(found)


def test_a_silenced_rule_says_why() -> None:
    found = [
        f"{named(file, number)}: {line.strip()}"
        for file in project_files()
        if is_python(file)
        for number, line in enumerate(lines_of(file), start=1)
        if SILENCED.search(line) and not SILENCED_WITH_REASON.search(line)
    ]
    assert not found, "\n".join(found)


def test_lines_end_where_their_text_ends() -> None:
    found = []
    for file in project_files():
        text = file.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):
            found.append(f"{file.relative_to(ROOT)} ends without a newline")
        found += [named(file, n) for n, line in enumerate(text.split("\n"), start=1) if line != line.rstrip()]
    assert not found, "\n".join(found)
