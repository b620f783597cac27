"""Packages of other people's contracts, installed for one test: code, and metadata that names the entry points."""

import textwrap
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path

CONTRACT = """
from p2petd.contracts.contract import Contract, PlainCommand
from p2petd.contracts.rules import Rule, violated
from p2petd.ledger.resolved import LedgerTransaction

NAME = "{name}"

class TryRule(Rule):
    REFUSED = ("{name}.refused", "The state does not say no.")

{body}

CONTRACT = Contract(name=NAME, version=1, verify=verify, modules=("{package}",), rules=(TryRule,))
"""


def install(directory: Path, package: str, modules: Mapping[str, str], entry_points: str) -> None:
    """Write the package's modules (file name -> source) and its metadata below `directory`, a place on the path."""
    target = directory / package
    target.mkdir(parents=True)
    for file, source in modules.items():
        (target / file).write_text(textwrap.dedent(source), encoding="utf-8")
    metadata = directory / f"{package}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(entry_points, encoding="utf-8")


def install_contract(directory: Path, package: str, body: str) -> EntryPoint:
    """A contract of the package's name whose `verify(transaction)` stands in `body`."""
    source = CONTRACT.format(name=package, package=package, body=textwrap.dedent(body))
    install(directory, package, {"__init__.py": source}, f"[p2petd.contracts]\n{package} = {package}:CONTRACT\n")
    return EntryPoint(package, f"{package}:CONTRACT", "p2petd.contracts")
