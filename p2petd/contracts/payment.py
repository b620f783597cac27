"""Money: who may issue it, and that it is conserved (C14, C15, C07, C08)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, TypeAlias

from p2pet.ledger.v1 import payment_pb2

from p2petd.contracts.contract import Contract, Part, PlainCommand, own_part, single_command
from p2petd.contracts.rules import Rule, short, violated
from p2petd.ledger.codec import CACHED_BYTES_MAX, CACHED_ENTRIES_MAX, encode_canonical, parse_strict
from p2petd.ledger.groups import DIGEST_BYTES, KEY_BYTES
from p2petd.ledger.resolved import Command, LedgerTransaction, OutputState
from p2petd.units import NanoMoney, checked_sum

NAME = "payment"
VERSION = 1


class PaymentRule(Rule):
    STATE_TYPE_UNKNOWN = ("payment.state.type_unknown", "A state of the payment contract is a PaymentState.")
    AMOUNT_NOT_POSITIVE = ("payment.state.amount_not_positive", "Every state holds more than nothing.")
    KEY_INVALID = ("payment.state.key_invalid", "The issuer and the owner of an output are 32-byte keys.")
    COMMAND_MISSING = ("payment.command.missing", "Payment states move only under a command of the payment contract.")
    COMMAND_UNKNOWN = ("payment.command.unknown", "A payment command is Issue, Pay, Redeem, Split or Merge.")
    COMMAND_CONFLICTING = (
        "payment.command.conflicting",
        "A transaction has one payment command; only Issue may be repeated.",
    )
    ISSUE_HAS_INPUTS = ("payment.issue.has_inputs", "An issue consumes no payment states.")
    ISSUE_OUTPUTS = ("payment.issue.one_output_per_command", "Each Issue creates exactly one payment state.")
    ISSUE_REFERENCE = ("payment.issue.reference_length", "The reference of an issue is 32 bytes.")
    ISSUE_NOT_LISTED = (
        "payment.issue.issuer_not_listed",
        "The network parameters list the issuer for the currency that it issues.",
    )
    ISSUE_UNSIGNED = ("payment.issue.issuer_must_sign", "The issuer signs an issue.")
    PAY_NOT_CONSERVED = (
        "payment.pay.amount_not_conserved",
        "Pay conserves the amount of each currency of each issuer.",
    )
    PAY_EMPTY = ("payment.pay.nothing_moves", "Pay consumes at least one state.")
    PAY_UNSIGNED = ("payment.pay.payer_must_sign", "The owner of every payment input signs.")
    REDEEM_EMPTY = ("payment.redeem.nothing_redeemed", "A redemption consumes at least one state.")
    REDEEM_MIXED = (
        "payment.redeem.states_differ",
        "All states of a redemption, its change included, are of one currency, one issuer and one owner.",
    )
    REDEEM_NOT_LESS = ("payment.redeem.amount_not_less", "Less comes back as change than was given to redeem.")
    REDEEM_OWNER_UNSIGNED = ("payment.redeem.owner_must_sign", "The owner signs a redemption.")
    REDEEM_ISSUER_UNSIGNED = (
        "payment.redeem.issuer_must_sign",
        "The issuer, who pays the money out elsewhere, signs a redemption.",
    )
    SPLIT_COUNT = ("payment.split.counts", "A split makes one state into two or more.")
    MERGE_COUNT = ("payment.merge.counts", "A merge makes two or more states into one.")
    SPLIT_CHANGED = ("payment.split.fields_changed", "The parts of a split keep currency, issuer and owner.")
    MERGE_OWNER = ("payment.merge.owner_changed", "The owner of a merged state owned all of its parts.")
    MERGE_ISSUERS = (
        "payment.merge.issuers_differ",
        "Only money of one currency and one issuer merges, and it stays that.",
    )
    SPLIT_NOT_CONSERVED = ("payment.split.amount_not_conserved", "A split conserves the amount.")
    MERGE_NOT_CONSERVED = ("payment.merge.amount_not_conserved", "A merge conserves the amount.")
    SPLIT_UNSIGNED = ("payment.split.owner_must_sign", "The owner signs a split.")
    MERGE_UNSIGNED = ("payment.merge.owner_must_sign", "The owner signs a merge.")


@dataclass(frozen=True, slots=True)
class PaymentState:
    """An amount of money that its issuer owes the owner; keys are 32 bytes."""

    type_name: ClassVar[str] = "PaymentState"
    schema_version: ClassVar[int] = 1
    contract: ClassVar[str] = NAME

    currency: str
    amount_nano: NanoMoney
    issuer: bytes
    owner: bytes

    def to_payload(self) -> bytes:
        """The canonical `ledger.v1.PaymentState`; raises QuantityOverflow."""
        return encode_canonical(
            payment_pb2.PaymentState,
            currency=self.currency,
            amount_nano=self.amount_nano,
            issuer=self.issuer,
            owner=self.owner,
        )

    @classmethod
    def from_payload(cls, payload: bytes) -> "PaymentState":
        """Raises MalformedTransaction unless canonical."""
        return _small_state(payload) if len(payload) <= CACHED_BYTES_MAX else _state(payload)


def _state(payload: bytes) -> PaymentState:
    message = parse_strict(payment_pb2.PaymentState, payload)
    return PaymentState(message.currency, NanoMoney(message.amount_nano), message.issuer, message.owner)


@lru_cache(maxsize=CACHED_ENTRIES_MAX)
def _small_state(payload: bytes) -> PaymentState:
    return _state(payload)


@dataclass(frozen=True, slots=True)
class PaymentIssue:
    """Create money; `reference` is 32 random bytes, so that two equal issues are two facts."""

    type_name: ClassVar[str] = "PaymentIssue"
    schema_version: ClassVar[int] = 1
    contract: ClassVar[str] = NAME

    reference: bytes

    def to_payload(self) -> bytes:
        """The canonical `ledger.v1.PaymentIssue`."""
        return encode_canonical(payment_pb2.PaymentIssue, reference=self.reference)


@dataclass(frozen=True)
class PaymentPay(PlainCommand):
    """Move money."""

    type_name: ClassVar[str] = "PaymentPay"
    contract: ClassVar[str] = NAME


@dataclass(frozen=True)
class PaymentRedeem(PlainCommand):
    """Give money back to its issuer, who pays it out elsewhere; what is left comes back as change."""

    type_name: ClassVar[str] = "PaymentRedeem"
    contract: ClassVar[str] = NAME


@dataclass(frozen=True)
class PaymentSplit(PlainCommand):
    """Cut one state into several of the same owner."""

    type_name: ClassVar[str] = "PaymentSplit"
    contract: ClassVar[str] = NAME


@dataclass(frozen=True)
class PaymentMerge(PlainCommand):
    """Join states of one owner, currency and issuer."""

    type_name: ClassVar[str] = "PaymentMerge"
    contract: ClassVar[str] = NAME


PaymentCommand: TypeAlias = PaymentIssue | PaymentPay | PaymentRedeem | PaymentSplit | PaymentMerge
PaymentPart: TypeAlias = Part[PaymentState, PaymentCommand]
_PLAIN: Mapping[str, PaymentCommand] = {
    command.type_name: command for command in (PaymentPay(), PaymentRedeem(), PaymentSplit(), PaymentMerge())
}


def decode_state(output: OutputState) -> PaymentState:
    """The payment state of an output of this contract, its type and amount checked."""
    if output.type_name != PaymentState.type_name or output.schema_version != PaymentState.schema_version:
        violated(PaymentRule.STATE_TYPE_UNKNOWN, f"{output.type_name!r} with schema version {output.schema_version}")
    state = PaymentState.from_payload(output.payload)
    if state.amount_nano <= 0:
        violated(PaymentRule.AMOUNT_NOT_POSITIVE, f"{state.amount_nano} nano-{state.currency}")
    return state


def own_states(transaction: LedgerTransaction) -> tuple[list[PaymentState], list[PaymentState]]:
    """The payment states that a transaction consumes and creates, for contracts that compose with this one."""
    return (
        [decode_state(state) for _, state in transaction.inputs if state.contract == NAME],
        [decode_state(state) for state in transaction.outputs if state.contract == NAME],
    )


def decode_command(command: Command) -> PaymentCommand:
    """The command, its type checked; raises MalformedTransaction for a payload that is not canonical."""
    if command.schema_version == 1:
        plain = _PLAIN.get(command.type_name)
        if plain is not None and not command.payload:
            return plain
        if command.type_name == PaymentIssue.type_name:
            return PaymentIssue(parse_strict(payment_pb2.PaymentIssue, command.payload).reference)
    violated(
        PaymentRule.COMMAND_UNKNOWN,
        f"{command.type_name!r} with schema version {command.schema_version} and {len(command.payload)} bytes",
    )


def _verify(transaction: LedgerTransaction) -> None:
    """1. every state and command is known (C08) and positive (C07); 2. one command; 3. the rules of that command."""
    part: PaymentPart = own_part(transaction, NAME, decode_state, decode_command)
    for state in part.outputs:
        if len(state.owner) != KEY_BYTES or len(state.issuer) != KEY_BYTES:
            violated(PaymentRule.KEY_INVALID, f"keys of {len(state.owner)} and {len(state.issuer)} bytes")
    command = single_command(part, PaymentIssue, PaymentRule.COMMAND_MISSING, PaymentRule.COMMAND_CONFLICTING)
    signers = part.commands[0][1]
    if isinstance(command, PaymentPay):
        _verify_pay(part, signers)
    elif isinstance(command, PaymentIssue):
        _verify_issue(part, transaction.parameters.currencies)
    elif isinstance(command, PaymentRedeem):
        _verify_redeem(part, signers)
    elif isinstance(command, PaymentSplit):
        _verify_split(part, signers)
    else:
        _verify_merge(part, signers)


def _verify_issue(part: PaymentPart, currencies: Mapping[str, frozenset[bytes]]) -> None:
    """The n-th Issue creates the n-th payment output."""
    if part.inputs:
        violated(PaymentRule.ISSUE_HAS_INPUTS, f"{len(part.inputs)} inputs")
    if len(part.outputs) != len(part.commands):
        violated(PaymentRule.ISSUE_OUTPUTS, f"{len(part.commands)} commands and {len(part.outputs)} outputs")
    for state, (command, signers) in zip(part.outputs, part.commands, strict=True):
        if isinstance(command, PaymentIssue) and len(command.reference) != DIGEST_BYTES:
            violated(PaymentRule.ISSUE_REFERENCE, f"{len(command.reference)} bytes")
        if state.issuer not in currencies.get(state.currency, frozenset()):
            violated(PaymentRule.ISSUE_NOT_LISTED, f"{short(state.issuer)} for {state.currency!r}")
        if state.issuer not in signers:
            violated(PaymentRule.ISSUE_UNSIGNED, f"{short(state.issuer)} is not among the signers")


def _verify_pay(part: PaymentPart, signers: frozenset[bytes]) -> None:
    if not part.inputs:
        violated(PaymentRule.PAY_EMPTY, f"no inputs and {len(part.outputs)} outputs")
    taken, given = _sums(part.inputs), _sums(part.outputs)
    if taken != given:
        currency, issuer = next(key for key in [*given, *taken] if taken.get(key) != given.get(key))
        violated(
            PaymentRule.PAY_NOT_CONSERVED,
            f"{taken.get((currency, issuer), 0)} nano-{currency} of issuer {short(issuer)} in, "
            f"{given.get((currency, issuer), 0)} out",
        )
    _owners_sign(part, signers, PaymentRule.PAY_UNSIGNED)


def _verify_redeem(part: PaymentPart, signers: frozenset[bytes]) -> None:
    """1. something goes in; 2. all of one kind and owner; 3. less comes out; 4. owner and issuer sign."""
    if not part.inputs:
        violated(PaymentRule.REDEEM_EMPTY, f"no inputs and {len(part.outputs)} outputs")
    first = part.inputs[0]
    for state in part.inputs + part.outputs:
        if (state.currency, state.issuer, state.owner) != (first.currency, first.issuer, first.owner):
            violated(PaymentRule.REDEEM_MIXED, f"{_named(first)} and {_named(state)}")
    taken, left = _totals(part)
    if left >= taken:
        violated(PaymentRule.REDEEM_NOT_LESS, f"{taken} in, {left} out")
    _owners_sign(part, signers, PaymentRule.REDEEM_OWNER_UNSIGNED)
    if first.issuer not in signers:
        violated(PaymentRule.REDEEM_ISSUER_UNSIGNED, f"{short(first.issuer)} is not among the signers")


def _verify_split(part: PaymentPart, signers: frozenset[bytes]) -> None:
    if len(part.inputs) != 1 or len(part.outputs) < 2:
        violated(PaymentRule.SPLIT_COUNT, f"{len(part.inputs)} inputs and {len(part.outputs)} outputs")
    whole = part.inputs[0]
    for state in part.outputs:
        if (state.currency, state.issuer, state.owner) != (whole.currency, whole.issuer, whole.owner):
            violated(PaymentRule.SPLIT_CHANGED, f"{state.currency!r} of {short(state.issuer)} to {short(state.owner)}")
    _same_total(part, PaymentRule.SPLIT_NOT_CONSERVED)
    _owners_sign(part, signers, PaymentRule.SPLIT_UNSIGNED)


def _verify_merge(part: PaymentPart, signers: frozenset[bytes]) -> None:
    if len(part.inputs) < 2 or len(part.outputs) != 1:
        violated(PaymentRule.MERGE_COUNT, f"{len(part.inputs)} inputs and {len(part.outputs)} outputs")
    whole = part.outputs[0]
    for state in part.inputs:
        if (state.currency, state.issuer) != (whole.currency, whole.issuer):
            violated(
                PaymentRule.MERGE_ISSUERS,
                f"{state.currency!r} of {short(state.issuer)} into {whole.currency!r} of {short(whole.issuer)}",
            )
        if state.owner != whole.owner:
            violated(PaymentRule.MERGE_OWNER, f"a part of {short(state.owner)}, the whole of {short(whole.owner)}")
    _same_total(part, PaymentRule.MERGE_NOT_CONSERVED)
    _owners_sign(part, signers, PaymentRule.MERGE_UNSIGNED)


def _sums(states: Iterable[PaymentState]) -> dict[tuple[str, bytes], int]:
    """Σ amount per (currency, issuer); raises QuantityOverflow."""
    sums: dict[tuple[str, bytes], int] = {}
    for state in states:
        key = (state.currency, state.issuer)
        sums[key] = sums.get(key, 0) + state.amount_nano
    for (currency, _), total in sums.items():
        checked_sum((total,), f"amounts in {currency}")
    return sums


def _same_total(part: PaymentPart, rule: PaymentRule) -> None:
    taken, given = _totals(part)
    if taken != given:
        violated(rule, f"{taken} in, {given} out")


def _totals(part: PaymentPart) -> tuple[int, int]:
    """Σ amount of the inputs and of the outputs; raises QuantityOverflow."""
    return (
        checked_sum([state.amount_nano for state in part.inputs], "the inputs"),
        checked_sum([state.amount_nano for state in part.outputs], "the outputs"),
    )


def _named(state: PaymentState) -> str:
    return f"{state.currency!r} of issuer {short(state.issuer)} of {short(state.owner)}"


def _owners_sign(part: PaymentPart, signers: frozenset[bytes], rule: PaymentRule) -> None:
    for state in part.inputs:
        if state.owner not in signers:
            violated(rule, f"{short(state.owner)} is not among the signers")


def _owner(output: OutputState) -> bytes:
    return decode_state(output).owner


PAYMENT = Contract(
    name=NAME,
    version=VERSION,
    verify=_verify,
    modules=("p2petd.contracts.payment", "p2petd.contracts.contract", "p2petd.contracts.rules"),
    rules=(PaymentRule,),
    owner=_owner,
)
