"""Moving states to another notary (docs/protocol.md, section 2)."""

from collections.abc import Iterable, Sequence

from p2petd import native
from p2petd.errors import MalformedTransaction, TransactionRefused
from p2petd.ledger.codec import encode_signers
from p2petd.ledger.groups import DIGEST_BYTES, KEY_BYTES, TransactionType
from p2petd.ledger.refs import StateRef
from p2petd.ledger.transaction import Draft, build_draft, locks_of
from p2petd.ledger.window import TimeWindow


def notary_change(
    states: Sequence[tuple[StateRef, bytes]],
    new_notary: bytes,
    *,
    parameters_hash: bytes,
    signers: Iterable[bytes],
    salt: bytes,
    window: TimeWindow | None = None,
    lock_owners: Sequence[bytes] = (),
) -> Draft:
    """The transaction that moves exactly these states, (reference, `OutputState` component) each, to `new_notary`.

    The n-th state becomes the n-th output. Group 6 is the notary that guards the states now; `parameters_hash` is of
    any version that lists it. `signers` are the keys of all owners; `lock_owners` the owners in the order of the
    states, when `new_notary` is uniqueness-only. Refused, as any node would:
    1. no state, or one that stands twice; 2. states of different notaries, or of `new_notary` already;
    3. an encumbered state whose companion is not among them. Raises TransactionRefused, MalformedTransaction.
    """
    if len(new_notary) != KEY_BYTES or len(parameters_hash) != DIGEST_BYTES:
        raise MalformedTransaction("a notary's key and the hash of network parameters are 32 bytes each")
    # 1.
    known = dict(states)
    if not states:
        raise TransactionRefused("transaction.empty", "a notary change moves at least one state")
    if len(known) != len(states):
        raise TransactionRefused("transaction.duplicate_input", "the notary change names a state twice")
    # 2.
    notary = _notary_of(known.values(), new_notary)
    # 3.
    outputs = _moved(known, new_notary)
    groups = (
        tuple(ref.encode() for ref in known),
        (),
        outputs,
        (),
        (encode_signers(signers),),
        (),
        (notary,),
        () if window is None else (window.encode(),),
        (parameters_hash,),
        (bytes([TransactionType.NOTARY_CHANGE]),),
        (),
        locks_of(lock_owners, len(outputs), salt),
    )
    return build_draft(salt, groups, known, {})


def _notary_of(components: Iterable[bytes], new_notary: bytes) -> bytes:
    try:
        guards = {native.decode_output(component)[2] for component in components}
    except native.MalformedError as error:
        raise MalformedTransaction(str(error)) from error
    if len(guards) > 1:
        raise TransactionRefused("proof.other_notary", "the states are guarded by different notaries; move each alone")
    if guards == {new_notary}:
        raise TransactionRefused("transaction.notary_change_invalid", "the new notary guards the states already")
    return guards.pop()


def _moved(known: dict[StateRef, bytes], new_notary: bytes) -> tuple[bytes, ...]:
    positions = {ref: position for position, ref in enumerate(known)}
    moved = []
    for ref, component in known.items():
        encumbered_by = native.decode_output(component)[6]
        if encumbered_by:
            companion = StateRef(ref.transaction_id, encumbered_by - 1)
            if companion not in positions:
                raise TransactionRefused(
                    "transaction.encumbered_alone", f"the state {ref} must be moved together with {companion}"
                )
            encumbered_by = positions[companion] + 1
        moved.append(native.change_notary(component, new_notary, encumbered_by))
    return tuple(moved)
