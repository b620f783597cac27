"""Who owns what, computed from what the notaries have accepted and nothing else: the reference for every vault.

It reads transactions as bytes and shares no code with contracts, flows or the vault.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from p2pet.ledger.v1.energy_pb2 import EnergyState, EnergyTrade
from p2pet.ledger.v1.payment_pb2 import PaymentState

from p2petd import native
from p2petd.ledger.groups import Group
from p2petd.ledger.window import TimeWindow
from tests.simulation.node import Violation

MONEY = "money"
Kind = tuple[object, ...]
# What a flow shall change: for each owner and kind the difference.
Change = Mapping[tuple[bytes, Kind], int]
ENDS = frozenset({"EnergyRetire", "EnergyExpire", "EnergyDeliver", "PaymentRedeem"})


@dataclass(frozen=True)
class Holding:
    """One state: of whom, of which kind, of which lot, how much, and who guards it."""

    owner: bytes
    kind: Kind
    lot: Kind
    amount: int
    notary: bytes

    @staticmethod
    def read(component: bytes) -> "Holding":
        contract, _, notary, type_name, _, payload, _ = native.decode_output(component)
        if (contract, type_name) == ("payment", "PaymentState"):
            money = PaymentState.FromString(payload)
            lot: Kind = (MONEY, money.currency, money.issuer)
            return Holding(money.owner, (MONEY, money.currency), lot, money.amount_nano, notary)
        if (contract, type_name) == ("energy", "EnergyState"):
            energy = EnergyState.FromString(payload)
            owner, amount = energy.owner, energy.quantity_wh
            energy.ClearField("owner")
            energy.ClearField("quantity_wh")
            kind = (energy.energy_type, energy.delivery_start_ns)
            return Holding(owner, kind, ("energy", energy.SerializeToString(deterministic=True)), amount, notary)
        raise Violation(f"nobody here makes a {type_name}")


@dataclass(frozen=True)
class Accepted:
    """A transaction that a notary has accepted; `parties` are all whose vaults it belongs into."""

    id: bytes
    commands: tuple[str, ...]
    inputs: tuple[bytes, ...]
    change: Change
    parties: frozenset[bytes]

    @property
    def is_move(self) -> bool:
        return not self.commands


@dataclass
class Ledger:
    """The one truth: every accepted transaction once, in the order in which they were accepted."""

    unspent: dict[bytes, Holding] = field(default_factory=dict)
    spent: dict[bytes, bytes] = field(default_factory=dict)
    claims: dict[bytes, bytes] = field(default_factory=dict)
    accepted: dict[bytes, Accepted] = field(default_factory=dict)
    # Under a uniqueness-only notary: ids that it has accepted, and what they consume; their content shows later.
    promised: dict[bytes, tuple[bytes, ...]] = field(default_factory=dict)
    _promised_inputs: dict[bytes, bytes] = field(default_factory=dict)

    def promise(self, identifier: bytes, inputs: tuple[bytes, ...]) -> None:
        """A transaction is accepted of which only this much is seen. Raises Violation (I1)."""
        self.promised[identifier] = inputs
        for ref in inputs:
            earlier = self.spent.get(ref, self._promised_inputs.setdefault(ref, identifier))
            if earlier != identifier:
                raise Violation(f"the state {ref.hex()} is consumed by {earlier.hex()} and by {identifier.hex()}")

    def accept(self, transaction: bytes) -> bool:
        """Whether it is a new one. Raises Violation unless all of this holds.

        1. Its inputs and claims are consumed by nothing else, and its inputs exist (I1, I4).
        2. It consumes nothing of anybody who has not signed.
        3. Of every lot and every issuer's money there is as much after it as before, but for issues and ends (I5).
        """
        decoded = native.Transaction.decode(transaction)
        identifier, groups = decoded.id, decoded.groups
        if identifier in self.accepted:
            return False
        commands = tuple(native.decode_command(command)[1] for command in groups[Group.COMMANDS])
        signers = {key for component in groups[Group.SIGNERS] for key, _ in native.decode_signers(component)}
        inputs = [self._take(ref, identifier) for ref in groups[Group.INPUTS]]
        outputs = [Holding.read(component) for component in groups[Group.OUTPUTS]]
        for claim in groups[Group.CLAIMS]:
            if self.claims.setdefault(claim, identifier) != identifier:
                raise Violation(f"the claim {claim.hex()} is used by {identifier.hex()} and another transaction")
        for holding in inputs:
            if holding.owner not in signers:
                raise Violation(f"{identifier.hex()} takes from {holding.owner.hex()} without its signature")
        _check_sums(identifier, commands, inputs, outputs)
        for index, holding in enumerate(outputs):
            self.unspent[identifier + index.to_bytes(4)] = holding
        self.accepted[identifier] = Accepted(
            id=identifier,
            commands=commands,
            inputs=tuple(groups[Group.INPUTS]),
            change=_change(inputs, outputs),
            parties=frozenset(signers).union((holding.owner for holding in outputs), _observers(groups)),
        )
        return True

    def may_conflict(self, transaction: bytes, now_ns: int) -> bool:
        """Whether whoever reserves what it spends can have made a transaction that conflicts with another one.

        1. It claims what can be claimed twice in good faith, the units of a meter;
        2. or its window is over, and the other parties have taken back what they had reserved for it;
        3. or it is the one that spends again on purpose (`respend`).
        """
        groups = native.Transaction.decode(transaction).groups
        if groups[Group.CLAIMS]:
            return True
        if groups[Group.TIME_WINDOW] and TimeWindow.decode(groups[Group.TIME_WINDOW][0]).until_ns <= now_ns:
            return True
        outputs = [Holding.read(component) for component in groups[Group.OUTPUTS]]
        signers = [key for component in groups[Group.SIGNERS] for key, _ in native.decode_signers(component)]
        names = [native.decode_command(command)[1] for command in groups[Group.COMMANDS]]
        return names == ["PaymentPay"] and {output.owner for output in outputs} == set(signers)

    def _take(self, ref: bytes, consumer: bytes) -> Holding:
        promised = self._promised_inputs.get(ref, consumer)
        holding = self.unspent.pop(ref, None) if promised == consumer else None
        if holding is None:
            earlier = self.spent.get(ref, promised).hex()
            raise Violation(f"the state {ref.hex()} is consumed by {earlier} and by {consumer.hex()}")
        self.spent[ref] = consumer
        return holding

    def of(self, owner: bytes) -> dict[bytes, Holding]:
        return {ref: holding for ref, holding in self.unspent.items() if holding.owner == owner}


def _observers(groups: list[list[bytes]]) -> Iterable[bytes]:
    for component in groups[Group.COMMANDS]:
        _, type_name, _, payload = native.decode_command(component)
        if type_name == "EnergyTrade":
            yield from EnergyTrade.FromString(payload).observers


def _check_sums(identifier: bytes, commands: tuple[str, ...], inputs: list[Holding], outputs: list[Holding]) -> None:
    before, after = _sums(inputs), _sums(outputs)
    for lot in before.keys() | after.keys():
        issued = lot not in before and f"{'Payment' if lot[0] == MONEY else 'Energy'}Issue" in commands
        ended = bool(ENDS.intersection(commands))
        if (after[lot] > before[lot] and not issued) or (after[lot] < before[lot] and not ended):
            raise Violation(f"{identifier.hex()} ({', '.join(commands)}) turns {before[lot]} into {after[lot]}")


def _sums(holdings: Iterable[Holding]) -> Counter[Kind]:
    sums: Counter[Kind] = Counter()
    for holding in holdings:
        sums[holding.lot] += holding.amount
    return sums


def _change(inputs: list[Holding], outputs: list[Holding]) -> Change:
    change: Counter[tuple[bytes, Kind]] = Counter()
    for sign, holdings in ((-1, inputs), (1, outputs)):
        for holding in holdings:
            change[holding.owner, holding.kind] += sign * holding.amount
    return {key: amount for key, amount in change.items() if amount}
