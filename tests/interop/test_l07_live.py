"""What a real community produces, as the independent verifier sees it: exports, logs, identifiers, certificates."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from p2pet.flows.v1.flows_pb2 import FLOW_STATUS_FAILED
from p2pet.localnet import LocalNetwork

from tests.interop import identifiers, notary_log, wire
from tests.interop import verifier as v
from tests.interop.corruption import Case, cases, refused
from tests.interop.forge import encode, seed, sign_id
from tests.interop.wire import Refused, decode
from tests.support.community import EURO_NANO, QUARTER_NS, Community, completed, make_community

CONTRACTS = Path(__file__).parents[2] / "p2petd" / "contracts"
ISSUES = 6


@dataclass(frozen=True)
class Evidence:
    """What was left when the network had stopped: its directory, and exports by the name of what they are for."""

    directory: Path
    identity: dict[str, bytes]
    exports: dict[str, bytes]

    @property
    def root(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.directory / "network" / "root.crt").read_bytes())

    def parts(self, name: str = "trade") -> wire.ExportedTransaction:
        return decode(wire.ExportedTransaction, self.exports[name])

    def parameters(self) -> wire.NetworkParameters:
        signed = decode(wire.SignedNetworkParameters, self.parts().signed_parameters)
        return decode(wire.NetworkParameters, signed.parameters)

    def records(self, log: str) -> list[notary_log.Record]:
        files = sorted((self.directory / log / "log").glob("*.log"))
        return notary_log.scan([(file.name, file.read_bytes()) for file in files])


async def collect(community: Community) -> dict[str, bytes]:
    """Money, energy and a trade between two homes; many issues at once; one that the notary refuses."""
    money = completed(await community.issue_money("home-2", 10 * EURO_NANO)).transaction_id
    await community.wait_for_states("home-2", "payment", 1)
    energy = completed(await community.issue_energy("home-1", 2_000)).transaction_id
    trade = completed(await community.trade("home-2", "home-1", 1_500)).transaction_id
    again = await community.issue_energy("home-1", 2_000)
    assert (again.status, again.error_code) == (FLOW_STATUS_FAILED, "notary.conflict")
    together = await asyncio.gather(*(community.issue_energy("home-1", 100, period) for period in range(1, ISSUES + 1)))
    wanted = {("home-1", f"issue {number}"): completed(one).transaction_id for number, one in enumerate(together)}
    wanted |= {("home-2", "trade"): trade, ("home-1", "energy"): energy, ("community", "money"): money}
    exports = {}
    for (node, name), id_ in wanted.items():
        async with community.client(node) as client:
            exports[name] = (await client.vault.finality_proof(id_)).SerializeToString()
    return exports


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    directory = tmp_path_factory.mktemp("interop") / "net"
    made = make_community(directory, homes=2)
    with LocalNetwork(directory) as network:
        asyncio.run(network.start())
        community = Community(made, network)
        exports = asyncio.run(collect(community))
    return Evidence(directory, community.identity, exports)


def test_l07_every_export_is_final(evidence: Evidence) -> None:
    ids = set()
    for name, exported in evidence.exports.items():
        assert encode(decode(wire.ExportedTransaction, exported)) == exported
        id_, groups = v.check_exported(evidence.root, exported)
        ids.add(id_)
        signers = v.required_signers(groups)
        if name == "trade":
            assert signers == {evidence.identity["home-1"], evidence.identity["home-2"]}
            commands = [decode(wire.Command, command).type_name for command in groups[v.COMMANDS]]
            assert commands == ["EnergyTrade", "PaymentPay"]
            assert len(groups[v.INPUTS]) == 2
        else:
            assert len(signers) == 1
    assert len(ids) == len(evidence.exports) == ISSUES + 3


def home_key(evidence: Evidence, name: str) -> Ed25519PrivateKey:
    pem = (evidence.directory / name / "identity.key").read_bytes()
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


def parameters_by_a_party(evidence: Evidence) -> bytes:
    """The same parameters, signed by a home with the certificate that it really has."""
    signed = decode(wire.SignedNetworkParameters, evidence.parts().signed_parameters)
    message = v.signed_message(v.NETWORK_PARAMETERS, v.network_id_of(evidence.root), v.sha256(signed.parameters))
    chain = x509.load_pem_x509_certificates((evidence.directory / "home-1" / "identity.crt").read_bytes())
    der = tuple(one.public_bytes(serialization.Encoding.DER) for one in chain)
    signature = home_key(evidence, "home-1").sign(message)
    return encode(replace(signed, signature=signature, certificates=der))


def proposal_with(evidence: Evidence, change: Callable[[wire.Proposal], wire.Proposal]) -> bytes:
    parts = evidence.parts()
    proposal = change(decode(wire.Proposal, parts.signed_transaction))
    return encode(replace(parts, signed_transaction=encode(proposal)))


def root_with(evidence: Evidence, **changes: Any) -> bytes:
    parts = evidence.parts()
    proof = decode(wire.FinalityProof, parts.finality_proof)
    root = replace(proof.batch.root, **changes)
    return encode(replace(parts, finality_proof=encode(replace(proof, batch=replace(proof.batch, root=root)))))


def less_energy(proposal: wire.Proposal) -> wire.Proposal:
    """The buyer's lot shrinks by one Wh; everything else stays."""
    transaction = decode(wire.Transaction, proposal.transaction)
    groups = [list(group.components) for group in transaction.groups]
    output = decode(wire.OutputState, groups[v.OUTPUTS][0])
    state = decode(wire.EnergyState, output.payload)
    smaller = replace(state, quantity_wh=state.quantity_wh - 1)
    groups[v.OUTPUTS][0] = encode(replace(output, payload=encode(smaller)))
    changed = tuple(wire.ComponentGroup(tuple(group)) for group in groups)
    return replace(proposal, transaction=encode(replace(transaction, groups=changed)))


def window_end(evidence: Evidence) -> int:
    _, groups = v.check_exported(evidence.root, evidence.exports["trade"])
    return v.window(groups)[1]


LIVE_CASES: list[Case] = [
    (
        "proof of another transaction",
        "id",
        lambda e: encode(replace(e.parts(), finality_proof=e.parts("energy").finality_proof)),
    ),
    (
        "transaction of another proof",
        "id",
        lambda e: encode(replace(e.parts(), signed_transaction=e.parts("money").signed_transaction)),
    ),
    (
        "parameters signed by a party",
        "certificates",
        lambda e: encode(replace(e.parts(), signed_parameters=parameters_by_a_party(e))),
    ),
    ("no parameters", "network", lambda e: encode(replace(e.parts(), signed_parameters=b""))),
    ("one Wh less", "id", lambda e: proposal_with(e, less_energy)),
    ("missing signature", "signers", lambda e: proposal_with(e, lambda p: replace(p, signatures=p.signatures[1:]))),
    (
        "a signature twice",
        "signers",
        lambda e: proposal_with(e, lambda p: replace(p, signatures=p.signatures + p.signatures[:1])),
    ),
    (
        "a stranger's signature",
        "signers",
        lambda e: proposal_with(
            e,
            lambda p: replace(
                p, signatures=(*p.signatures, sign_id(seed("stranger"), v.network_id_of(e.root), bytes(32)))
            ),
        ),
    ),
    ("sequence", "signature", lambda e: root_with(e, sequence=99)),
    ("decision time", "signature", lambda e: root_with(e, decided_at_ns=window_end(e) - 1)),
    ("mode", "mode", lambda e: root_with(e, mode=2)),
    ("notary", "notary", lambda e: root_with(e, notary=seed("another"))),
]


@cases(LIVE_CASES)
def test_l07_forged_export_refused(check: str, corrupt: Callable[[Evidence], bytes], evidence: Evidence) -> None:
    refused(check, lambda: v.check_exported(evidence.root, corrupt(evidence)))


def test_l07_another_root_refused(evidence: Evidence) -> None:
    other = x509.load_pem_x509_certificate((evidence.directory / "network" / "identity-authority.crt").read_bytes())
    refused("network", lambda: v.check_exported(other, evidence.exports["trade"]))


def test_l07_an_export_with_one_changed_bit_is_refused(evidence: Evidence) -> None:
    exported = evidence.exports["trade"]
    for place in range(0, len(exported), 7):
        changed = bytearray(exported)
        changed[place] ^= 1 << place % 8
        with pytest.raises(Refused):
            v.check_exported(evidence.root, bytes(changed))


def test_l07_notary_log_holds_what_was_decided_and_no_components(evidence: Evidence) -> None:
    records = evidence.records("notary/data/notary")
    decided = {}
    verdicts = []
    certificates = []
    for record in records:
        certificate = notary_log.read_certificate_record(record.payload)
        if certificate is not None:
            certificates.append(certificate)
            continue
        read = notary_log.read_notary_record(record.payload)
        verdicts += [one.verdict for one in read.refused]
        for index, accepted in enumerate(read.accepted):
            notary_log.check_accepted(v.network_id_of(evidence.root), accepted)
            decided[accepted.id] = (record, read, index, accepted)
    assert verdicts == [3]
    worker = decode(wire.WorkerCertificate, certificates[0])
    assert len(certificates) == 1
    assert len(decided) == len(evidence.exports)
    for exported in evidence.exports.values():
        id_, groups = v.check_exported(evidence.root, exported)
        record, read, index, accepted = decided[id_]
        batch = decode(wire.FinalityProof, decode(wire.ExportedTransaction, exported).finality_proof).batch
        assert (record.sequence, read.decided_at_ns) == (batch.root.sequence, batch.root.decided_at_ns)
        assert batch.worker == worker
        assert (len(read.accepted), index) == (batch.root.count, batch.index)
        assert v.tree([v.batch_leaf(one.id) for one in read.accepted], 0x11) == batch.root.root
        recorded = (accepted.inputs, accepted.references, accepted.claims)
        assert recorded == (groups[v.INPUTS], groups[v.REFERENCES], groups[v.CLAIMS])
        assert accepted.caller in evidence.identity.values()
        for number in (v.OUTPUTS, v.COMMANDS, v.SIGNERS):
            assert not any(component and component in record.payload for component in groups[number])


@pytest.mark.parametrize("name", ["notary", "community", "home-1", "home-2"])
def test_l07_logs_of_nodes_are_whole(evidence: Evidence, name: str) -> None:
    records = evidence.records(f"{name}/data/node")
    assert records
    assert all(notary_log.read_changes(record.payload) for record in records)


def test_l07_identifiers_of_an_issue(evidence: Evidence) -> None:
    _, groups = v.check_exported(evidence.root, evidence.exports["energy"])
    state = decode(wire.EnergyState, decode(wire.OutputState, groups[v.OUTPUTS][0]).payload)
    period = (state.delivery_start_ns, state.delivery_end_ns)
    assert evidence.parameters().market_time_unit_ns == QUARTER_NS
    assert list(groups[v.CLAIMS]) == identifiers.issue_claims(state.meter, *period, QUARTER_NS)
    assert state.lot_id == identifiers.lot_id(evidence.identity["home-1"], state.meter, *period, state.quantity_wh)


def modules(*names: str) -> set[Path]:
    """The files of these modules of `p2petd.contracts`, with all modules within them, and of what is in every one."""
    wanted = ("contract", "rules", *names)
    return {
        *(CONTRACTS / f"{name}.py" for name in wanted if (CONTRACTS / f"{name}.py").exists()),
        *(file for name in wanted for file in (CONTRACTS / name).rglob("*.py")),
    }


def test_l20_code_hashes_of_the_installed_contracts(evidence: Evidence) -> None:
    payment, oracle, meter = modules("payment"), modules("oracle", "identifiers"), modules("meter", "identifiers")
    files = {"payment": payment, "oracle": oracle, "meter": meter}
    files["energy"] = modules("energy", "legs", "tariff") | payment | oracle | meter
    assert {entry.name for entry in evidence.parameters().contracts} <= set(files)
    for entry in evidence.parameters().contracts:
        names = {
            file: ".".join(file.relative_to(CONTRACTS.parents[1]).with_suffix("").parts) for file in files[entry.name]
        }
        sources = {name.removesuffix(".__init__"): file.read_bytes() for file, name in names.items()}
        assert identifiers.code_hash(sources) == entry.code_hash, entry.name


def test_l07_nodes_say_who_they_are(evidence: Evidence) -> None:
    for name, identity in evidence.identity.items():
        signed = (evidence.directory / "network" / "nodes" / f"{name}.info").read_bytes()
        assert v.check_node_info(v.network_id_of(evidence.root), signed).identity == identity
        certificate = x509.load_pem_x509_certificate((evidence.directory / name / "tls.crt").read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [identifiers.peer_name(identity)]
