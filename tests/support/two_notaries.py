"""A community with two notaries: which one guards what, and states moved between them."""

from p2pet.flows.v1 import arguments_pb2 as args
from p2pet.flows.v1.flows_pb2 import FlowOutcome
from p2pet.vault.v1 import vault_pb2

from p2petd.ledger.resolved import OutputState
from tests.support.community import CURRENCY, Community

FIRST, SECOND = "notary", "notary-2"


class TwoNotaries(Community):
    """The notaries by the names of their nodes."""

    def service_key(self, notary: str) -> bytes:
        (key,) = (node.notary_service_key for node in self.made.nodes if node.directory.name == notary)
        return key

    async def money_at(self, notary: str, to: str, amount_nano: int) -> FlowOutcome:
        """Fresh money that this notary guards."""
        arguments = args.PaymentIssueArguments(
            currency=CURRENCY,
            amount_nano=amount_nano,
            recipient=self.identity[to],
            notary=self.service_key(notary),
        )
        return await self.run("community", "payment.issue", arguments)

    async def move(self, node: str, notary: str, states: list[bytes] | None = None) -> FlowOutcome:
        arguments = args.NotaryChangeArguments(states=states or [], notary=self.service_key(notary))
        return await self.run(node, "ledger.notary_change", arguments)

    async def guarded(self, node: str, contract: str = "") -> dict[str, int]:
        """How many unconsumed states of the node each notary guards."""
        counts = {FIRST: 0, SECOND: 0}
        names = {self.service_key(name): name for name in counts}
        for state in await self.states(node, contract):
            counts[names[OutputState.decode(state.output).notary]] += 1
        return counts

    async def states(self, node: str, contract: str = "") -> list[vault_pb2.VaultState]:
        """The node's own unconsumed states."""
        found: list[vault_pb2.VaultState] = []
        async with self.client(node) as client:
            token = ""
            while True:
                answer = await client.vault.states(
                    status=vault_pb2.STATE_STATUS_UNCONSUMED,
                    contract=contract,
                    owner=self.identity[node],
                    page_size=1000,
                    page_token=token,
                )
                found.extend(answer.states)
                token = answer.next_page_token
                if not token:
                    return found

    async def accepted(self, notary: str) -> int:
        """How many transactions the notary has notarised since it was started."""
        async with self.client(notary) as client:
            return (await client.stats())["notary_accepted"]
