"""Row contracts: what the contracts of a trade cost, from a proposal that Rust has checked to the verdict.

No daemon runs: a notary in this process makes the inputs, without contracts, and the trades are checked as it would.
"""

import gc
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from p2pet.notary.v1.notary_pb2 import NotarisationRequest
from p2petd import native
from p2petd.contracts import energy, payment
from p2petd.contracts.energy import EnergyState, EnergyTrade
from p2petd.contracts.payment import PaymentPay, PaymentState
from p2petd.contracts.registry import Registry, installed
from p2petd.contracts.testkit import BANK, NOON_NS, NOTARY, default_parameters, money, party
from p2petd.contracts.testkit import energy as lot_of
from p2petd.flows.finality import read_reply, request_digest
from p2petd.flows.flow_ledger import PURPOSE_NOTARISATION
from p2petd.ledger.parameters import ContractParameters
from p2petd.ledger.proposal import ED25519, PURPOSE_TRANSACTION, Signature
from p2petd.ledger.resolved import LedgerTransaction, OutputState
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.units import HOUR_NS, NO_LOWER_BOUND, MicroPerKwh, NanoMoney, TimeNs, WattHours, amount_nano

# A node that has run for a while: its caches are full. Trades come in batches, as to a notary.
TRADES, WARM_UP_TRADES, BATCH = 1024, 1024, 512
LOT_WH, TRADED_WH, PRICE_MICRO, COIN_NANO = 10_000, 6_000, 250_000, 10**12
VERIFYING = 1
BYTES_MAX, INPUTS_MAX = 1_000_000, 1024
NETWORK_ID, PARAMETERS_HASH = bytes([1]) * 32, bytes([2]) * 32
VERIFY_US, WHOLE_US = "verify_us", "resolve_and_verify_us"

SELLER, BUYER = party("seller"), party("buyer")


def contract_cost(directory: Path, trades: int = TRADES) -> dict[str, float]:
    """Median microseconds of each of so many different trades, met once each, their inputs seen before as outputs.

    `verify_us` is from the LedgerTransaction to the verdict, `resolve_and_verify_us` begins before `from_checked`.
    """
    registry = installed()
    parameters = default_parameters(registry)
    rules = native.Rules(NETWORK_ID, [(PARAMETERS_HASH, [(NOTARY.key, VERIFYING)], BYTES_MAX, INPUTS_MAX)])
    proposals = _proposals(directory, rules, WARM_UP_TRADES + trades)
    resolving: list[int] = []
    verifying: list[int] = []
    for start in range(0, len(proposals), BATCH):
        checked = _checked(rules, proposals[start : start + BATCH])
        for component in (component for one in checked for component in one.input_outputs):
            # As the notary did when these were outputs.
            state = OutputState.decode(component)
            (energy if state.contract == energy.NAME else payment).decode_state(state)
        for taken, into in zip(_timed(registry, parameters, checked), (resolving, verifying), strict=True):
            into.extend(taken)
    del resolving[:WARM_UP_TRADES], verifying[:WARM_UP_TRADES]
    return {
        VERIFY_US: median(verifying) / 1000,
        WHOLE_US: median(r + v for r, v in zip(resolving, verifying, strict=True)) / 1000,
    }


def _timed(
    registry: Registry, parameters: ContractParameters, checked: Sequence[native.Checked]
) -> tuple[list[int], list[int]]:
    resolving, verifying = [], []
    gc.collect()
    gc.disable()
    try:
        for one in checked:
            began = time.perf_counter_ns()
            transaction = LedgerTransaction.from_checked(one, parameters)
            resolved = time.perf_counter_ns()
            registry.verify(transaction)
            ended = time.perf_counter_ns()
            resolving.append(resolved - began)
            verifying.append(ended - resolved)
    finally:
        gc.enable()
    return resolving, verifying


def _proposals(directory: Path, rules: native.Rules, trades: int) -> list[bytes]:
    """Trades as `energy.trade` builds them: one lot and one coin in; energy, payment and the change of both out."""
    key = NOTARY.signing_key
    certificate = native.certify_worker(key, NETWORK_ID, key.public, 0, NOON_NS)
    notary = native.Notary.open(str(directory), rules, NETWORK_ID, VERIFYING, key, certificate)
    try:
        return [_trade(notary, number) for number in range(trades)]
    finally:
        notary.close()


def _checked(rules: native.Rules, proposals: Sequence[bytes]) -> list[native.Checked]:
    checked = rules.check_proposals(proposals, True)
    assert all(isinstance(one, native.Checked) for one in checked)
    return [one for one in checked if isinstance(one, native.Checked)]


def _trade(notary: native.Notary, number: int) -> bytes:
    lot, coin = lot_of(LOT_WH, SELLER, producer=SELLER, meter=f"meter-{number}", lot_wh=LOT_WH), money(COIN_NANO, BUYER)
    made = _builder().add_output(energy.NAME, energy.VERSION, lot).add_output(payment.NAME, payment.VERSION, coin)
    issue = made.build(os.urandom(32))
    proof = _decided(notary, issue)
    amount = amount_nano(TRADED_WH, PRICE_MICRO)
    builder = _builder().window(NO_LOWER_BOUND, TimeNs(NOON_NS))
    for output in range(2):
        builder.add_input(issue.output_ref(output), issue.outputs[output])
    _add_outputs(builder, lot, coin, NanoMoney(amount))
    terms = EnergyTrade(
        SELLER.key,
        BUYER.key,
        WattHours(TRADED_WH),
        MicroPerKwh(PRICE_MICRO),
        NanoMoney(amount),
        coin.currency,
        coin.issuer,
    )
    builder.add_command(energy.NAME, terms, [SELLER.key, BUYER.key])
    builder.add_command(payment.NAME, PaymentPay(), [BUYER.key])
    draft = builder.build(os.urandom(32))
    proofs = [native.input_proof(issue.transaction, output, proof) for output in range(2)]
    return draft.proposal(_signatures(draft), proofs).encode()


def _add_outputs(builder: TransactionBuilder, lot: EnergyState, coin: PaymentState, amount: NanoMoney) -> None:
    for quantity_wh, owner in ((TRADED_WH, BUYER), (LOT_WH - TRADED_WH, SELLER)):
        part = replace(lot, quantity_wh=WattHours(quantity_wh), owner=owner.key)
        builder.add_output(energy.NAME, energy.VERSION, part)
    for nano, owner in ((amount, SELLER), (COIN_NANO - amount, BUYER)):
        share = replace(coin, amount_nano=NanoMoney(nano), owner=owner.key)
        builder.add_output(payment.NAME, payment.VERSION, share)


def _builder() -> TransactionBuilder:
    return TransactionBuilder(NOTARY.key, PARAMETERS_HASH)


def _decided(notary: native.Notary, draft: Draft) -> bytes:
    """The finality proof of a transaction that no contract has seen."""
    request = NotarisationRequest(
        proposal=draft.proposal().encode(),
        caller=BANK.key,
        scheme=ED25519,
        signature=BANK.signing_key.sign(NETWORK_ID, PURPOSE_NOTARISATION, request_digest(draft.inputs, draft.id)),
    ).SerializeToString(deterministic=True)
    (reply,) = notary.decide(notary.check([(BANK.key, request)]), {}, HOUR_NS)
    return read_reply(reply)


def _signatures(draft: Draft) -> list[Signature]:
    return [
        Signature(one.key, one.signing_key.sign(NETWORK_ID, PURPOSE_TRANSACTION, draft.id)) for one in (SELLER, BUYER)
    ]
