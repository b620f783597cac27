"""The process that runs one foreign contract: started by `host`, as `python -P -s -m p2petd.contracts.isolation.guest`.

It answers calls on its standard input, one at a time, each within a budget of processor time. What it may not do, the
kernel refuses: no file grows, no process starts, memory ends at a limit.
"""

import os
import resource
import signal
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import BinaryIO

from p2pet.node.v1.isolation_pb2 import IsolatedAnswer, IsolatedCall, IsolatedContract, IsolatedRule

from p2petd.contracts.contract import Contract
from p2petd.contracts.isolation.wire import decode_transaction, read_message, write_message
from p2petd.errors import NodeError, TransactionRefused
from p2petd.ledger.resolved import OutputState

CLAIMS_MAX = 4096


def main(entry_point: str, group: str, budget_ns: int, memory_bytes: int) -> None:
    """Describe the contract, then answer until the input ends."""
    source, sink = _take_pipes()
    _limit(memory_bytes)
    _start_budget(budget_ns)
    contract = _load(entry_point, group)
    _end_budget()
    write_message(sink, IsolatedAnswer(contract=_describe(contract)).SerializeToString())
    guest = _Guest(contract, source, sink)
    while True:
        try:
            call = IsolatedCall.FromString(read_message(source.read))
        except EOFError:
            return
        _start_budget(budget_ns)
        answer = guest.answer(call)
        _end_budget()
        write_message(sink, answer.SerializeToString())


class _Guest:
    def __init__(self, contract: Contract, source: BinaryIO, sink: BinaryIO) -> None:
        self._contract = contract
        self._source = source
        self._sink = sink

    def answer(self, call: IsolatedCall) -> IsolatedAnswer:
        try:
            return self._answer(call)
        except NodeError as error:
            return IsolatedAnswer(error_code=error.code, error_message=error.message, refused=True)
        except Exception as error:  # noqa: BLE001 - foreign code: a contract that crashes refuses
            return IsolatedAnswer(error_code="crashed", error_message=type(error).__name__)

    def _answer(self, call: IsolatedCall) -> IsolatedAnswer:
        contract = self._contract
        match call.WhichOneof("call"):
            case "verify":
                transaction = decode_transaction(call.verify, self._attachment)
                contract.verify(transaction)
                claims = []
                for claim in contract.claims(transaction):
                    claims.append(claim)
                    if len(claims) > CLAIMS_MAX:
                        break
                return IsolatedAnswer(claims=claims)
            case "owner":
                return IsolatedAnswer(owner=contract.owner(OutputState.decode(call.owner)))
            case "participants":
                return IsolatedAnswer(participants=sorted(contract.participants(OutputState.decode(call.participants))))
            case "may_move":
                contract.may_move(OutputState.decode(call.may_move.state), call.may_move.new_notary)
                return IsolatedAnswer()
        raise ValueError("a call of another version")

    def _attachment(self, attachment: bytes) -> bytes:
        """The host has the attachments; waiting for it costs no processor time."""
        write_message(self._sink, IsolatedAnswer(attachment_wanted=attachment).SerializeToString())
        answer = IsolatedCall.FromString(read_message(self._source.read)).attachment
        if answer.error_code:
            raise TransactionRefused(answer.error_code, answer.error_message)
        return answer.content


def _load(name: str, group: str) -> Contract:
    (entry,) = entry_points(group=group, name=name)
    contract = entry.load()
    if not isinstance(contract, Contract):
        raise TypeError(f"the entry point {name} of {group} is not a Contract")
    return contract


def _describe(contract: Contract) -> IsolatedContract:
    return IsolatedContract(
        name=contract.name,
        version=contract.version,
        modules=contract.modules,
        rules=[IsolatedRule(code=rule.code, sentence=rule.sentence) for rules in contract.rules for rule in rules],
    )


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes, out of the contract's way: whatever else writes to standard output goes nowhere."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(nothing, descriptor)
    return source, sink


def _limit(memory_bytes: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    space = pages * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # As root, processes have no limit: nothing in the list of imports starts one.
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def _start_budget(budget_ns: int) -> None:
    """The kernel ends the process when it has used up this much processor time."""
    signal.setitimer(signal.ITIMER_PROF, budget_ns / 1e9)


def _end_budget() -> None:
    signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
