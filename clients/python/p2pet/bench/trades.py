"""Notarisation requests, built and signed before any clock starts: trades of energy for money, and what they consume."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from p2pet.notary.v1.notary_pb2 import NotarisationRequest

from p2petd import native
from p2petd.contracts import energy, payment
from p2petd.contracts.energy import EnergyIssue, EnergyState, EnergyTrade, issue_claims, lot_id
from p2petd.contracts.payment import PaymentIssue, PaymentPay, PaymentState
from p2petd.flows.context import PURPOSE_NOTARISATION
from p2petd.flows.finality import read_reply, request_digest
from p2petd.ledger.proposal import ED25519, PURPOSE_TRANSACTION, Signature
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.network.parameters import NetworkParameters
from p2petd.node import Membership
from p2petd.units import HOUR_NS, NO_LOWER_BOUND, MicroPerKwh, NanoMoney, TimeNs, WattHours, amount_nano

PARTIES = 64
LOTS_IN_ISSUE = 8
LOT_WH, TRADED_WH, PRICE_MICRO, COIN_NANO = 10_000, 6_000, 250_000, 10**12
WINDOW_NS = 6 * HOUR_NS


@dataclass(frozen=True)
class _Issue:
    """`LOTS_IN_ISSUE` lots of the seller, then as many coins of the buyer, in one transaction."""

    draft: Draft
    seller: native.SigningKey
    buyer: native.SigningKey
    lots: tuple[EnergyState, ...]
    coins: tuple[PaymentState, ...]


class TradeFactory:
    """Makes requests of one caller, which is also the issuer of the currency. Sellers and buyers are keys of no node."""

    def __init__(self, member: Membership, parameters: NetworkParameters, currency: str) -> None:
        self._caller = member.identity.signing_key
        self._network_id = member.identity.network_id
        self._parameters = parameters
        self._currency = currency
        self._keys = [native.SigningKey.from_seed(os.urandom(32)) for _ in range(2 * PARTIES)]
        self._issues: list[_Issue] = []

    def issues(self, trades: int) -> list[bytes]:
        """Requests that issue at least what so many trades consume."""
        first = len(self._issues)
        count = -(-trades // LOTS_IN_ISSUE)
        self._issues.extend(self._issue(number) for number in range(first, first + count))
        return [self._request(issue.draft, [issue.seller, self._caller], ()) for issue in self._issues[first:]]

    def trades(self, replies: Sequence[bytes]) -> list[bytes]:
        """Requests that trade all that the last `issues` made; `replies` are the notary's, in order."""
        issues, self._issues[:] = self._issues[-len(replies) :], self._issues[: -len(replies)] or self._issues[:0]
        requests = []
        for issue, reply in zip(issues, replies, strict=True):
            proof = read_reply(reply)
            requests.extend(self._trade(issue, index, proof) for index in range(LOTS_IN_ISSUE))
        return requests
