"""Notarisation requests, built and signed before any clock starts: trades, and what they consume."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from p2pet.notary.v1.notary_pb2 import NotarisationRequest
from p2petd import native
from p2petd.contracts import energy, meter, payment
from p2petd.contracts.energy import EnergyIssue, EnergyState, EnergyTrade, issue_claims, lot_id
from p2petd.contracts.meter import MeterRegister, MeterRegistration, meter_claim
from p2petd.contracts.payment import PaymentIssue, PaymentPay, PaymentState
from p2petd.flows.finality import read_reply, request_digest
from p2petd.flows.flow_ledger import PURPOSE_NOTARISATION
from p2petd.ledger.proposal import ED25519, PURPOSE_TRANSACTION, Signature
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.membership import Membership
from p2petd.units import HOUR_NS, NO_LOWER_BOUND, MicroPerKwh, NanoMoney, TimeNs, WattHours, amount_nano

PARTIES = 64
LOTS_IN_ISSUE = 8
LOT_WH, TRADED_WH, PRICE_MICRO, COIN_NANO = 10_000, 6_000, 250_000, 10**12
WINDOW_NS = 6 * HOUR_NS
DAY_NS = 24 * HOUR_NS
# Each seller's meter: registered for longer than any bench needs market time units, from the day after tomorrow on.
ZONE, CAPACITY_W, REGISTERED_UNITS = "zone-1", 10**6, 10**6


@dataclass(frozen=True)
class Producer:
    """A seller with its one meter; `registration` creates the meter's registration, `proof` is the proof of that."""

    key: native.SigningKey
    meter: str
    registration: Draft
    proof: bytes = b""


@dataclass(frozen=True)
class Issue:
    """A request that makes `LOTS_IN_ISSUE` lots of the seller, then as many coins of the buyer, in one transaction."""

    request: bytes
    draft: Draft
    seller: Producer
    buyer: native.SigningKey
    lots: tuple[EnergyState, ...]
    coins: tuple[PaymentState, ...]


class TradeFactory:
    """Makes requests of one caller, the issuer of the currency. Sellers and buyers are keys of no node."""

    def __init__(self, member: Membership, currency: str) -> None:
        self._caller = member.identity.signing_key
        self._network_id = member.identity.network_id
        self._parameters = member.network_map.current_parameters(TimeNs(time.time_ns()))
        self._currency = currency
        # A trade's window ends long before its delivery starts, however late in the day it is.
        self._first_unit_ns = (time.time_ns() // DAY_NS + 2) * DAY_NS
        self._buyers = [_new_key() for _ in range(PARTIES)]
        self._producers = [self._producer(f"meter-{number}") for number in range(PARTIES)]
        self._made = 0

    def registrations(self) -> list[bytes]:
        """Requests that register each seller's meter; give the answers to `registered` before anything is issued."""
        return [self._request(one.registration, (one.key, self._caller), ()) for one in self._producers]

    def registered(self, replies: Sequence[bytes]) -> None:
        """`replies` are the notary's answers to `registrations`, in order."""
        self._producers = [
            replace(one, proof=native.input_proof(one.registration.transaction, 0, read_reply(reply)))
            for one, reply in zip(self._producers, replies, strict=True)
        ]

    def issues(self, trades: int) -> list[Issue]:
        """What so many trades, or a few more, can consume."""
        return [self._issue() for _ in range(-(-trades // LOTS_IN_ISSUE))]

    def trades(self, issues: Sequence[Issue], replies: Sequence[bytes]) -> list[bytes]:
        """Requests that trade all that these issues made; `replies` are the notary's answers to them, in order."""
        requests: list[bytes] = []
        for issue, reply in zip(issues, replies, strict=True):
            proof = read_reply(reply)
            requests.extend(self._trade(issue, index, proof) for index in range(LOTS_IN_ISSUE))
        return requests

    def _issue(self) -> Issue:
        number, self._made = self._made, self._made + 1
        seller = self._producers[number % PARTIES]
        buyer = self._buyers[number // PARTIES % PARTIES]
        issuer, unit_ns = self._caller.public, self._parameters.market_time_unit_ns
        first_ns = self._first_unit_ns + number // PARTIES * LOTS_IN_ISSUE * unit_ns
        starts_ns = [first_ns + index * unit_ns for index in range(LOTS_IN_ISSUE)]
        lots = tuple(self._lot(seller, start_ns, start_ns + unit_ns) for start_ns in starts_ns)
        coins = (PaymentState(self._currency, NanoMoney(COIN_NANO), issuer, buyer.public),) * LOTS_IN_ISSUE
        builder = self._builder()
        builder.add_reference(seller.registration.output_ref(0), seller.registration.outputs[0])
        for lot in lots:
            builder.add_output(energy.NAME, energy.VERSION, lot)
            builder.add_command(energy.NAME, EnergyIssue(), [seller.key.public])
            for claim in issue_claims(lot.meter, lot.delivery_start_ns, lot.delivery_end_ns, unit_ns):
                builder.add_claim(claim)
        for coin in coins:
            builder.add_output(payment.NAME, payment.VERSION, coin)
            builder.add_command(payment.NAME, PaymentIssue(os.urandom(32)), [issuer])
        draft = builder.build(os.urandom(32))
        request = self._request(draft, (seller.key, self._caller), (seller.proof,))
        return Issue(request, draft, seller, buyer, lots, coins)

    def _producer(self, meter_name: str) -> Producer:
        key, registrar = _new_key(), self._caller.public
        until_ns = self._first_unit_ns + REGISTERED_UNITS * self._parameters.market_time_unit_ns
        state = MeterRegistration(
            meter=meter_name,
            producer=key.public,
            zone=ZONE,
            capacity_w=CAPACITY_W,
            energy_types=(self._parameters.energy_types[0],),
            issue_notary=self._parameters.notaries[0].service_key,
            valid_from_ns=TimeNs(self._first_unit_ns),
            valid_until_ns=TimeNs(until_ns),
            registrar=registrar,
        )
        builder = self._builder().add_output(meter.NAME, meter.VERSION, state)
        builder.add_command(meter.NAME, MeterRegister(), sorted((key.public, registrar)))
        return Producer(key, meter_name, builder.add_claim(meter_claim(meter_name)).build(os.urandom(32)))

    def _lot(self, seller: Producer, start_ns: int, end_ns: int) -> EnergyState:
        return EnergyState(
            energy_type=self._parameters.energy_types[0],
            quantity_wh=WattHours(LOT_WH),
            delivery_start_ns=TimeNs(start_ns),
            delivery_end_ns=TimeNs(end_ns),
            asked_price_micro_per_kwh=MicroPerKwh(PRICE_MICRO),
            issuer=seller.key.public,
            owner=seller.key.public,
            meter=seller.meter,
            zone=ZONE,
            lot_id=lot_id(seller.key.public, seller.meter, start_ns, end_ns, LOT_WH),
        )

    def _trade(self, issue: Issue, index: int, proof: bytes) -> bytes:
        """As `energy.trade` builds it: one lot and one coin in; energy, payment and the change of both out."""
        seller, buyer, lot, coin = issue.seller.key.public, issue.buyer.public, issue.lots[index], issue.coins[index]
        price = amount_nano(TRADED_WH, PRICE_MICRO)
        builder = self._builder().window(NO_LOWER_BOUND, TimeNs(time.time_ns() + WINDOW_NS))
        for output in (index, LOTS_IN_ISSUE + index):
            builder.add_input(issue.draft.output_ref(output), issue.draft.outputs[output])
        for quantity_wh, owner in ((TRADED_WH, buyer), (LOT_WH - TRADED_WH, seller)):
            state = replace(lot, quantity_wh=WattHours(quantity_wh), owner=owner)
            builder.add_output(energy.NAME, energy.VERSION, state)
        for amount, owner in ((price, seller), (COIN_NANO - price, buyer)):
            builder.add_output(payment.NAME, payment.VERSION, replace(coin, amount_nano=NanoMoney(amount), owner=owner))
        command = EnergyTrade(
            seller,
            buyer,
            WattHours(TRADED_WH),
            MicroPerKwh(PRICE_MICRO),
            NanoMoney(price),
            self._currency,
            coin.issuer,
        )
        builder.add_command(energy.NAME, command, [seller, buyer])
        builder.add_command(payment.NAME, PaymentPay(), [buyer])
        outputs = (index, LOTS_IN_ISSUE + index)
        proofs = tuple(native.input_proof(issue.draft.transaction, output, proof) for output in outputs)
        return self._request(builder.build(os.urandom(32)), (issue.seller.key, issue.buyer), proofs)

    def _builder(self) -> TransactionBuilder:
        return TransactionBuilder(self._parameters.notaries[0].service_key, self._parameters.hash)

    def _request(self, draft: Draft, keys: Sequence[native.SigningKey], proofs: tuple[bytes, ...]) -> bytes:
        signatures = [Signature(key.public, key.sign(self._network_id, PURPOSE_TRANSACTION, draft.id)) for key in keys]
        digest = request_digest(draft.inputs, draft.id)
        return NotarisationRequest(
            proposal=draft.proposal(signatures, proofs).encode(),
            caller=self._caller.public,
            scheme=ED25519,
            signature=self._caller.sign(self._network_id, PURPOSE_NOTARISATION, digest),
        ).SerializeToString(deterministic=True)


def _new_key() -> native.SigningKey:
    return native.SigningKey.from_seed(os.urandom(32))
