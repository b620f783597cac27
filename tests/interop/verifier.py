"""A verifier written from docs/protocol.md alone; section numbers in the docstrings are that page's.

    python -m tests.interop.verifier EXPORTED root.crt

`EXPORTED` is a serialised `vault.v1.GetFinalityProofResponse`. Whatever fails raises `Refused` with the check's name.
"""

import hashlib
import hmac
import struct
import sys
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.interop import ed25519, keys, wire
from tests.interop.certificates import map_key
from tests.interop.wire import decode, require

FORMAT, SCHEME, GROUPS, COMPONENTS_MAX, SIGNATURES_MAX = 1, 1, 12, 4096, 1024
INPUTS, REFERENCES, OUTPUTS, COMMANDS, SIGNERS, ATTACHMENTS, NOTARY, WINDOW, PARAMETERS, TYPE, CLAIMS, LOCKS = range(12)
TRANSACTION, BATCH, REQUEST, WORKER, NODE_INFO, NETWORK_PARAMETERS = range(1, 7)
UNLOCK = 9
VERIFYING, UNIQUENESS_ONLY = 1, 2
GENERAL, NOTARY_CHANGE = b"\x01", b"\x02"
I64_MIN, I64_MAX = -(2**63), 2**63 - 1

Groups = Sequence[Sequence[bytes]]
# What parameters say of notaries: the pairs of service key and mode that they list.
Notaries = Set[tuple[bytes, int]]
Ordered = TypeVar("Ordered", int, bytes)


def ascending(values: Sequence[Ordered], check: str, what: str) -> None:
    require(sorted(set(values)) == list(values), check, f"{what} do not ascend")


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


# Section 2: ids.


def split(count: int) -> int:
    """The largest power of two below `count`, for a count of 2 or more."""
    return 1 << (count - 1).bit_length() - 1


def tree(entries: Sequence[bytes], prefix: int) -> bytes:
    if len(entries) < 2:
        return entries[0] if entries else sha256()
    left = split(len(entries))
    return sha256(bytes([prefix]), tree(entries[:left], prefix), tree(entries[left:], prefix))


def nonce(salt: bytes, group: int, index: int) -> bytes:
    return hmac.digest(salt, struct.pack(">HI", group, index), "sha256")


def leaf(group: int, index: int, nonce_: bytes, component: bytes) -> bytes:
    return sha256(b"\x00", struct.pack(">HI", group, index), nonce_, component)


def group_root(group: int, count: int, root: bytes) -> bytes:
    return sha256(b"\x02", struct.pack(">HI", group, count), root)


def id_of_root(root: bytes) -> bytes:
    return sha256(b"\x03", struct.pack(">HH", FORMAT, GROUPS), root)


def group_roots(salt: bytes, groups: Groups) -> list[bytes]:
    require(len(salt) == 32, "salt", f"{len(salt)} bytes")
    require(len(groups) == GROUPS, "groups", f"{len(groups)}")
    roots = []
    for number, group in enumerate(groups):
        require(len(group) <= COMPONENTS_MAX, "limit", f"group {number} has {len(group)} components")
        leaves = [leaf(number, i, nonce(salt, number, i), component) for i, component in enumerate(group)]
        roots.append(group_root(number, len(group), tree(leaves, 0x01)))
    return roots


def transaction_id(salt: bytes, groups: Groups) -> bytes:
    return id_of_root(tree(group_roots(salt, groups), 0x04))


def read_transaction(data: bytes) -> tuple[bytes, list[tuple[bytes, ...]]]:
    """The id and the groups of a canonical `Transaction`."""
    envelope = decode(wire.Transaction, data)
    require(envelope.format == FORMAT, "format", str(envelope.format))
    groups = [group.components for group in envelope.groups]
    return transaction_id(envelope.salt, groups), groups


def check_shape(groups: Groups, unseeing: Set[bytes] = frozenset()) -> None:
    """Every component has the form that section 2 gives its group, and there are as many as it allows.

    `unseeing` are the service keys of the uniqueness-only notaries.
    """
    sizes = {INPUTS: 36, REFERENCES: 36, ATTACHMENTS: 32, NOTARY: 32, PARAMETERS: 32, CLAIMS: 32, LOCKS: 32}
    for number, size in sizes.items():
        require(all(len(component) == size for component in groups[number]), "shape", f"group {number}")
    for number in (NOTARY, PARAMETERS, TYPE):
        require(len(groups[number]) == 1, "shape", f"group {number} has {len(groups[number])} components")
    require(groups[TYPE][0] in (GENERAL, NOTARY_CHANGE), "shape", "type")
    outputs = [decode(wire.OutputState, output) for output in groups[OUTPUTS]]
    for command in groups[COMMANDS]:
        decode(wire.Command, command)
    window(groups)
    required_keys(groups)
    keys.check_cycles([output.encumbered_by for output in outputs])
    if groups[TYPE][0] == NOTARY_CHANGE:
        check_notary_change(groups, outputs)
    else:
        require(len(groups[SIGNERS]) == len(groups[COMMANDS]), "shape", "a signers component for each command")
    guard = outputs[0].notary if groups[TYPE][0] == NOTARY_CHANGE else groups[NOTARY][0]
    require(len(groups[LOCKS]) == (len(outputs) if guard in unseeing else 0), "shape", "output locks")
    if groups[NOTARY][0] in unseeing:
        require(not groups[CLAIMS], "shape", "claims")
        require(guard in unseeing, "shape", "no verifying notary accepts this state")


def check_notary_change(groups: Groups, outputs: Sequence[wire.OutputState]) -> None:
    """As many inputs as outputs, all under one other notary; one component of signers, nothing else."""
    for number in (COMMANDS, REFERENCES, ATTACHMENTS, CLAIMS):
        require(not groups[number], "shape", f"group {number} of a notary change")
    require(len(groups[SIGNERS]) == 1, "shape", "one signers component")
    require(0 < len(groups[INPUTS]) == len(outputs), "shape", "an output for each input")
    new = {output.notary for output in outputs}
    require(len(new) == 1 and groups[NOTARY][0] not in new, "shape", "one new notary")


def check_moved(groups: Groups, states: Sequence[wire.OutputState]) -> None:
    """Output i of a notary change is the state of input i, but for its notary and its companion's new index."""
    for output, state, ref in zip(groups[OUTPUTS], states, groups[INPUTS], strict=True):
        moved = decode(wire.OutputState, output)
        companion = ref[:32] + struct.pack(">I", state.encumbered_by - 1) if state.encumbered_by else b""
        by = groups[INPUTS].index(companion) + 1 if companion else 0
        require(moved == replace(state, notary=moved.notary, encumbered_by=by), "moved", "a state was altered")


def window(groups: Groups) -> tuple[int, int]:
    """The half-open time window in UTC nanoseconds; without one, all of time."""
    require(len(groups[WINDOW]) <= 1, "shape", "more than one time window")
    if not groups[WINDOW]:
        return I64_MIN, I64_MAX
    require(len(groups[WINDOW][0]) == 16, "shape", "time window")
    start, end = struct.unpack(">qq", groups[WINDOW][0])
    return start, end


def required_keys(groups: Groups) -> dict[bytes, keys.Node]:
    """The keys that must sign, by their ids."""
    required: dict[bytes, keys.Node] = {}
    for component in groups[SIGNERS]:
        listed = []
        while component:
            size = int.from_bytes(component[:2])
            require(len(component) >= 2 + size, "shape", "signers cut short")
            listed.append(component[2 : 2 + size])
            component = component[2 + size :]
        ascending(listed, "shape", "signers")
        required |= {keys.key_id(key): keys.read_key(key) for key in listed}
    return required


def required_signers(groups: Groups) -> set[bytes]:
    return set(required_keys(groups))


# Section 3: tear-offs.


@dataclass(frozen=True)
class ShownGroup:
    count: int
    components: Mapping[int, bytes]

    @property
    def complete(self) -> bool:
        return len(self.components) == self.count


def multiproof(known: Mapping[int, bytes], count: int, siblings: Sequence[bytes], prefix: int) -> bytes:
    """The root of a tree of `count` entries of which some are known; every sibling is used."""
    require(all(len(sibling) == 32 for sibling in siblings), "proof", "a sibling is not 32 bytes")
    require(all(0 <= index < count for index in known), "index", f"not below {count}")
    if count == 0:
        require(not siblings, "proof", "siblings of an empty tree")
        return sha256()
    unused = list(reversed(siblings))

    def root(low: int, high: int, indices: list[int]) -> bytes:
        if not indices:
            require(bool(unused), "proof", "a sibling is missing")
            return unused.pop()
        if high - low == 1:
            return known[low]
        middle = low + split(high - low)
        left = root(low, middle, [i for i in indices if i < middle])
        return sha256(bytes([prefix]), left, root(middle, high, [i for i in indices if i >= middle]))

    result = root(0, count, sorted(known))
    require(not unused, "proof", "a sibling too many")
    return result


def read_tear_off(tear_off: wire.TearOff) -> tuple[bytes, dict[int, ShownGroup]]:
    """The id that a tear-off proves, and what it shows."""
    require(tear_off.format == FORMAT, "format", str(tear_off.format))
    numbers = [group.group for group in tear_off.groups]
    ascending(numbers, "order", "groups")
    shown: dict[int, ShownGroup] = {}
    roots: dict[int, bytes] = {}
    for group in tear_off.groups:
        indices = [component.index for component in group.components]
        ascending(indices, "order", "indices")
        require(bool(indices) == (group.count > 0), "index", f"group {group.group} shows {len(indices)} components")
        require(all(len(component.nonce) == 32 for component in group.components), "nonce", "not 32 bytes")
        leaves = {c.index: leaf(group.group, c.index, c.nonce, c.component) for c in group.components}
        roots[group.group] = group_root(group.group, group.count, multiproof(leaves, group.count, group.siblings, 0x01))
        shown[group.group] = ShownGroup(group.count, {c.index: c.component for c in group.components})
    return id_of_root(multiproof(roots, GROUPS, tear_off.siblings, 0x04)), shown


# Section 4: signatures.


def signed_message(purpose: int, network_id: bytes, body: bytes, scheme: int = SCHEME) -> bytes:
    """`body` is the digest, or for a batch what follows the network id in section 5."""
    return b"p2pet/1\x00" + bytes([purpose, scheme]) + network_id + body


def check_signature(key: bytes, scheme: int, message: bytes, signature: bytes) -> None:
    require(scheme == SCHEME, "scheme", str(scheme))
    require(ed25519.acceptable_key(key), "key", key.hex())
    require(ed25519.valid(key, message, signature), "signature", f"by {key.hex()}")


def network_id_of(root: x509.Certificate) -> bytes:
    return sha256(root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def worker_digest(worker: wire.WorkerCertificate) -> bytes:
    validity = struct.pack(">qq", worker.not_before_ns, worker.not_after_ns)
    return sha256(worker.service_key, worker.worker_key, validity)


def check_worker(network_id: bytes, worker: wire.WorkerCertificate, service_key: bytes, decided_at_ns: int) -> None:
    """The service key certifies the worker for the time of the decision."""
    require(worker.service_key == service_key, "worker", "of another notary")
    require(len(worker.worker_key) == 32, "key", "of the worker")
    message = signed_message(WORKER, network_id, worker_digest(worker))
    check_signature(service_key, worker.scheme, message, worker.signature)
    require(worker.not_before_ns <= decided_at_ns < worker.not_after_ns, "worker", "not certified at that time")


def check_signatures(
    network_id: bytes, id_: bytes, signatures: Sequence[wire.TransactionSignature], required: Mapping[bytes, keys.Node]
) -> None:
    """Every required key is satisfied by signatures of the id, each by another key, and nobody else signed."""
    require(len(signatures) <= SIGNATURES_MAX, "limit", "signatures")
    signed = [signature.key for signature in signatures]
    asked = {leaf for node in required.values() for leaf in keys.leaves_of(node)}
    require(len(signed) == len(set(signed)), "signers", "a key signed twice")
    require(set(signed) <= asked, "signers", "a key that nobody asked for")
    require(all(keys.satisfied(node, signed) for node in required.values()), "signers", "a signature is missing")
    for signature in signatures:
        check_signature(
            signature.key, signature.scheme, signed_message(TRANSACTION, network_id, id_), signature.signature
        )


# Section 5: batches.


def batch_leaf(id_: bytes) -> bytes:
    return sha256(b"\x10", id_)


def root_message(network_id: bytes, root: wire.RootMessage) -> bytes:
    require(len(root.notary) == 32 and len(root.root) == 32, "batch", "lengths")
    require(root.mode in (1, 2), "mode", str(root.mode))
    numbers = struct.pack(">BQqI", root.mode, root.sequence, root.decided_at_ns, root.count)
    return signed_message(BATCH, network_id, root.notary + numbers + root.root)


def check_batch(network_id: bytes, proof: wire.BatchProof, id_: bytes) -> None:
    """The notary that the root names decided the id."""
    check_worker(network_id, proof.worker, proof.root.notary, proof.root.decided_at_ns)
    message = root_message(network_id, proof.root)
    root = multiproof({proof.index: batch_leaf(id_)}, proof.root.count, proof.path, 0x11)
    require(root == proof.root.root, "path", "does not lead to the signed root")
    check_signature(proof.worker.worker_key, proof.scheme, message, proof.signature)


# Section 6: finality.


@dataclass(frozen=True)
class Network:
    """What signed parameters establish."""

    network_id: bytes
    parameters_hash: bytes
    notaries: Notaries

    @property
    def unseeing(self) -> frozenset[bytes]:
        return frozenset(notary for notary, mode in self.notaries if mode == UNIQUENESS_ONLY)


def check_parameters(root: x509.Certificate, signed: bytes) -> Network:
    """Step 1: the parameters are signed by a key that the root certified."""
    envelope = decode(wire.SignedNetworkParameters, signed)
    parameters = decode(wire.NetworkParameters, envelope.parameters)
    require(parameters.network_id == network_id_of(root), "network", "parameters of another network")
    key = map_key(root, envelope.certificates, parameters.valid_from_ns)
    message = signed_message(NETWORK_PARAMETERS, parameters.network_id, sha256(envelope.parameters))
    check_signature(key, envelope.scheme, message, envelope.signature)
    notaries = frozenset((entry.service_key, entry.mode) for entry in parameters.notaries)
    return Network(parameters.network_id, sha256(envelope.parameters), notaries)


def check_final(
    network: Network, proposal: wire.Proposal, proof: wire.FinalityProof
) -> tuple[bytes, list[tuple[bytes, ...]]]:
    """Steps 2 to 7: the id and groups of a final transaction with all signatures."""
    id_, groups = read_transaction(proposal.transaction)
    check_shape(groups, network.unseeing)
    # 2. the id, and the parameters that it commits to
    require(id_ == proof.transaction_id, "id", "the proof is of another transaction")
    require(groups[PARAMETERS][0] == network.parameters_hash, "parameters", "the transaction names others")
    # 3. the notary
    root = proof.batch.root
    require(root.notary == groups[NOTARY][0], "notary", "the transaction names another")
    require((root.notary, root.mode) in network.notaries, "mode", "not so in the parameters")
    # 4. and 5. the worker certificate, the path, the worker's signature
    check_batch(network.network_id, proof.batch, id_)
    # 6. the window
    start, end = window(groups)
    require(start <= root.decided_at_ns and (root.decided_at_ns < end or end == I64_MAX), "window")
    # 7. the signatures
    check_signatures(network.network_id, id_, proposal.signatures, required_keys(groups))
    return id_, groups


def check_exported(root: x509.Certificate, exported: bytes) -> tuple[bytes, list[tuple[bytes, ...]]]:
    """All of section 6, for what `VaultService.GetFinalityProof` answers."""
    parts = decode(wire.ExportedTransaction, exported)
    network = check_parameters(root, parts.signed_parameters)
    return check_final(
        network, decode(wire.Proposal, parts.signed_transaction), decode(wire.FinalityProof, parts.finality_proof)
    )


def check_node_info(network_id: bytes, signed: bytes) -> wire.NodeInfo:
    """What a node says of itself, signed by the identity that it names (section 4, purpose 5)."""
    envelope = decode(wire.SignedNodeInfo, signed)
    info = decode(wire.NodeInfo, envelope.node_info)
    message = signed_message(NODE_INFO, network_id, sha256(envelope.node_info))
    check_signature(info.identity, envelope.scheme, message, envelope.signature)
    return info


# Section 7: what a notary receives.


def read_creator(
    network_id: bytes, known: Mapping[bytes, Notaries], ref: bytes, serialised: bytes, group: int
) -> tuple[bytes, bytes, bytes, int]:
    """Steps 1 to 3: the component of `group` that `ref` names, the creating transaction's notary and type, the mode."""
    proof = decode(wire.InputProof, serialised)
    # 1. what the tear-off shows
    id_, shown = read_tear_off(proof.creator)
    index = struct.unpack(">I", ref[32:])[0]
    require(id_ == ref[:32], "id", "the proof is of another transaction")
    require(group in shown and index in shown[group].components, "hidden", f"component {index} of group {group}")
    for number in (NOTARY, PARAMETERS, TYPE):
        require(number in shown and shown[number].complete and shown[number].count == 1, "hidden", f"group {number}")
    creator_notary, parameters, type_ = (shown[number].components[0] for number in (NOTARY, PARAMETERS, TYPE))
    # 2. the batch
    require(proof.batch.root.notary == creator_notary, "notary", "the creating transaction names another")
    check_batch(network_id, proof.batch, id_)
    # 3. the parameters
    require(parameters in known, "parameters", "unknown")
    require((creator_notary, proof.batch.root.mode) in known[parameters], "mode", "not so in the parameters")
    require(type_ in (GENERAL, NOTARY_CHANGE), "type", "unknown")
    return shown[group].components[index], creator_notary, type_, proof.batch.root.mode


def check_input_proof(
    network_id: bytes, known: Mapping[bytes, Notaries], ref: bytes, notary: bytes, serialised: bytes
) -> wire.OutputState:
    """The output that `ref` names, proven for a transaction of `notary`; `known` is by the hash of the parameters."""
    component, creator_notary, type_, mode = read_creator(network_id, known, ref, serialised, OUTPUTS)
    require(mode == VERIFYING, "mode", "not verifying")
    # 4. the consuming transaction's notary
    output = decode(wire.OutputState, component)
    require(output.notary == notary, "notary", "not that of the consuming transaction")
    require(creator_notary == notary or type_ == NOTARY_CHANGE, "notary", "the creating transaction names another")
    return output


def check_lock_proof(
    network_id: bytes, known: Mapping[bytes, Notaries], ref: bytes, notary: bytes, serialised: bytes
) -> bytes:
    """The lock of the output that `ref` names, proven for a transaction of the uniqueness-only `notary`."""
    lock, creator_notary, type_, _ = read_creator(network_id, known, ref, serialised, LOCKS)
    require(creator_notary == notary or type_ == NOTARY_CHANGE, "notary", "the creating transaction names another")
    return lock


def check_uniqueness(
    network_id: bytes, known: Mapping[bytes, Notaries], serialised: bytes
) -> tuple[bytes, dict[int, ShownGroup]]:
    """The id, and what a uniqueness-only notary sees, of a proposal that it would look into."""
    proposal = decode(wire.UniquenessProposal, serialised)
    id_, shown = read_tear_off(proposal.transaction)
    visible = (INPUTS, REFERENCES, NOTARY, WINDOW, PARAMETERS, CLAIMS, LOCKS)
    require(tuple(shown) == visible and all(group.complete for group in shown.values()), "hidden", "groups")
    groups = [list(shown[number].components.values()) if number in shown else [] for number in range(GROUPS)]
    for number, size in {INPUTS: 36, REFERENCES: 36, NOTARY: 32, PARAMETERS: 32, LOCKS: 32}.items():
        require(all(len(component) == size for component in groups[number]), "shape", f"group {number}")
    require(len(groups[NOTARY]) == len(groups[PARAMETERS]) == 1 and not groups[CLAIMS], "shape", "counts")
    window(groups)
    refs = [*groups[INPUTS], *groups[REFERENCES]]
    require(len(set(refs)) == len(refs), "twice", "a state")
    require((groups[NOTARY][0], UNIQUENESS_ONLY) in known.get(groups[PARAMETERS][0], frozenset()), "mode")
    require(len(proposal.input_proofs) == len(refs), "proofs", f"{len(proposal.input_proofs)} for {len(refs)}")
    proven = zip(refs, proposal.input_proofs, strict=True)
    locks = [check_lock_proof(network_id, known, ref, groups[NOTARY][0], proof) for ref, proof in proven]
    require(len(proposal.unlock_signatures) == len(groups[INPUTS]), "signers", "an unlock signature for each input")
    for lock, signature in zip(locks, proposal.unlock_signatures, strict=False):
        check_signature(lock, SCHEME, signed_message(UNLOCK, network_id, id_), signature)
    return id_, shown


def request_digest(inputs: Sequence[bytes], id_: bytes) -> bytes:
    return sha256(struct.pack(">I", len(inputs)), *sorted(inputs), id_)


def check_request(
    network_id: bytes, known: Mapping[bytes, Notaries], caller: bytes, serialised: bytes
) -> tuple[bytes, list[wire.OutputState]]:
    """The id, and the outputs consumed and read, of a request by the peer `caller` that a notary would look into."""
    request = decode(wire.NotarisationRequest, serialised)
    proposal = decode(wire.Proposal, request.proposal)
    id_, groups = read_transaction(proposal.transaction)
    unseeing = {notary for notaries in known.values() for notary, mode in notaries if mode == UNIQUENESS_ONLY}
    check_shape(groups, unseeing)
    require(request.caller == caller, "caller", "not the peer of the connection")
    message = signed_message(REQUEST, network_id, request_digest(groups[INPUTS], id_))
    check_signature(request.caller, request.scheme, message, request.signature)
    check_signatures(network_id, id_, proposal.signatures, required_keys(groups))
    refs = [*groups[INPUTS], *groups[REFERENCES]]
    require(len(proposal.input_proofs) == len(refs), "proofs", f"{len(proposal.input_proofs)} for {len(refs)}")
    proven = zip(refs, proposal.input_proofs, strict=True)
    states = [check_input_proof(network_id, known, ref, groups[NOTARY][0], proof) for ref, proof in proven]
    consumed = states[: len(groups[INPUTS])]
    keys.check_companions(groups[INPUTS], [state.encumbered_by for state in consumed])
    if groups[TYPE][0] == NOTARY_CHANGE:
        check_moved(groups, consumed)
    return id_, states


def main(exported: str, certificate: str) -> None:
    with open(certificate, "rb") as file:
        root = x509.load_pem_x509_certificate(file.read())
    with open(exported, "rb") as file:
        id_, _ = check_exported(root, file.read())
    print(id_.hex(), "is final")


if __name__ == "__main__":
    main(*sys.argv[1:])
