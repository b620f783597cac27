"""Sources of modules, found without running any of them: what is pinned and checked must not have run before."""

import sys
from collections.abc import Sequence
from importlib.abc import FileLoader
from importlib.machinery import ModuleSpec

from p2petd.errors import ConfigError

SOURCE_BYTES_MAX = 1_000_000


def source_of(module: str) -> bytes:
    """The bytes of the module's file; a package's are those of its `__init__`. Raises ConfigError."""
    spec = _find(module)
    if spec is None or spec.origin is None or not isinstance(spec.loader, FileLoader):
        raise ConfigError(f"the source of module {module} of a contract is not installed")
    source = bytes(spec.loader.get_data(spec.origin))
    if len(source) > SOURCE_BYTES_MAX:
        raise ConfigError(f"module {module} of a contract has more than {SOURCE_BYTES_MAX} bytes")
    return source


def is_package(module: str) -> bool:
    """Whether the module holds others; False for one that is not there."""
    spec = _find(module)
    return spec is not None and spec.submodule_search_locations is not None


def exists(module: str) -> bool:
    return _find(module) is not None


def _find(module: str) -> ModuleSpec | None:
    """`importlib.util.find_spec` imports the packages above the module; this does not."""
    spec: ModuleSpec | None = None
    parts = module.split(".")
    for depth in range(len(parts)):
        path = None if depth == 0 else spec and spec.submodule_search_locations
        if depth and not path:
            return None
        spec = _ask_finders(".".join(parts[: depth + 1]), list(path) if path else None)
        if spec is None:
            return None
    return spec


def _ask_finders(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """Not only the path's finder: a package that is installed for editing may have one of its own."""
    found = (finder.find_spec(name, path) for finder in sys.meta_path)
    return next((spec for spec in found if spec is not None), None)
