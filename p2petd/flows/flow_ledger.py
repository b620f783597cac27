"""A flow's signatures and checks. Checks that need many signatures are done together for all flows of a batch."""

from p2petd import native
from p2petd.contracts.registry import verify as verify_contracts
from p2petd.errors import TransactionRefused
from p2petd.flows.requests import CheckFinal, CheckProposal
from p2petd.flows.services import FlowServices, RunView
from p2petd.ledger.proposal import ED25519, PURPOSE_TRANSACTION, Signature
from p2petd.ledger.resolved import LedgerTransaction
from p2petd.ledger.transaction import Draft

PURPOSE_NOTARISATION = 3


class FlowLedger:
    """Pure functions of their arguments, this node's key and the flow's network parameters: a replay repeats them.

    A replay does not run contracts again. They held, or the flow would have ended; and code that has changed since must
    not end a flow that has signed.
    """

    def __init__(self, services: FlowServices, run: RunView) -> None:
        self._services = services
        self._run = run

    def sign(self, transaction_id: bytes) -> Signature:
        """This node's signature over a transaction."""
        services = self._services
        signature = services.key.sign(services.network_id, PURPOSE_TRANSACTION, transaction_id)
        return Signature(services.identity, signature, ED25519)

    def sign_notarisation(self, digest: bytes) -> bytes:
        """This node's signature over a request to a notary (docs/protocol.md, section 7)."""
        return self._services.key.sign(self._services.network_id, PURPOSE_NOTARISATION, digest)

    async def check_proposal(self, proposal: bytes, *, complete: bool = False) -> LedgerTransaction:
        """Platform checks, input proofs, signatures and contracts of a `ledger.v1.Proposal`.

        Raises TransactionRefused, MalformedTransaction, UnknownContract or ContractViolation.
        """
        checked: native.Checked = await CheckProposal(proposal, complete)
        resolved = LedgerTransaction.from_checked(checked, self._services.contract_parameters)
        self._verify(resolved)
        return resolved

    def check_draft(self, draft: Draft) -> None:
        """Run the contracts on what we built ourselves, before anybody signs it."""
        self._verify(LedgerTransaction.from_draft(draft, self._services.contract_parameters))

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
        """Raises TransactionRefused unless a listed notary's batch proof of this draft verifies."""
        services = self._services
        notaries = [(notary.service_key, int(notary.mode)) for notary in services.parameters.notaries]
        try:
            native.verify_finality(
                services.network_id, draft.transaction, finality_proof, services.parameters_hash, notaries
            )
        except native.NativeError as error:
            raise TransactionRefused(error.code, str(error)) from error
