"""What a flow can await. Each request is yielded to the engine, which answers it with a value or an error."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any


class Request:
    """Awaiting it hands it to the engine and suspends the flow until the engine has the answer."""

    def __await__(self) -> Generator["Request", Any, Any]:
        answer = yield self
        return answer


@dataclass(frozen=True, eq=False)
class LocalStep(Request):
    """Runs `compute` once; its bytes (or its typed error) are journaled under `name` and answer any replay."""

    name: str
    compute: Callable[[], bytes]


@dataclass(frozen=True, eq=False)
class Receive(Request):
    """The next message from `peer` in this flow's session; FlowTimeout once `deadline_ns` has passed."""

    peer: bytes
    deadline_ns: int | None


@dataclass(frozen=True, eq=False)
class CallService(Request):
    """Asks an idempotent service of `peer`; repeated until answered, also after a restart. Answers bytes.

    An empty peer is one that the network map does not know: asked by the first restart that knows it.
    """

    peer: bytes
    service: str
    payload: bytes


@dataclass(frozen=True, eq=False)
class Pause(Request):
    """Suspends the flow until `until_ns`; a replay after that does not wait again."""

    until_ns: int


@dataclass(frozen=True, eq=False)
class CheckProposal(Request):
    """Verifies a proposal together with those of all other flows of the batch. Answers native.Checked."""

    proposal: bytes
    require_all_signatures: bool


@dataclass(frozen=True, eq=False)
class CheckFinal(Request):
    """Verifies a final transaction together with those of all other flows of the batch. Answers native.Checked."""

    signed_transaction: bytes
    finality_proof: bytes
    signers: bool
