"""What oracles vouch for, as flows ask for it and have it signed."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError
from p2pet.ledger.v1 import oracle_pb2
from p2pet.oracle.v1.oracle_pb2 import FactQuery, FactsReply, FactsRequest, SignReply, SignRequest

from p2petd import native
from p2petd.contracts import oracle
from p2petd.contracts.oracle import FORECAST, READING, TARIFF, Attestation
from p2petd.errors import FlowError, NodeError, UnknownFact, error_from_code
from p2petd.flows.context import FlowContext
from p2petd.ledger.groups import Group
from p2petd.ledger.proposal import ED25519, PURPOSE_TRANSACTION, Signature
from p2petd.ledger.resolved import Command
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.oracle.service import FACTS, SIGN

R = TypeVar("R", FactsReply, SignReply)


def reading_query(meter: str, start_ns: int, end_ns: int) -> FactQuery:
    """What did the meter feed in?"""
    return FactQuery(reading=oracle_pb2.MeterReading(meter=meter, start_ns=start_ns, end_ns=end_ns))


def forecast_query(meter: str, start_ns: int, end_ns: int) -> FactQuery:
    """What can it be expected to feed in at most?"""
    return FactQuery(forecast=oracle_pb2.EnergyForecast(meter=meter, start_ns=start_ns, end_ns=end_ns))


def tariff_query(tariff: bytes, at_ns: int) -> FactQuery:
    """Is this tariff in force, or without one: which is, at that moment?"""
    notice = oracle_pb2.TariffNotice(tariff=tariff) if tariff else oracle_pb2.TariffNotice(valid_from_ns=at_ns)
    return FactQuery(tariff=notice)


def kind_of(query: FactQuery) -> str:
    """The kind of fact that a query asks for, as the network parameters name it."""
    return {"reading": READING, "forecast": FORECAST, "tariff": TARIFF}[str(query.WhichOneof("query"))]


async def oracle_node(ctx: FlowContext, oracle_key: bytes) -> bytes:
    """Identity of the node that signs with this oracle's key; journaled. Raises UnknownParty."""
    return await ctx.once(
        f"know oracle {oracle_key.hex()[:16]}", lambda: ctx.network_map.oracle_node(oracle_key).identity
    )


async def ask_facts(ctx: FlowContext, oracle_key: bytes, queries: Sequence[FactQuery]) -> Attestation:
    """What one oracle says now, ready to be a command; whether it is true, nobody else can say.

    An oracle that does not answer is waited for. Raises UnknownFact when it knows not all of it, UnknownParty, or
    FlowError for an answer to another question.
    """
    node = await oracle_node(ctx, oracle_key)
    answer = await ctx.call(node, FACTS, FactsRequest(queries=queries).SerializeToString(deterministic=True))
    reply = _decoded(FactsReply, answer)
    if reply.error_code:
        raise error_from_code(reply.error_code, f"the oracle says: {reply.error_message}")
    attestation = Attestation.from_payload(reply.attestation.SerializeToString(deterministic=True))
    if attestation.oracle != oracle_key or not _answers(attestation, queries):
        raise FlowError("the oracle has answered another question than the one that was asked")
    return attestation


async def find_facts(ctx: FlowContext, queries: Sequence[FactQuery]) -> tuple[Attestation, ...]:
    """All of the facts, by as few oracles as can be: the first listed one that knows all, else one for each kind.

    Raises UnknownFact as the last oracle that was asked, FlowError for a kind that no listed oracle may vouch for.
    """
    by_kind: dict[str, list[FactQuery]] = {}
    for query in queries:
        by_kind.setdefault(kind_of(query), []).append(query)
    for_all = _listed(ctx, by_kind)
    found = await _first_that_knows(ctx, for_all, queries) if for_all else None
    if isinstance(found, Attestation):
        return (found,)
    if len(by_kind) == 1 and found is not None:
        raise found
    attestations = []
    for kind, asked in by_kind.items():
        one = await _first_that_knows(ctx, _listed(ctx, [kind]), asked)
        if one is None:
            raise FlowError(f"the network parameters list no oracle that vouches for a {kind}")
        if isinstance(one, NodeError):
            raise one
        attestations.append(one)
    if len({one.oracle for one in attestations}) != len(attestations):
        raise FlowError("the oracle learned of the facts while it was asked; start the flow again")
    return tuple(attestations)


def add_attestations(builder: TransactionBuilder, attestations: Iterable[Attestation]) -> None:
    """One command for each, which its oracle alone signs."""
    for attestation in attestations:
        builder.add_command(oracle.NAME, attestation, [attestation.oracle])


async def attested(ctx: FlowContext, draft: Draft, oracle_key: bytes) -> Signature:
    """The oracle's signature of the draft; it is shown its own attestation and nothing else.

    Raises FactDiffers when the fact was corrected meanwhile, OracleError when it refuses for another reason, FlowError
    for a signature that does not verify.
    """
    ctx.progress("collecting the oracle's signature")
    node = await oracle_node(ctx, oracle_key)
    request = SignRequest(
        transaction_id=draft.id,
        tear_off=native.tear_off(draft.transaction, [(Group.COMMANDS, _command_of(draft, oracle_key))], []),
    )
    reply = _decoded(SignReply, await ctx.call(node, SIGN, request.SerializeToString(deterministic=True)))
    if reply.error_code:
        raise error_from_code(reply.error_code, f"the oracle does not sign: {reply.error_message}")
    item = (oracle_key, ctx.parameters.network_id, PURPOSE_TRANSACTION, draft.id, reply.signature)
    if native.verify_signatures([item]) != [True]:
        raise FlowError("the signature that the oracle gave does not verify")
    return Signature(oracle_key, reply.signature, ED25519)


async def all_attested(ctx: FlowContext, draft: Draft, attestations: Iterable[Attestation]) -> tuple[Signature, ...]:
    """The signatures of all oracles whose attestations stand in the draft. Raises as `attested`."""
    return tuple([await attested(ctx, draft, attestation.oracle) for attestation in attestations])


def _decoded(reply_type: type[R], answer: bytes) -> R:
    try:
        return reply_type.FromString(answer)
    except DecodeError:
        raise FlowError(f"the oracle sent no valid {reply_type.DESCRIPTOR.name}") from None


def _listed(ctx: FlowContext, kinds: Iterable[str]) -> list[bytes]:
    """The oracles that may vouch for all of these kinds, in the order of the parameters."""
    wanted = frozenset(kinds)
    return [one.key for one in ctx.parameters.oracles if wanted <= one.facts]


async def _first_that_knows(
    ctx: FlowContext, oracles: Sequence[bytes], queries: Sequence[FactQuery]
) -> Attestation | UnknownFact | None:
    """What the first oracle that knows says, else why the last does not; None when there is no oracle."""
    unknown: UnknownFact | None = None
    for oracle_key in oracles:
        try:
            return await ask_facts(ctx, oracle_key, queries)
        except UnknownFact as error:
            unknown = error
    return unknown


def _answers(attestation: Attestation, queries: Sequence[FactQuery]) -> bool:
    """Whether it holds a fact for each query, of each kind in the order in which they were asked, and no other."""
    asked = [(q.reading.meter, q.reading.start_ns, q.reading.end_ns) for q in queries if q.HasField("reading")]
    if asked != [(fact.meter, fact.start_ns, fact.end_ns) for fact in attestation.readings]:
        return False
    expected = [(q.forecast.meter, q.forecast.start_ns, q.forecast.end_ns) for q in queries if q.HasField("forecast")]
    if expected != [(fact.meter, fact.start_ns, fact.end_ns) for fact in attestation.forecasts]:
        return False
    tariffs = [q.tariff for q in queries if q.HasField("tariff")]
    return len(tariffs) == len(attestation.tariffs) and all(
        one.tariff == notice.tariff if one.tariff else notice.valid_from_ns <= one.valid_from_ns < notice.valid_until_ns
        for one, notice in zip(tariffs, attestation.tariffs, strict=True)
    )


def _command_of(draft: Draft, oracle_key: bytes) -> int:
    """The index of the oracle's attestation among the commands."""
    for index, component in enumerate(draft.groups[Group.COMMANDS]):
        command = Command.decode(component)
        if command.contract == oracle.NAME and oracle.decode_command(command).oracle == oracle_key:
            return index
    raise AssertionError("the draft has no attestation of this oracle")
