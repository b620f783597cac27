"""Money under a uniqueness-only notary that a test holds in its own process: it notarises whatever is unlocked."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from p2pet.ledger.v1.chain_pb2 import ChainTransaction
from p2pet.notary.v1.notary_pb2 import NotarisationReply, NotarisationRequest
from p2pet.store.v1.store_pb2 import TransactionRow

from p2petd import native
from p2petd.config import load_config
from p2petd.contracts import payment
from p2petd.contracts.payment import PaymentIssue, PaymentPay, PaymentState
from p2petd.flows.chain_check import ChainVerifier, Link
from p2petd.flows.finality import read_reply, request_digest
from p2petd.identity.keys import load_signing_key
from p2petd.ledger.groups import Group
from p2petd.ledger.proposal import ED25519, PURPOSE_TRANSACTION, Proposal, Signature
from p2petd.ledger.resolved import OutputState, no_attachments
from p2petd.ledger.transaction import Draft, TransactionBuilder
from p2petd.membership import Membership
from p2petd.network.parameters import NotaryMode
from p2petd.store.tables import Table
from p2petd.units import NanoMoney
from p2petd.vault.ancestry import Ancestry, ancestor_rows, grant_key, mode_reader
from tests.support.community import CURRENCY

PURPOSE_NOTARISATION = 3
NOTARY_DIRECTORY = "uniqueness"


@dataclass(frozen=True)
class Unseen:
    """A transaction under a uniqueness-only notary; final when it has a proof."""

    draft: Draft
    signed: bytes
    proof: bytes = b""

    @property
    def id(self) -> bytes:
        return self.draft.id

    @property
    def salt(self) -> bytes:
        return native.Transaction.decode(self.draft.transaction).salt

    def money(self, index: int) -> PaymentState:
        return PaymentState.from_payload(OutputState.decode(self.draft.outputs[index]).payload)

    def entry(self) -> ChainTransaction:
        return ChainTransaction(signed_transaction=self.signed, finality_proof=self.proof)

    def row(self) -> TransactionRow:
        return TransactionRow(signed_transaction=self.signed, finality_proof=self.proof)

    def link(self, ancestry: Ancestry) -> Link:
        return Link.read(self.entry(), ancestry)


class UnseenNotary:
    """The network's uniqueness-only notary, with a log of the test's own: two of them are one that breaks its word."""

    def __init__(self, network: Path, log: Path, caller: Membership) -> None:
        config = load_config(network / NOTARY_DIRECTORY / "node.toml")
        assert config.notary is not None
        self._caller = caller
        self.notary = native.Notary.open(
            str(log),
            caller.rules,
            caller.identity.network_id,
            NotaryMode.UNIQUENESS_ONLY,
            load_signing_key(config.notary.worker_key_file),
            config.notary.worker_certificate_file.read_bytes(),
            segment_bytes=1 << 20,
            map_bytes=1 << 28,
        )

    def ask(self, draft: Draft, proofs: Sequence[bytes], unlocks: Sequence[bytes]) -> NotarisationReply:
        request = unseen_request(self._caller, draft, proofs, unlocks)
        batch = self.notary.check([(self._caller.identity.public, request.SerializeToString())])
        (reply,) = self.notary.decide(batch, {}, time.time_ns())
        return NotarisationReply.FromString(reply)


def unseen_request(
    caller: Membership, draft: Draft, proofs: Sequence[bytes], unlocks: Sequence[bytes]
) -> NotarisationRequest:
    identity = caller.identity
    digest = request_digest(draft.inputs, draft.id)
    return NotarisationRequest(
        caller=identity.public,
        scheme=ED25519,
        signature=identity.signing_key.sign(identity.network_id, PURPOSE_NOTARISATION, digest),
        uniqueness_proposal=native.uniqueness_proposal(draft.transaction, proofs, unlocks),
    )


@dataclass(frozen=True)
class Spend:
    """A payment to be; what a test changes makes it wrong."""

    payer: Membership
    coins: tuple[tuple[Unseen, int], ...]
    # (owner, amount) each.
    outputs: tuple[tuple[bytes, int], ...]
    # Who can open each output; None: its owner.
    locks: tuple[bytes, ...] | None = None
    # None: the payer.
    signer: Membership | None = None
    notary: bytes = b""

    def draft(self) -> Draft:
        notary, parameters_hash = unseeing_of(self.payer)
        builder = TransactionBuilder(self.notary or notary, parameters_hash)
        for made, index in self.coins:
            builder.add_input(made.draft.output_ref(index), made.draft.outputs[index])
        first = self.coins[0][0].money(self.coins[0][1])
        for owner, amount in self.outputs:
            builder.add_output(
                payment.NAME, payment.VERSION, replace(first, owner=owner, amount_nano=NanoMoney(amount))
            )
        builder.add_command(payment.NAME, PaymentPay(), [self.payer.identity.public])
        return builder.build(secrets.token_bytes(32), self.locks or [owner for owner, _ in self.outputs])

    def proofs(self) -> list[bytes]:
        return [native.lock_proof(made.draft.transaction, index, made.proof) for made, index in self.coins]

    def unlocks(self, draft: Draft) -> list[bytes]:
        identity = self.payer.identity
        return [
            identity.signing_key.unlock(identity.network_id, made.salt, index, draft.id) for made, index in self.coins
        ]


def unseeing_of(member: Membership) -> tuple[bytes, bytes]:
    """Service key of the network's uniqueness-only notary, and the hash of the parameters."""
    ((parameters_hash, signed),) = member.network_map.parameters.items()
    (service,) = (n.service_key for n in signed.parameters.notaries if n.mode is NotaryMode.UNIQUENESS_ONLY)
    return service, parameters_hash


def signed_by(signer: Membership, draft: Draft) -> bytes:
    identity = signer.identity
    signature = identity.signing_key.sign(identity.network_id, PURPOSE_TRANSACTION, draft.id)
    return Proposal(draft.transaction, (Signature(identity.public, signature),)).encode()


def issue(notary: UnseenNotary, issuer: Membership, owner: bytes, amount: int) -> Unseen:
    service, parameters_hash = unseeing_of(issuer)
    builder = TransactionBuilder(service, parameters_hash)
    state = PaymentState(CURRENCY, NanoMoney(amount), issuer.identity.public, owner)
    builder.add_output(payment.NAME, payment.VERSION, state)
    builder.add_command(payment.NAME, PaymentIssue(secrets.token_bytes(32)), [issuer.identity.public])
    draft = builder.build(secrets.token_bytes(32), [owner])
    return Unseen(draft, signed_by(issuer, draft), read_reply(notary.ask(draft, (), ()).SerializeToString()))


def spend(notary: UnseenNotary, wanted: Spend) -> Unseen:
    """Notarised, whether or not a contract accepts it."""
    draft = wanted.draft()
    reply = notary.ask(draft, wanted.proofs(), wanted.unlocks(draft))
    return Unseen(draft, signed_by(wanted.signer or wanted.payer, draft), read_reply(reply.SerializeToString()))


def chain(notary: UnseenNotary, issuer: Membership, owner: Membership, depth: int) -> list[Unseen]:
    """An issue to `owner`, who pays itself until there are `depth` transactions."""
    me = owner.identity.public
    made = [issue(notary, issuer, me, 1000)]
    while len(made) < depth:
        made.append(spend(notary, Spend(owner, ((made[-1], 0),), ((me, 1000),))))
    return made


class Histories:
    """A node's two stores, without the node."""

    def __init__(self, directory: Path, member: Membership) -> None:
        self.store = native.Store.open(str(directory / "node"), segment_bytes=1 << 20, map_bytes=1 << 28)
        self.histories = native.Store.open(str(directory / "histories"), segment_bytes=1 << 20, map_bytes=1 << 28)
        self.ancestry = Ancestry(self.store, self.histories, mode_reader(member.network_map))
        self.verifier = ChainVerifier(
            member.rules, self.ancestry, member.contract_parameters, member.network_map.is_in_force, no_attachments
        )

    def keep(self, made: Sequence[Unseen]) -> None:
        """As if it had verified these; nothing is."""
        for one in made:
            groups = one.draft.groups
            rows = ancestor_rows(one.id, self.ancestry.parents_of(groups), groups[Group.INPUTS], one.row())
            self.ancestry.add(rows)

    def grant(self, peer: bytes, root: bytes, heads: Sequence[bytes]) -> None:
        self.store.commit([(Table.GRANT, grant_key(peer, root), b"".join(heads))])

    def close(self) -> None:
        self.store.close()
        self.histories.close()
