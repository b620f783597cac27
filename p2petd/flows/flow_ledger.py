"""A flow's signatures and checks. Checks that need many signatures are done together for all flows of a batch."""

from collections.abc import Sequence

from p2pet.attachments.v1.attachments_pb2 import FetchRequest

from p2petd import native
from p2petd.contracts.registry import verify as verify_contracts
from p2petd.errors import TransactionRefused
from p2petd.flows.attachments import FETCH, read_outcome
from p2petd.flows.flow_history import FlowHistory
from p2petd.flows.policy import check_policy
from p2petd.flows.requests import CallService, CheckFinal, CheckProposal, LocalStep
from p2petd.flows.services import FlowServices, RunView
from p2petd.ledger.groups import DIGEST_BYTES, Group, TransactionType
from p2petd.ledger.proposal import ED25519, PURPOSE_TRANSACTION, Proposal, Signature, check_signatures
from p2petd.ledger.resolved import LedgerTransaction
from p2petd.ledger.transaction import Draft

PURPOSE_NOTARISATION = 3


class FlowLedger:
    """Pure functions of their arguments, this node's key and the flow's network parameters: a replay repeats them.

    A replay does not run contracts again. They held, or the flow would have ended; and code that has changed since must
    not end a flow that has signed.
    """

    def __init__(self, services: FlowServices, run: RunView, history: FlowHistory) -> None:
        self._services = services
        self._run = run
        self._history = history

    def sign(self, transaction_id: bytes) -> Signature:
        """This node's signature over a transaction."""
        services = self._services
        signature = services.key.sign(services.network_id, PURPOSE_TRANSACTION, transaction_id)
        return Signature(services.identity, signature, ED25519)

    def sign_notarisation(self, digest: bytes) -> bytes:
        """This node's signature over a request to a notary (docs/protocol.md, section 7)."""
        return self._services.key.sign(self._services.network_id, PURPOSE_NOTARISATION, digest)

    def check_signature(self, transaction_id: bytes, signature: Signature) -> None:
        """Raises TransactionRefused unless the signature is valid over the transaction."""
        check_signatures(self._services.network_id, transaction_id, (signature,))

    async def check_proposal(self, proposal: bytes, *, complete: bool = False, peer: bytes = b"") -> LedgerTransaction:
        """Platform checks, input proofs, signatures and contracts of a `ledger.v1.Proposal`.

        Attachments that are cited and not here are fetched from `peer`; when none is named, from the one that this flow
        answers. So is, under a uniqueness-only notary, the history that stands there instead of input proofs. Raises
        TransactionRefused, MalformedTransaction, UnknownContract, ContractViolation or HistoryError.
        """
        giver = peer or self._run.counterparty
        draft = Draft.decode(Proposal.decode(proposal).transaction)
        if self._history.is_unseen(draft.groups):
            checked = await self._history.check_proposal(proposal, draft, giver, complete=complete)
        else:
            checked = await CheckProposal(proposal, complete)
        self._history.check_locks(draft)
        await self.fetch_attachments(checked.groups[Group.ATTACHMENTS], giver)
        services = self._services
        resolved = LedgerTransaction.from_checked(checked, services.contract_parameters, services.attachments.content)
        self._verify(resolved)
        # Moves to another notary are never proposed to be signed: flows check them on trial.
        if self._run.counterparty and resolved.kind is not TransactionType.NOTARY_CHANGE and not self._run.replaying():
            check_policy(services.policy, self._run.flow, self._run.counterparty, resolved)
        return resolved

    async def fetch_attachments(self, cited: Sequence[bytes], peer: bytes) -> None:
        """All of them are here afterwards, with their hashes; journaled. Raises TransactionRefused
        transaction.attachment_missing for one that `peer` does not give."""
        if not cited:
            return
        attachments = self._services.attachments
        # What is missing is decided once, so that a replay takes the same steps when it is here at last.
        missing = await LocalStep("attachments", lambda: b"".join(attachments.missing(cited)))
        for at in range(0, len(missing), DIGEST_BYTES):
            attachment = missing[at : at + DIGEST_BYTES]
            request = FetchRequest(hash=attachment, peer=peer).SerializeToString()
            failure = read_outcome(await CallService(self._services.identity, FETCH, request))
            if failure:
                raise TransactionRefused(
                    "transaction.attachment_missing", f"the attachment {attachment.hex()} cannot be had: {failure}"
                )

    def attachment(self, attachment: bytes) -> bytes:
        """The content of an attachment that is here. Raises TransactionRefused as `AttachmentReader` says."""
        return self._services.attachments.content(attachment)

    def check_draft(self, draft: Draft) -> None:
        """Run the contracts on what we built ourselves, before anybody signs it; what it cites must be here."""
        services = self._services
        if not self._run.replaying():
            services.attachments.require(draft.groups[Group.ATTACHMENTS])
        self._verify(LedgerTransaction.from_draft(draft, services.contract_parameters, services.attachments.content))

    def _verify(self, resolved: LedgerTransaction) -> None:
        if not self._run.replaying():
            verify_contracts(resolved)

    async def check_final(
        self, signed_transaction: bytes, finality_proof: bytes, *, signers: bool = True
    ) -> native.Checked:
        """Raises TransactionRefused unless a listed notary's batch proof and all signatures verify.

        Without `signers` the parties' signatures must be there, but are not verified: whoever collected them has.
        """
        checked: native.Checked = await CheckFinal(signed_transaction, finality_proof, signers)
        return checked

    def check_proof(self, draft: Draft, finality_proof: bytes) -> None:
        """Raises TransactionRefused unless the batch proof of this draft verifies, by a notary that is listed in the
        network parameters which it cites."""
        services = self._services
        cited = draft.groups[Group.PARAMETERS][0]
        signed = services.network_map.parameters.get(cited)
        if signed is None:
            unknown = f"the network parameters {cited.hex()} are not here"
            raise TransactionRefused("transaction.parameters_unknown", unknown)
        notaries = [(notary.service_key, int(notary.mode)) for notary in signed.parameters.notaries]
        try:
            native.verify_finality(services.network_id, draft.transaction, finality_proof, cited, notaries)
        except native.NativeError as error:
            raise TransactionRefused(error.code, str(error)) from error
