"""Sums over the unconsumed states of a vault; exact."""

from dataclasses import dataclass

from p2pet.store.v1.store_pb2 import StateRow
from p2pet.vault.v1.vault_pb2 import EnergyBalance, GetBalanceResponse, MoneyBalance

from p2petd.contracts import energy
from p2petd.contracts.energy import EnergyState
from p2petd.contracts.payment import PaymentState
from p2petd.ledger.resolved import OutputState
from p2petd.store.changes import Reader, scan_prefix
from p2petd.store.tables import Table
from p2petd.vault.buckets import ENERGY_TAG, MONEY_TAG


@dataclass
class _Sum:
    amount: int = 0
    locked: int = 0
    own: int = 0


def balances(store: Reader, locked: frozenset[bytes], me: bytes) -> GetBalanceResponse:
    """Energy by (type, period) and money by (currency, issuer), in that order."""
    energies: dict[tuple[int, int, str], _Sum] = {}
    monies: dict[tuple[str, bytes], _Sum] = {}
    for tag in (ENERGY_TAG, MONEY_TAG):
        for key, _ in scan_prefix(store, Table.SPENDABLE, tag):
            ref = key[-36:]
            row = store.get(Table.STATE, ref)
            if row is None:
                continue
            output = OutputState.decode(StateRow.FromString(row).output)
            if output.contract == energy.NAME:
                lot = EnergyState.from_payload(output.payload)
                entry = energies.setdefault((lot.delivery_start_ns, lot.delivery_end_ns, lot.energy_type), _Sum())
                amount: int = lot.quantity_wh
                entry.own += amount if lot.issuer == me else 0
            else:
                money = PaymentState.from_payload(output.payload)
                entry = monies.setdefault((money.currency, money.issuer), _Sum())
                amount = money.amount_nano
            entry.amount += amount
            entry.locked += amount if ref in locked else 0
    return GetBalanceResponse(
        energy=[
            EnergyBalance(
                energy_type=energy_type,
                delivery_start_ns=start,
                delivery_end_ns=end,
                quantity_wh=total.amount,
                locked_wh=total.locked,
                own_wh=total.own,
            )
            for (start, end, energy_type), total in sorted(energies.items())
        ],
        money=[
            MoneyBalance(currency=currency, issuer=issuer, amount_nano=total.amount, locked_nano=total.locked)
            for (currency, issuer), total in sorted(monies.items())
        ],
    )
