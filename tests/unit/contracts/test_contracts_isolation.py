"""Contracts of other packages: what they may import, and what becomes of one that loops, eats memory or crashes."""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint
from itertools import pairwise
from pathlib import Path

import pytest

from p2petd.contracts.contract import Contract
from p2petd.contracts.isolation.host import Guest, isolate
from p2petd.contracts.testkit import Ledger, Trial, raw_state
from p2petd.errors import ConfigError, ContractViolation, MalformedTransaction
from tests.support.packages import install, install_contract

Install = Callable[[str, str], EntryPoint]

SAYS = """
def verify(transaction: LedgerTransaction) -> None:
    for state in transaction.outputs:
        if state.contract == NAME and state.payload == b"no":
            violated(TryRule.REFUSED, "no")
"""


@pytest.fixture
def installed_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return lambda package, body: install_contract(tmp_path, package, body)


def output_of(contract: Contract, payload: bytes) -> Trial:
    return Ledger.of(contract).transaction().output(raw_state(contract.name, "Anything", payload))


def test_a_foreign_contract_decides_in_another_process(installed_here: Install) -> None:
    contract = isolate(installed_here("polite", SAYS))
    assert "polite" not in sys.modules
    assert (contract.name, contract.version, contract.modules) == ("polite", 1, ("polite",))
    output_of(contract, b"yes").verifies()
    refusal = output_of(contract, b"no").fails_with("polite.refused")
    assert str(refusal) == "The state does not say no. Seen: no."
    output_of(contract, b"yes").verifies()
    assert [rule.code for rules in contract.rules for rule in rules] == ["polite.refused"]


LOOPS = (
    SAYS
    + """
    for state in transaction.outputs:
        while state.payload == b"loop":
            pass
"""
)


def test_a_looping_contract_is_ended_and_the_next_transaction_is_answered(installed_here: Install) -> None:
    contract = isolate(installed_here("loops", LOOPS))
    started = time.process_time()
    output_of(contract, b"loop").fails_with("contract.budget_exceeded")
    # The loop ran elsewhere: this process has waited.
    assert time.process_time() - started < 1
    output_of(contract, b"yes").verifies()
    output_of(contract, b"no").fails_with("loops.refused")


EATS = (
    SAYS
    + """
    for state in transaction.outputs:
        if state.payload == b"eat":
            b"x" * 2**30
"""
)


def test_memory_has_a_limit(installed_here: Install) -> None:
    contract = isolate(installed_here("eats", EATS))
    refusal = output_of(contract, b"eat").fails_with("contract.crashed")
    assert "MemoryError" in str(refusal)
    output_of(contract, b"yes").verifies()


KEEPS = """
SEEN = []

def verify(transaction: LedgerTransaction) -> None:
    SEEN.append(transaction.outputs[0].payload * 1_000)
"""


def test_what_a_contract_keeps_is_not_held_against_later_transactions(installed_here: Install) -> None:
    contract = isolate(installed_here("keeps", KEEPS))
    refused = [output_of(contract, bytes(100_000)).refusal() is not None for _ in range(8)]
    assert refused.count(True) > 0
    assert not any(before and after for before, after in pairwise(refused))


LIES = """
from p2petd.errors import MalformedTransaction, NotaryTroubled, RolledBack

def verify(transaction: LedgerTransaction) -> None:
    for state in transaction.outputs:
        if state.payload == b"back":
            raise RolledBack("the data directory is an old copy")
        if state.payload == b"busy":
            raise NotaryTroubled("ask again")
        raise MalformedTransaction("bad bytes")
"""


def test_what_a_contract_raises_says_nothing_of_the_node(installed_here: Install) -> None:
    contract = isolate(installed_here("lies", LIES))
    for payload, kind in ((b"back", ContractViolation), (b"busy", ContractViolation), (b"", MalformedTransaction)):
        refusal = output_of(contract, payload).refusal()
        assert type(refusal) is kind


def test_a_crash_refuses_its_own_transaction_only(installed_here: Install) -> None:
    contract = isolate(
        installed_here("crashes", SAYS + "    [][len([s for s in transaction.outputs if s.payload == b'x']) - 1]\n")
    )
    output_of(contract, b"x").fails_with("contract.crashed")


IMPORTS = {
    "import os": "may not import os",
    "import socket": "may not import socket",
    "from p2petd.native import SigningKey": "may not import p2petd.native",
    "from p2petd import native": "may not import p2petd.native",
    "import p2petd.node": "may not import p2petd.node",
    "import p2petd.contracts.registry": "may not import p2petd.contracts.registry",
    "from collections import *": "imports names, not",
    "import time": "may not import time",
    "import random": "may not import random",
    "eval('1')": "may not use eval",
    "x = open": "may not use open",
    "().__class__.__subclasses__()": "may not use __",
    "__import__('os')": "may not use __import__",
    "x = float(1)": "may not use float",
    "import inner.helper": "may not import os",
    "from dataclasses import sys": "may not use sys",
    "from p2petd.ledger.codec import native": "may not use native",
    "from p2petd.units import __builtins__ as inside": "may not use __builtins__",
    "import enum; enum.sys.exit": "may not use sys",
    "import operator; operator.attrgetter('__globals__')": "may not use attrgetter",
    "match len:\n    case object(__self__=inside): pass": "may not use __self__",
}


@pytest.mark.parametrize("line", IMPORTS)
def test_an_importing_contract_is_refused_with_its_line(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    source = f"from p2petd.contracts.contract import Contract\n{line}\ndef verify(t):\n    return None\n"
    source += "CONTRACT = Contract('inner', 1, verify, ('inner', 'inner.helper'))\n"
    modules = {"__init__.py": source, "helper.py": "import os\n"}
    install(tmp_path, "inner", modules, "[p2petd.contracts]\ninner = inner:CONTRACT\n")
    with pytest.raises(ConfigError, match=f"inner.*line [0-9]+: .*{IMPORTS[line]}"):
        isolate(EntryPoint("inner", "inner:CONTRACT", "p2petd.contracts"))


def test_a_module_that_is_not_pinned_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    source = "from p2petd.contracts.contract import Contract\nfrom . import helper\n"
    source += "CONTRACT = Contract('loose', 1, helper.verify, ('loose',))\n"
    modules = {"__init__.py": source, "helper.py": "def verify(t):\n    return None\n"}
    install(tmp_path, "loose", modules, "[p2petd.contracts]\nloose = loose:CONTRACT\n")
    with pytest.raises(ConfigError, match=r"states the modules loose, but its code is in loose, loose\.helper"):
        isolate(EntryPoint("loose", "loose:CONTRACT", "p2petd.contracts"))


HOSTILE = """
import os
import signal
import time

def verify(transaction: LedgerTransaction) -> None:
    for state in transaction.outputs:
        if state.payload == b"bad":
            {act}
"""
# Descriptor 4 is where its answers go.
ACTS = {
    "does not read any more": "signal.signal(signal.SIGPROF, signal.SIG_IGN); os.write(4, bytes(4)); signal.pause()",
    "leaves a child with its pipes": "os.fork() or time.sleep(60); os.kill(os.getpid(), signal.SIGKILL)",
    "answers nonsense": "os.write(4, bytes([0, 0, 0, 2, 255, 255]))",
    "stops": "os.kill(os.getpid(), signal.SIGSTOP)",
}


@pytest.mark.parametrize("act", ACTS)
def test_r13_code_that_got_out_holds_up_nobody_and_answers_for_nothing_else(
    act: str, installed_here: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the list of imports, as if that had overlooked something."""
    monkeypatch.setattr("p2petd.contracts.isolation.host.CALL_SECONDS_MAX", 0.5)
    name = f"hostile_{list(ACTS).index(act)}"
    plugin = installed_here(name, HOSTILE.format(act=ACTS[act]))
    guest = Guest(plugin.name, plugin.group)
    contract = Contract(name, 1, guest.verify, ())
    started = time.monotonic()
    first = output_of(contract, b"bad").refusal()
    # More than a pipe holds.
    second = output_of(contract, bytes(500_000)).refusal()
    assert [e.code for e in (first, second) if e is not None] == ["contract.budget_exceeded"]
    output_of(contract, b"yes").verifies()
    assert time.monotonic() - started < 10


def test_an_attachment_that_cannot_be_read_ends_the_conversation(installed_here: Install) -> None:
    """Else the next transaction would get the verdict of this one."""
    body = """
def verify(transaction: LedgerTransaction) -> None:
    for attachment in transaction.attachments:
        transaction.attachment(attachment)
    for state in transaction.outputs:
        if state.payload == b"no":
            violated(TryRule.REFUSED, "no")
"""
    contract = isolate(installed_here("reads", body))
    broken = replace(output_of(contract, b"yes").cite(bytes(32)).resolved(), reader=lambda _: [][0])
    with pytest.raises(IndexError):
        contract.verify(broken)
    output_of(contract, b"no").fails_with("reads.refused")


def test_a_contract_that_loops_while_it_loads_is_refused(installed_here: Install) -> None:
    plugin = installed_here("stuck", "while True:\n    pass\ndef verify(t):\n    return None\n")
    with pytest.raises(ConfigError, match="does not load within its budget"):
        isolate(plugin)
