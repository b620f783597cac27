"""vault.v1.VaultService: what this party owns and what it took part in."""

import asyncio
from collections.abc import Callable
from typing import Any

from p2pet.store.v1.store_pb2 import StateRow, TransactionRow
from p2pet.vault.v1 import vault_pb2 as pb
from p2pet.vault.v1 import vault_pb2_grpc

from p2petd import native
from p2petd.errors import TransactionNotFound
from p2petd.flows.flow_in_flight import InFlight
from p2petd.flows.settling import settle_flow_id
from p2petd.ledger.groups import Group
from p2petd.ledger.proposal import Proposal
from p2petd.ledger.resolved import Command, OutputState
from p2petd.ledger.transaction import Draft
from p2petd.rpc.errors import unary
from p2petd.rpc.paging import ascending, newest_first, page_size
from p2petd.store.changes import Reader
from p2petd.store.tables import FLOW_ID_BYTES, Table
from p2petd.units import NO_UPPER_BOUND
from p2petd.vault.balance import balances
from p2petd.vault.locks import SoftLocks
from p2petd.vault.parties import owner_of


class VaultService(vault_pb2_grpc.VaultServiceServicer):
    """Reads the view only."""

    def __init__(self, store: Reader, locks: SoftLocks, me: bytes, signed_parameters: Callable[[bytes], bytes]) -> None:
        """`signed_parameters` gives the `SignedNetworkParameters` with a hash."""
        self._store = store
        self._locks = locks
        self._me = me
        self._signed_parameters = signed_parameters

    @unary
    async def ListStates(self, request: pb.ListStatesRequest, context: Any) -> pb.ListStatesResponse:
        size, token = page_size(request.page_size), request.page_token
        locked = self._locks.locked_refs()
        answer = pb.ListStatesResponse()
        while True:
            rows, token = ascending(self._store, Table.STATE, token, size)
            answer.states.extend(
                state for ref, row in rows if (state := _state(ref, row, ref in locked)) and _wanted(state, request)
            )
            if answer.states or not token:
                answer.next_page_token = token
                return answer
            # Nobody waits while much is looked through.
            await asyncio.sleep(0)

    @unary
    async def GetBalance(self, request: pb.GetBalanceRequest, context: Any) -> pb.GetBalanceResponse:
        return balances(self._store, self._locks.locked_refs(), self._me)

    @unary
    async def ListTransactions(self, request: pb.ListTransactionsRequest, context: Any) -> pb.ListTransactionsResponse:
        size = page_size(request.page_size)
        keys, token = newest_first(self._store, Table.TRANSACTION_ORDER, request.page_token, size)
        summaries = [_summary(key[8:], self._row(key[8:])) for key in keys]
        return pb.ListTransactionsResponse(transactions=summaries, next_page_token=token)

    @unary
    async def GetTransaction(self, request: pb.GetTransactionRequest, context: Any) -> pb.GetTransactionResponse:
        row = self._row(request.id)
        return pb.GetTransactionResponse(
            summary=_summary(request.id, row),
            signed_transaction=row.signed_transaction,
            finality_proof=row.finality_proof,
        )

    @unary
    async def GetFinalityProof(self, request: pb.GetFinalityProofRequest, context: Any) -> pb.GetFinalityProofResponse:
        row = self._row(request.id)
        cited = _draft(row).groups[Group.PARAMETERS][0]
        return pb.GetFinalityProofResponse(
            finality_proof=row.finality_proof,
            signed_transaction=row.signed_transaction,
            signed_parameters=self._signed_parameters(cited),
        )

    @unary
    async def ListInFlight(self, request: pb.ListInFlightRequest, context: Any) -> pb.ListInFlightResponse:
        rows, token = ascending(self._store, Table.IN_FLIGHT, request.page_token, page_size(request.page_size))
        found = [_in_flight(key, row, self._follower(key)) for key, row in rows]
        return pb.ListInFlightResponse(transactions=found, next_page_token=token)

    def _follower(self, key: bytes) -> bytes:
        """The flow that signed it, or the one that follows it since that was ended."""
        settling = settle_flow_id(key)
        return key[:FLOW_ID_BYTES] if self._store.get(Table.FLOW, settling) is None else settling

    def _row(self, transaction_id: bytes) -> TransactionRow:
        row = self._store.get(Table.TRANSACTION, transaction_id) if len(transaction_id) == 32 else None
        if row is None:
            raise TransactionNotFound(f"the vault holds no transaction {transaction_id.hex()[:64]}")
        return TransactionRow.FromString(row)


def _state(ref: bytes, row: bytes, locked: bool) -> pb.VaultState:
    state = StateRow.FromString(row)
    return pb.VaultState(
        ref=ref,
        status=pb.STATE_STATUS_CONSUMED if state.consumed_by else pb.STATE_STATUS_UNCONSUMED,
        output=state.output,
        recorded_at_ns=state.recorded_at_ns,
        consumed_by=state.consumed_by,
        consumed_at_ns=state.consumed_at_ns,
        soft_locked=locked,
    )


def _in_flight(key: bytes, data: bytes, follower: bytes) -> pb.InFlight:
    found = InFlight.read(data)
    return pb.InFlight(
        id=found.draft.id,
        flow_id=follower,
        since_ns=found.row.since_ns,
        until_ns=0 if found.row.until_ns == NO_UPPER_BOUND else found.row.until_ns,
        notary=found.draft.groups[Group.NOTARY][0],
        asks_notary=bool(found.row.request),
    )


def _wanted(state: pb.VaultState, request: pb.ListStatesRequest) -> bool:
    output = OutputState.decode(state.output)
    return (
        request.status in (pb.STATE_STATUS_UNSPECIFIED, state.status)
        and request.contract in ("", output.contract)
        and request.owner in (b"", owner_of(output))
    )


def _draft(row: TransactionRow) -> Draft:
    return Draft.decode(Proposal.decode(row.signed_transaction).transaction)


def _summary(transaction_id: bytes, row: TransactionRow) -> pb.TransactionSummary:
    draft = _draft(row)
    _, notary, _, sequence, decided_at_ns, _ = native.finality_summary(row.finality_proof)
    return pb.TransactionSummary(
        id=transaction_id,
        recorded_at_ns=row.recorded_at_ns,
        inputs=len(draft.inputs),
        outputs=len(draft.outputs),
        commands=[Command.decode(component).type_name for component in draft.groups[Group.COMMANDS]],
        notary=notary,
        notary_sequence=sequence,
        decided_at_ns=decided_at_ns,
    )
