"""What the code of a foreign contract may use: checked on its source, before any of it runs.

This keeps honest code pure and small. It is no wall against code that wants out: for that there are the process around
it, its limits and, first of all, the review before a hash enters the network parameters.
"""

import ast
from collections.abc import Iterable, Iterator

from p2petd.contracts.isolation.sources import exists, is_package, source_of
from p2petd.errors import ConfigError

MODULES_MAX = 100

STANDARD = frozenset(
    {
        "__future__",
        "abc",
        "bisect",
        "collections",
        "collections.abc",
        "dataclasses",
        "enum",
        "fractions",
        "functools",
        "hashlib",
        "itertools",
        "operator",
        "struct",
        "types",
        "typing",
    }
)
OURS = ("p2petd.contracts", "p2petd.ledger", "p2petd.units", "p2petd.errors")
NOT_OURS = ("p2petd.contracts.isolation", "p2petd.contracts.registry", "p2petd.contracts.testkit")

# Names that reach past the list of imports, or out of the process.
FORBIDDEN_NAMES = frozenset(
    {
        "__builtins__",
        "__import__",
        "__loader__",
        "__spec__",
        "breakpoint",
        "compile",
        "delattr",
        "eval",
        "exec",
        "exit",
        "float",
        "getattr",
        "globals",
        "help",
        "id",
        "input",
        "locals",
        "open",
        "print",
        "quit",
        "setattr",
        "vars",
    }
)
# Nor as an attribute or as a name that is imported: modules within modules, and what looks attributes up by their text.
FORBIDDEN_EVERYWHERE = frozenset(
    {"ForwardRef", "_os", "_sys", "attrgetter", "builtins", "get_type_hints", "methodcaller", "native", "os", "sys"}
)
PERMITTED_DUNDERS = frozenset(
    {
        "__add__", "__all__", "__bool__", "__bytes__", "__contains__", "__doc__", "__eq__", "__ge__", "__getitem__",
        "__gt__", "__hash__", "__init__", "__iter__", "__le__", "__len__", "__lt__", "__match_args__", "__name__",
        "__ne__", "__post_init__", "__repr__", "__slots__", "__str__", "__sub__",
    }
)  # fmt: skip


def check_package(entry_module: str) -> tuple[str, ...]:
    """The contract's own modules, sorted: all that `entry_module` imports from its own package, and the packages above.

    Raises ConfigError that names module, line and what is not permitted:
    1. every import is of the standard list, of what p2petd offers to contracts, or of the contract's own package;
    2. no name or attribute is used that would reach past that.
    """
    package = entry_module.partition(".")[0]
    waiting, seen = [entry_module, *_parents(entry_module)], set[str]()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        if len(seen) > MODULES_MAX:
            raise ConfigError(f"the contract of {entry_module} has more than {MODULES_MAX} modules")
        own = [name for name in _check_module(module, package) if name not in seen]
        waiting += [name for one in own for name in (one, *_parents(one))]
    return tuple(sorted(seen))


def _check_module(module: str, package: str) -> Iterable[str]:
    """The modules of the same package that it imports."""
    try:
        tree = ast.parse(source_of(module))
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"module {module} of a contract cannot be parsed: {error}") from error
    own: list[str] = []
    for node in ast.walk(tree):
        for name in _imports(node, module):
            if name == package or name.startswith(package + "."):
                own.append(name)
            elif not _is_permitted(name):
                raise ConfigError(f"{module}, line {_line(node)}: a contract may not import {name}")
        _check_names(node, module)
    return own


def _imports(node: ast.AST, module: str) -> Iterator[str]:
    """Dotted names of the modules that a statement imports; `from a import b` names a.b where that is a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = module.split(".") if is_package(module) else module.split(".")[:-1]
            parts = parts[: len(parts) - node.level + 1]
            base = ".".join([*parts, base] if base else parts)
        yield base
        if any(alias.name == "*" for alias in node.names):
            raise ConfigError(f"{module}, line {node.lineno}: a contract imports names, not *")
        if is_package(base):
            names = (f"{base}.{alias.name}" for alias in node.names)
            yield from (name for name in names if exists(name))


def _is_permitted(name: str) -> bool:
    if name in STANDARD:
        return True
    if any(name == one or name.startswith(one + ".") for one in NOT_OURS):
        return False
    # Naming a package of ours imports nothing that its listed parts do not.
    return name == "p2petd" or any(name == one or name.startswith(one + ".") for one in OURS)


def _check_names(node: ast.AST, module: str) -> None:
    if isinstance(node, ast.AsyncFunctionDef | ast.Await):
        raise ConfigError(f"{module}, line {node.lineno}: a contract is no coroutine")
    for name in _names(node):
        called = isinstance(node, ast.Name) and name in FORBIDDEN_NAMES
        dunder = name.startswith("__") and name.endswith("__") and name not in PERMITTED_DUNDERS
        if called or dunder or name in FORBIDDEN_EVERYWHERE:
            raise ConfigError(f"{module}, line {_line(node)}: a contract may not use {name}")


def _names(node: ast.AST) -> Iterable[str]:
    """What a node alone names, its parts aside."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return (name,)
        case ast.ImportFrom(module=base, names=aliases) if base != "__future__":
            return tuple(alias.name for alias in aliases)
        case ast.MatchClass(kwd_attrs=names):
            return tuple(names)
    return ()


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def _line(node: ast.AST) -> int:
    return getattr(node, "lineno", 0)
