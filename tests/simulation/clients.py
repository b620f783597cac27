"""What clients want: flows of every kind, right and wrong, each with the change that it shall make exactly once."""

import contextvars
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from google.protobuf.message import Message
from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_COMPLETED, FLOW_STATUS_FAILED, FlowOutcome, FlowStart
from p2pet.store.v1.store_pb2 import FlowRow

from p2petd.errors import DiskFull, NodeDraining, NodeError
from p2petd.flows.events import Start
from tests.simulation.community import CURRENCY, ENERGY, FIRST_PERIOD_NS, UNIT_NS
from tests.simulation.model import MONEY, Change
from tests.simulation.node import Node, Violation, Watching
from tests.simulation.virtual_loop import VirtualLoop

PERIODS = 3
COIN_NANO = 1_000_000_000
_Drawn = Callable[[Node], tuple[str, Message, Change]]
ENDED = (FLOW_STATUS_COMPLETED, FLOW_STATUS_FAILED)


@dataclass(eq=False)
class Intent:
    """A flow that a client wants, once; and what it was told of it."""

    client_id: str
    node: Node
    flow: str
    arguments: Message
    change: Change
    flow_id: bytes = b""
    outcome: FlowOutcome | None = None
    refused: str = ""
    # Somebody else ends it: it may have made its change, or none.
    given_up: bool = False
    asked: int = 0

    @property
    def start(self) -> FlowStart:
        return FlowStart(client_id=self.client_id, flow=self.flow, arguments=self.arguments.SerializeToString())


@dataclass
class Clients:
    """All clients of all nodes. Each asks again until it is told the outcome."""

    loop: VirtualLoop
    chance: random.Random
    parties: tuple[Node, ...]
    notaries: tuple[bytes, ...]
    intents: list[Intent] = field(default_factory=list)
    lose: float = 0.0

    def endow(self) -> None:
        """Money or energy for somebody, to begin with."""
        issuer = next(node for node in self.parties if node.name == "community")
        if self.chance.random() < 0.5:
            self._want(issuer, self._issue_money)
        else:
            self._want(self.chance.choice(self.parties), self._request)

    def want(self) -> None:
        """One more flow, of somebody, of some kind."""
        node = self.chance.choice(self.parties)
        self._want(node, self.chance.choice(self._kinds(node)))

    def _want(self, node: Node, kind: _Drawn) -> None:
        self.ask_for(node, *kind(node))

    def ask_for(self, node: Node, flow: str, arguments: Message, change: Change) -> Intent:
        """Exactly this, of this node."""
        intent = Intent(f"client-{len(self.intents)}", node, flow, arguments, change)
        self.intents.append(intent)
        self._ask(intent)
        return intent

    def repeat(self) -> None:
        """A client that asks what it has asked before; with other arguments, which do not count."""
        if self.intents:
            self._ask(self.chance.choice(self.intents))

    def _ask(self, intent: Intent) -> None:
        if intent.refused:
            return
        intent.asked += 1
        if intent.node.is_up:
            watching = Watching(lambda told: self._told(intent, told))
            intent.node.submit(Start(intent.start, self._hearing(intent), watching))
        if intent.outcome is None:
            self.loop.call_later(self.chance.uniform(5.0, 40.0), self._ask_again, intent, context=contextvars.Context())

    def _ask_again(self, intent: Intent) -> None:
        if intent.outcome is None:
            self._ask(intent)

    def _hearing(self, intent: Intent) -> Callable[[bytes | NodeError], None]:
        def hear(answer: bytes | NodeError) -> None:
            if self.chance.random() < self.lose:
                return
            if isinstance(answer, DiskFull | NodeDraining):
                return
            if isinstance(answer, NodeError):
                if intent.flow_id:
                    raise Violation(f"{intent.client_id} was started, and is refused now: {answer}")
                intent.refused = answer.code
            elif intent.flow_id not in (b"", answer):
                raise Violation(f"{intent.client_id} has two flows")
            else:
                intent.flow_id = answer

        return hear

    def _told(self, intent: Intent, outcome: FlowOutcome) -> None:
        if self.chance.random() < self.lose or outcome.status not in ENDED:
            return
        if intent.outcome is not None and intent.outcome != outcome:
            raise Violation(f"{intent.client_id} was told {intent.outcome}, and now {outcome}")
        intent.outcome = outcome

    def give_up(self, node: Node, row: FlowRow) -> None:
        """Somebody ends this flow, or the one that it answers."""
        for intent in self.intents:
            if intent.node is node and intent.client_id == row.client_id:
                intent.given_up = True

    # The kinds of flows.

    def _kinds(self, node: Node) -> list[_Drawn]:
        kinds: list[_Drawn] = [self._issue_money] * 3 if node.name == "community" else [self._request, self._redeem]
        kinds += [self._pay, self._pay, self._trade, self._trade, self._transfer, self._request]
        kinds += [self._split, self._merge, self._retire, self._move, self._respend]
        return kinds

    def _amount(self, right: int) -> int:
        """Mostly a right one."""
        return self.chance.choice((right,) * 12 + (0, -right, right * 10**6))

    def _other(self, node: Node) -> Node:
        return self.chance.choice([other for other in self.parties if other is not node])

    def _energy(self) -> tuple[args.EnergySelection, tuple[str, int]]:
        kind = self.chance.choice(ENERGY)
        start = FIRST_PERIOD_NS + self.chance.randrange(PERIODS) * UNIT_NS
        selection = args.EnergySelection(energy_type=kind, delivery_start_ns=start, delivery_end_ns=start + UNIT_NS)
        return selection, (kind, start)

    def _issue_money(self, node: Node) -> tuple[str, Message, Change]:
        to = self.chance.choice(self.parties)
        amount = self._amount(self.chance.randint(1, 20) * COIN_NANO)
        arguments = args.PaymentIssueArguments(currency=CURRENCY, amount_nano=amount, recipient=to.me)
        if self.chance.random() < 0.5:
            arguments.notary = self.chance.choice(self.notaries)
        return "payment.issue", arguments, {(to.me, (MONEY, CURRENCY)): amount}

    def _pay(self, node: Node) -> tuple[str, Message, Change]:
        to, amount = self._other(node), self._amount(self.chance.randint(1, 5 * COIN_NANO))
        arguments = args.PaymentPayArguments(currency=CURRENCY, amount_nano=amount, recipient=to.me)
        return "payment.pay", arguments, _given(node, to, (MONEY, CURRENCY), amount)

    def _redeem(self, node: Node) -> tuple[str, Message, Change]:
        amount = self._amount(self.chance.randint(1, 3 * COIN_NANO))
        arguments = args.PaymentRedeemArguments(currency=CURRENCY, amount_nano=amount)
        return "payment.redeem", arguments, {(node.me, (MONEY, CURRENCY)): -amount}

    def _request(self, node: Node) -> tuple[str, Message, Change]:
        selection, kind = self._energy()
        quantity = self._amount(self.chance.randint(1_000, 50_000))
        # Meters and units are few: the second issue of one is refused.
        arguments = args.EnergyRequestArguments(
            energy_type=selection.energy_type,
            quantity_wh=quantity,
            delivery_start_ns=selection.delivery_start_ns,
            delivery_end_ns=selection.delivery_end_ns,
            asked_price_micro_per_kwh=self.chance.randint(0, 200_000),
            meter=f"meter-{node.name}-{selection.energy_type}-{self.chance.randrange(20)}",
            zone="feeder",
        )
        return "energy.request", arguments, {(node.me, kind): quantity}

    def _transfer(self, node: Node) -> tuple[str, Message, Change]:
        to, (selection, kind) = self._other(node), self._energy()
        quantity = self._amount(self.chance.randint(1, 5_000))
        arguments = args.EnergyTransferArguments(energy=selection, quantity_wh=quantity, recipient=to.me)
        return "energy.transfer", arguments, _given(node, to, kind, quantity)

    def _trade(self, node: Node) -> tuple[str, Message, Change]:
        seller, (selection, kind) = self._other(node), self._energy()
        quantity, price = self._amount(self.chance.randint(1, 5_000)), self.chance.randint(0, 400_000)
        arguments = args.EnergyTradeArguments(
            seller=seller.me,
            energy=selection,
            quantity_wh=quantity,
            price_micro_per_kwh=price,
            currency=CURRENCY,
            observers=[self.chance.choice(self.parties).me] if self.chance.random() < 0.3 else [],
        )
        paid = _given(node, seller, (MONEY, CURRENCY), quantity * price)
        return "energy.trade", arguments, {**_given(seller, node, kind, quantity), **paid}

    def _split(self, node: Node) -> tuple[str, Message, Change]:
        parts = [self._amount(self.chance.randint(1, 2_000)) for _ in range(self.chance.randint(1, 4))]
        return "energy.split", args.EnergySplitArguments(energy=self._energy()[0], parts_wh=parts), {}

    def _merge(self, node: Node) -> tuple[str, Message, Change]:
        return "energy.merge", args.EnergyMergeArguments(energy=self._energy()[0]), {}

    def _retire(self, node: Node) -> tuple[str, Message, Change]:
        (selection, kind), quantity = self._energy(), self._amount(self.chance.randint(1, 2_000))
        arguments = args.EnergyRetireArguments(energy=selection, quantity_wh=quantity)
        return "energy.retire", arguments, {(node.me, kind): -quantity}

    def _move(self, node: Node) -> tuple[str, Message, Change]:
        return "ledger.notary_change", args.NotaryChangeArguments(notary=self.chance.choice(self.notaries)), {}

    def _respend(self, node: Node) -> tuple[str, Message, Change]:
        return "simulation.respend", args.PaymentPayArguments(amount_nano=self.chance.randrange(1 << 30)), {}


def _given(giver: Node, taker: Node, kind: tuple[object, ...], amount: int) -> Change:
    return {(giver.me, kind): -amount, (taker.me, kind): amount} if amount else {}
