"""Transactions that scripted peers build, and the states that they come to hold."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from p2pet.notary.v1.notary_pb2 import NotarisationReply

from p2petd import native
from p2petd.contracts import energy, payment
from p2petd.contracts.energy import EnergyIssue, EnergyState, EnergyTrade, issue_claims, lot_id
from p2petd.contracts.payment import PaymentIssue, PaymentPay, PaymentState
from p2petd.ledger.proposal import Proposal
from p2petd.ledger.refs import StateRef
from p2petd.ledger.resolved import OutputState
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.units import NO_LOWER_BOUND, MicroPerKwh, NanoMoney, TimeNs, WattHours, amount_nano
from tests.support.community import CURRENCY, FIRST_PERIOD_NS, QUARTER_NS
from tests.support.peer import Connection, ScriptedPeer


@dataclass(frozen=True)
class Held:
    """An unconsumed state with its `ledger.v1.InputProof`."""

    ref: StateRef
    component: bytes
    proof: bytes

    @property
    def output(self) -> OutputState:
        return OutputState.decode(self.component)

    @property
    def money(self) -> PaymentState:
        return PaymentState.from_payload(self.output.payload)

    @property
    def energy(self) -> EnergyState:
        return EnergyState.from_payload(self.output.payload)


@dataclass(frozen=True)
class Final:
    """A notarised transaction: what a participant is told."""

    draft: Draft
    signed: Proposal
    finality_proof: bytes

    def held(self, index: int = 0) -> Held:
        proof = native.input_proof(self.draft.transaction, index, self.finality_proof)
        return Held(self.draft.output_ref(index), self.draft.outputs[index], proof)


def builder_of(peer: ScriptedPeer) -> TransactionBuilder:
    """A builder for the network's first notary under its only parameters."""
    (parameters_hash,) = peer.network_map.parameters
    parameters = peer.network_map.parameters[parameters_hash].parameters
    return TransactionBuilder(parameters.notaries[0].service_key, parameters_hash)


def built(builder: TransactionBuilder) -> Draft:
    return builder.build(secrets.token_bytes(32))


def money_issue(issuer: ScriptedPeer, owners: Sequence[bytes], amount: int) -> TransactionBuilder:
    """`amount` nano for each owner."""
    builder = builder_of(issuer)
    for owner in owners:
        state = PaymentState(CURRENCY, NanoMoney(amount), issuer.identity, owner)
        builder.add_output(payment.NAME, payment.VERSION, state)
        builder.add_command(payment.NAME, PaymentIssue(secrets.token_bytes(32)), [issuer.identity])
    return builder


def pay(peer: ScriptedPeer, coins: Sequence[Held], payee: bytes) -> TransactionBuilder:
    """Everything that the coins are worth, to one payee in one state."""
    builder = builder_of(peer)
    for coin in coins:
        builder.add_input(coin.ref, coin.component)
    total = sum(coin.money.amount_nano for coin in coins)
    whole = replace(coins[0].money, amount_nano=NanoMoney(total), owner=payee)
    builder.add_output(payment.NAME, payment.VERSION, whole)
    return builder.add_command(payment.NAME, PaymentPay(), sorted({coin.money.owner for coin in coins}))


def lot_of(producer: bytes, quantity_wh: int, meter: str, period: int = 0, price: int = 200_000) -> EnergyState:
    start = FIRST_PERIOD_NS + period * QUARTER_NS
    return EnergyState(
        energy_type="solar",
        quantity_wh=WattHours(quantity_wh),
        delivery_start_ns=TimeNs(start),
        delivery_end_ns=TimeNs(start + QUARTER_NS),
        asked_price_micro_per_kwh=MicroPerKwh(price),
        issuer=producer,
        owner=producer,
        meter=meter,
        zone="feeder-1",
        lot_id=lot_id(producer, meter, start, start + QUARTER_NS, quantity_wh),
    )


def energy_issue(producer: ScriptedPeer, quantity_wh: int, meter: str, period: int = 0) -> TransactionBuilder:
    lot = lot_of(producer.identity, quantity_wh, meter, period)
    builder = builder_of(producer)
    builder.add_output(energy.NAME, energy.VERSION, lot)
    builder.add_command(energy.NAME, EnergyIssue(), [producer.identity])
    for claim in issue_claims(meter, lot.delivery_start_ns, lot.delivery_end_ns, QUARTER_NS):
        builder.add_claim(claim)
    return builder


@dataclass(frozen=True)
class TradePlan:
    """A trade that is right in every respect; a test replaces what shall be wrong."""

    lot: Held
    coin: Held
    seller: bytes
    buyer: bytes
    quantity_wh: int
    price: int
    until_ns: int
    # Who gets what; None is who should.
    energy_to: bytes | None = None
    money_to: bytes | None = None
    # What is delivered and paid; None is what the command says.
    delivered_wh: int | None = None
    paid_nano: int | None = None
    # SHA-256 of the attachment that bounds the price.
    tariff: bytes = b""

    def build(self, builder: TransactionBuilder) -> TransactionBuilder:
        amount = amount_nano(self.quantity_wh, self.price)
        paid = amount if self.paid_nano is None else self.paid_nano
        delivered = self.quantity_wh if self.delivered_wh is None else self.delivered_wh
        builder.window(NO_LOWER_BOUND, TimeNs(self.until_ns))
        builder.add_input(self.lot.ref, self.lot.component).add_input(self.coin.ref, self.coin.component)
        _split_lot(builder, self.lot.energy, delivered, self.energy_to or self.buyer)
        _split_coin(builder, self.coin.money, paid, self.money_to or self.seller)
        command = EnergyTrade(
            seller=self.seller,
            buyer=self.buyer,
            quantity_wh=WattHours(self.quantity_wh),
            price_micro_per_kwh=MicroPerKwh(self.price),
            amount_nano=NanoMoney(amount),
            currency=CURRENCY,
            currency_issuer=self.coin.money.issuer,
            tariff=self.tariff,
        )
        if self.tariff:
            builder.add_attachment(self.tariff)
        builder.add_command(energy.NAME, command, [self.seller, self.buyer])
        return builder.add_command(payment.NAME, PaymentPay(), [self.buyer])

    @property
    def proofs(self) -> tuple[bytes, ...]:
        return (self.lot.proof, self.coin.proof)


def _split_lot(builder: TransactionBuilder, lot: EnergyState, quantity_wh: int, to: bytes) -> None:
    rest = lot.quantity_wh - quantity_wh
    builder.add_output(energy.NAME, energy.VERSION, replace(lot, quantity_wh=WattHours(quantity_wh), owner=to))
    if rest:
        builder.add_output(energy.NAME, energy.VERSION, replace(lot, quantity_wh=WattHours(rest)))


def _split_coin(builder: TransactionBuilder, coin: PaymentState, amount: int, to: bytes) -> None:
    rest = coin.amount_nano - amount
    builder.add_output(payment.NAME, payment.VERSION, replace(coin, amount_nano=NanoMoney(amount), owner=to))
    if rest:
        builder.add_output(payment.NAME, payment.VERSION, replace(coin, amount_nano=NanoMoney(rest)))


async def notarised(
    connection: Connection,
    caller: ScriptedPeer,
    draft: Draft,
    signers: Iterable[ScriptedPeer],
    proofs: Sequence[bytes] = (),
) -> Final:
    """The transaction, signed and notarised; it must succeed."""
    signatures = [signer.sign(draft.id) for signer in signers]
    reply = await connection.ask(caller.request(draft, draft.proposal(signatures, proofs)))
    assert reply.WhichOneof("result") == "finality_proof", f"{reply.error.code}: {reply.error.message}"
    return Final(draft, draft.proposal(signatures), reply.finality_proof)


def refusal(reply: NotarisationReply, code: str) -> "NotarisationReply":
    """The reply, which refuses with this code and one sentence."""
    assert reply.WhichOneof("result") == "error", "the notary signed it"
    assert reply.error.code == code, f"{reply.error.code}: {reply.error.message}"
    assert reply.error.message
    assert "\n" not in reply.error.message
    return reply
