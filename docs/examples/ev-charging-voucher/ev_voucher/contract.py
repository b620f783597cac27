"""The rules: who may make, hand on and redeem vouchers."""

from ev_voucher.states import NAME, VERSION, Voucher, VoucherGive, VoucherIssue, VoucherRedeem
from p2petd.contracts.contract import Contract, Part, own_part, single_command
from p2petd.contracts.rules import Rule, short, violated
from p2petd.ledger.resolved import Command, LedgerTransaction, OutputState
from p2petd.units import checked_sum

VoucherCommand = VoucherIssue | VoucherGive | VoucherRedeem
VoucherPart = Part[Voucher, VoucherCommand]


class VoucherRule(Rule):
    STATE_UNKNOWN = ("ev-voucher.state.unknown", "A state of this contract is a Voucher.")
    EMPTY = ("ev-voucher.state.empty", "A voucher holds more than 0 Wh.")
    COMMAND_UNKNOWN = ("ev-voucher.command.unknown", "A command of this contract is Issue, Give or Redeem.")
    COMMAND_MISSING = ("ev-voucher.command.missing", "Vouchers move only under a command of this contract.")
    COMMAND_CONFLICTING = ("ev-voucher.command.conflicting", "A transaction has one voucher command.")
    ISSUE_INPUTS = ("ev-voucher.issue.inputs", "An issue consumes no voucher and makes one.")
    ISSUE_UNSIGNED = ("ev-voucher.issue.operator_must_sign", "The operator signs an issue.")
    GIVE_NOT_CONSERVED = ("ev-voucher.give.not_conserved", "As much of each voucher goes out as goes in.")
    HOLDER_UNSIGNED = ("ev-voucher.holder_must_sign", "Whoever held a voucher signs.")
    REDEEM_QUANTITY = ("ev-voucher.redeem.quantity", "What was charged and what is left is what there was.")
    REDEEM_UNSIGNED = ("ev-voucher.redeem.operator_must_sign", "The operator signs a redemption.")
    REDEEM_LATE = ("ev-voucher.redeem.late", "A voucher is redeemed before it ends.")


def _state(output: OutputState) -> Voucher:
    if (output.type_name, output.schema_version) != (Voucher.type_name, Voucher.schema_version):
        violated(VoucherRule.STATE_UNKNOWN, f"{output.type_name!r}")
    voucher = Voucher.from_payload(output.payload)
    if voucher.energy_wh <= 0:
        violated(VoucherRule.EMPTY, f"{voucher.energy_wh} Wh")
    return voucher


def _command(command: Command) -> VoucherCommand:
    if command.schema_version == 1:
        if command.type_name == VoucherRedeem.type_name:
            return VoucherRedeem.from_payload(command.payload)
        for plain in (VoucherIssue(), VoucherGive()):
            if command.type_name == plain.type_name and not command.payload:
                return plain
    violated(VoucherRule.COMMAND_UNKNOWN, f"{command.type_name!r}")


def _verify(transaction: LedgerTransaction) -> None:
    part: VoucherPart = own_part(transaction, NAME, _state, _command)
    command = single_command(part, VoucherIssue, VoucherRule.COMMAND_MISSING, VoucherRule.COMMAND_CONFLICTING)
    signers = part.commands[0][1]
    if isinstance(command, VoucherIssue):
        if part.inputs or len(part.outputs) != 1 or len(part.commands) != 1:
            violated(VoucherRule.ISSUE_INPUTS, f"{len(part.inputs)} inputs and {len(part.outputs)} outputs")
        _must_sign(part.outputs[0].operator, signers, VoucherRule.ISSUE_UNSIGNED)
        return
    for voucher in part.inputs:
        _must_sign(voucher.holder, signers, VoucherRule.HOLDER_UNSIGNED)
    taken, left = _sums(part.inputs), _sums(part.outputs)
    if isinstance(command, VoucherGive):
        if taken != left:
            violated(VoucherRule.GIVE_NOT_CONSERVED, f"{sum(taken.values())} Wh in, {sum(left.values())} Wh out")
        return
    _verify_redeem(command, part, signers, transaction)


def _verify_redeem(
    redeem: VoucherRedeem, part: VoucherPart, signers: frozenset[bytes], transaction: LedgerTransaction
) -> None:
    taken, left = _sums(part.inputs), _sums(part.outputs)
    kept = all(left[key] <= taken.get(key, 0) for key in left)
    holders = {voucher.holder for voucher in part.inputs}
    if not kept or not {voucher.holder for voucher in part.outputs} <= holders:
        violated(VoucherRule.REDEEM_QUANTITY, "more is left than there was, or it is somebody else's")
    used = sum(taken.values()) - sum(left.values())
    if redeem.charged_wh <= 0 or used != redeem.charged_wh:
        violated(VoucherRule.REDEEM_QUANTITY, f"{redeem.charged_wh} Wh charged, {used} Wh used up")
    for voucher in part.inputs:
        _must_sign(voucher.operator, signers, VoucherRule.REDEEM_UNSIGNED)
        if transaction.window is None or transaction.window.until_ns > voucher.valid_until_ns:
            violated(VoucherRule.REDEEM_LATE, "a time window that ends later, or none")


def _sums(vouchers: list[Voucher]) -> dict[tuple[bytes, bytes, int], int]:
    sums: dict[tuple[bytes, bytes, int], int] = {}
    for voucher in vouchers:
        key = (voucher.operator, voucher.number, voucher.valid_until_ns)
        sums[key] = checked_sum((sums.get(key, 0), voucher.energy_wh), "vouchers")
    return sums


def _must_sign(key: bytes, signers: frozenset[bytes], rule: Rule) -> None:
    if key not in signers:
        violated(rule, f"{short(key)} is not among the signers")


def _owner(output: OutputState) -> bytes:
    return Voucher.from_payload(output.payload).holder


def _participants(output: OutputState) -> frozenset[bytes]:
    return frozenset({Voucher.from_payload(output.payload).operator})


EV_VOUCHER = Contract(
    name=NAME,
    version=VERSION,
    verify=_verify,
    modules=("ev_voucher", "ev_voucher.contract", "ev_voucher.states"),
    rules=(VoucherRule,),
    owner=_owner,
    participants=_participants,
)
