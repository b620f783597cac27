"""Foreign contracts as the node sees them: `Contract`s whose functions ask a process that may be ended at any time."""

import atexit
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint
from typing import NoReturn, cast

from google.protobuf.message import DecodeError
from p2pet.node.v1.isolation_pb2 import (
    IsolatedAnswer,
    IsolatedAttachment,
    IsolatedCall,
    IsolatedContract,
    IsolatedMove,
)

from p2petd.contracts.contract import Contract
from p2petd.contracts.isolation.allowed import check_package
from p2petd.contracts.isolation.wire import encode_transaction, framed, read_message
from p2petd.contracts.rules import Rule, violated
from p2petd.errors import (
    ConfigError,
    ContractViolation,
    MalformedTransaction,
    NodeError,
    QuantityInexact,
    QuantityOverflow,
    TransactionRefused,
    UnknownContract,
    error_from_code,
)
from p2petd.ledger.resolved import AttachmentReader, LedgerTransaction, OutputState, no_attachments

# Of processor time, for one call.
BUDGET_NS = 200_000_000
MEMORY_BYTES = 256 * 1024 * 1024
# Of time: for a call that waits instead of computing, and for a start on a busy machine.
CALL_SECONDS_MAX = 5.0
START_SECONDS_MAX = 20.0
ATTACHMENTS_MAX = 16


class IsolationRule(Rule):
    """What holds for every contract that did not come with p2petd."""

    BUDGET_EXCEEDED = (
        "contract.budget_exceeded",
        "A contract answers within 0.2 s of processor time and 256 MiB of memory.",
    )
    CRASHED = ("contract.crashed", "A contract answers every transaction.")


def isolate(plugin: EntryPoint) -> Contract:
    """The contract of an entry point, none of whose code runs in this process. Raises ConfigError.

    1. its own modules use nothing but what contracts may (`check_package`);
    2. they are exactly those that it says decide for it, p2petd's aside: so all of them are pinned.
    """
    own = check_package(plugin.module)
    guest = Guest(plugin.name, plugin.group)
    described = guest.description
    stated = tuple(sorted(module for module in described.modules if module.split(".")[0] != "p2petd"))
    if stated != own:
        raise ConfigError(
            f"the contract {described.name} states the modules {', '.join(stated)}, but its code is in {', '.join(own)}"
        )
    return Contract(
        name=described.name,
        version=described.version,
        verify=guest.verify,
        modules=tuple(described.modules),
        rules=(_rules(described),),
        claims=guest.claims,
        owner=guest.owner,
        participants=guest.participants,
        may_move=guest.may_move,
    )


def _rules(described: IsolatedContract) -> type[Rule]:
    members = {f"RULE_{number}": (rule.code, rule.sentence) for number, rule in enumerate(described.rules)}
    # An enum that is called with a name and members makes another enum; only the types do not say so.
    return cast(Callable[..., type[Rule]], Rule)("ForeignRule", members)


class Guest:
    """The process of one contract: started when it is needed, ended when it exceeds its budget. For any thread."""

    def __init__(self, name: str, group: str) -> None:
        self._arguments = (name, group)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._claims: tuple[bytes, tuple[bytes, ...]] = b"", ()
        atexit.register(self.close)
        with self._lock:
            self.description = self._start()

    def verify(self, transaction: LedgerTransaction) -> None:
        """Raises what the contract raised, or ContractViolation contract.budget_exceeded or contract.crashed."""
        call = IsolatedCall(verify=encode_transaction(transaction))
        answer = self._ask(call, transaction.reader)
        self._claims = transaction.id, tuple(answer.claims)

    def claims(self, transaction: LedgerTransaction) -> Iterable[bytes]:
        """What `verify` of the same transaction has answered; asked again when another one came between."""
        known, claims = self._claims
        if known != transaction.id:
            answer = self._ask(IsolatedCall(verify=encode_transaction(transaction)), transaction.reader)
            return tuple(answer.claims)
        return claims

    def owner(self, state: OutputState) -> bytes:
        return self._ask(IsolatedCall(owner=state.raw)).owner

    def participants(self, state: OutputState) -> frozenset[bytes]:
        return frozenset(self._ask(IsolatedCall(participants=state.raw)).participants)

    def may_move(self, state: OutputState, new_notary: bytes) -> None:
        self._ask(IsolatedCall(may_move=IsolatedMove(state=state.raw, new_notary=new_notary)))

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            # What it has started holds the pipes too: nobody waits for their end.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()

    def _ask(self, call: IsolatedCall, reader: AttachmentReader = no_attachments) -> IsolatedAnswer:
        with self._lock:
            if self._process is None:
                self._start()
            answer = None
            try:
                answer = self._converse(call, reader)
            except (EOFError, OSError, DecodeError):
                violated(IsolationRule.BUDGET_EXCEEDED, "its process was ended")
            finally:
                # What is left of this conversation would be taken for the answer to the next call; and what fills the
                # memory would fill it for the next call too.
                if answer is None or answer.error_message == MemoryError.__name__:
                    self.close()
        if answer.error_code:
            _raise(answer)
        return answer

    def _converse(self, call: IsolatedCall, reader: AttachmentReader) -> IsolatedAnswer:
        """Raises EOFError or OSError when the guest ends or exceeds its time, DecodeError."""
        deadline = time.monotonic() + CALL_SECONDS_MAX
        self._send(call, deadline)
        for _ in range(ATTACHMENTS_MAX + 1):
            answer = IsolatedAnswer.FromString(self._receive(deadline))
            if not answer.attachment_wanted:
                return answer
            try:
                given = IsolatedAttachment(content=reader(answer.attachment_wanted))
            except NodeError as error:
                given = IsolatedAttachment(error_code=error.code, error_message=error.message)
            self._send(IsolatedCall(attachment=given), deadline)
        raise EOFError("the contract reads too many attachments")

    def _start(self) -> IsolatedContract:
        """Raises ConfigError when the guest does not come up."""
        # Compiled code is compared with the source, which is what is pinned.
        command = [sys.executable, "-P", "-s", "--check-hash-based-pycs", "always"]
        command += ["-m", "p2petd.contracts.isolation.guest", *self._arguments]
        self._process = subprocess.Popen(
            [*command, str(BUDGET_NS), str(MEMORY_BYTES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What a contract says of itself is nobody's log.
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
            close_fds=True,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        try:
            return IsolatedAnswer.FromString(self._receive(time.monotonic() + START_SECONDS_MAX)).contract
        except (EOFError, OSError, DecodeError):
            self.close()
            raise ConfigError(f"the contract {self._arguments[0]} does not load within its budget") from None

    def _send(self, call: IsolatedCall, deadline: float) -> None:
        """A guest that does not read must not hold up whoever asks. Raises EOFError, OSError."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        descriptor = process.stdin.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        left = memoryview(framed(call.SerializeToString()))
        while left:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise EOFError("the guest does not read")
            left = left[os.write(descriptor, left) :]

    def _receive(self, deadline: float) -> bytes:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)

        def read(count: int) -> bytes:
            data = b""
            while len(data) < count:
                ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
                part = os.read(descriptor, count - len(data)) if ready else b""
                if not part:
                    break
                data += part
            return data

        return read_message(read)


def _raise(answer: IsolatedAnswer) -> NoReturn:
    """The error of the same class and code as the contract raised."""
    code, message = answer.error_code, answer.error_message
    if not answer.refused:
        violated(IsolationRule.CRASHED, message)
    known = error_from_code(code, message)
    # Another class could say of this node what only this node knows.
    if isinstance(known, MalformedTransaction | UnknownContract | QuantityOverflow | QuantityInexact):
        raise known
    raise TransactionRefused(code, message) if code.startswith("transaction.") else ContractViolation(code, message)
