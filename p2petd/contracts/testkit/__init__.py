"""A kit to test contracts, yours included, without any network; tests read like the specification.

    from p2petd.contracts.testkit import energy, ledger, party

    alice, bob = party("alice"), party("bob")

    ledger.transaction().input(energy(10_000, alice)).output(energy(1_000_000, bob)).command(
        EnergyTransfer, alice, bob
    ).fails_with("energy.transfer.quantity_not_conserved")

For a contract that is not installed: `Ledger.of(MY_CONTRACT)`. docs/writing-contracts.md is the tutorial.
"""

from p2petd.contracts.testkit.objects import (
    NOON_NS,
    UNIT_NS,
    ContractObject,
    attest,
    energy,
    forecast,
    money,
    notice,
    raw_command,
    raw_state,
    reading,
    registration,
    tariff,
)
from p2petd.contracts.testkit.parties import (
    BANK,
    MARKET,
    METERING,
    NOTARY,
    OTHER_NOTARY,
    PRODUCER,
    REGISTRAR,
    TARIFFS,
    Composite,
    Party,
    Signer,
    composite,
    party,
)
from p2petd.contracts.testkit.trial import (
    SALT,
    Ledger,
    NotaryChange,
    Trial,
    Tried,
    default_parameters,
    state_ref,
)

ledger = Ledger.of()
"""The installed contracts."""
metered = ledger.with_parameters(registrars=frozenset({REGISTRAR.key}))
"""The same where meters are registered."""

__all__ = [
    "BANK",
    "MARKET",
    "METERING",
    "NOON_NS",
    "NOTARY",
    "OTHER_NOTARY",
    "PRODUCER",
    "REGISTRAR",
    "SALT",
    "TARIFFS",
    "UNIT_NS",
    "Composite",
    "ContractObject",
    "Ledger",
    "NotaryChange",
    "Party",
    "Signer",
    "Trial",
    "Tried",
    "attest",
    "composite",
    "default_parameters",
    "energy",
    "forecast",
    "ledger",
    "metered",
    "money",
    "notice",
    "party",
    "raw_command",
    "raw_state",
    "reading",
    "registration",
    "state_ref",
    "tariff",
]
