"""`p2petd verify`: does the data directory of a stopped node hold what its log, its signatures and its proofs say?

Nothing of it is changed. The logs are replayed in a directory of their own, which needs about as much space as the
views do.
"""

import re
import tempfile
import time
from pathlib import Path

from google.protobuf.message import DecodeError

from p2petd import native
from p2petd.attachments.files import disk_errors, hash_of
from p2petd.config import NodeConfig
from p2petd.errors import DataDirectoryError
from p2petd.membership import Membership
from p2petd.offline.findings import Part, Say, Verification
from p2petd.offline.log_check import check_log
from p2petd.offline.vault_check import Network, VaultCheck, check_finals
from p2petd.store.changes import Reader, scan_prefix
from p2petd.store.tables import META_IDENTITY, Table

STORES = ("node", "histories", "notary", "oracle")
_ATTACHMENT = re.compile("[0-9a-f]{64}")


def verify(config: NodeConfig, scratch: Path | None, say: Say) -> Verification:
    """Check everything; the logs are replayed in directories made and removed in `scratch`, or in the data directory.

    Raises DataDirectoryError when the node runs or the operating system refuses, and as `Membership.load` does.
    """
    began = time.monotonic()
    data = config.node.data_directory
    if not data.is_dir():
        raise DataDirectoryError(f"{data} does not exist; name the configuration of a node that has run")
    member = Membership.load(config)
    parts = [_store(name, config, member, scratch or data, say) for name in STORES if (data / name / "log").is_dir()]
    if (data / "attachments").is_dir():
        parts.append(_attachments(data / "attachments", say))
    return Verification(tuple(parts), time.monotonic() - began)


def _store(name: str, config: NodeConfig, member: Membership, scratch: Path, say: Say) -> Part:
    part = Part(name)
    directory = config.node.data_directory / name
    with disk_errors(f"verifying {directory}"), tempfile.TemporaryDirectory(prefix=".verify-", dir=scratch) as made:
        replayed = Path(made) / name
        map_bytes = config.store.map_bytes
        inspection = check_log(directory, replayed, part, say, notary=name == "notary", map_bytes=map_bytes)
        if inspection is None:
            return part
        try:
            _rows(name, inspection, member, part, say)
        except native.NativeError as error:
            raise DataDirectoryError(str(error)) from error
        except DecodeError as error:
            part.found(f"a row cannot be read, so that the rows were not checked to their end: {error}")
        finally:
            inspection.close()
    return part


def _rows(name: str, inspection: native.Inspection, member: Membership, part: Part, say: Say) -> None:
    identity = member.identity
    notaries = {
        parameters_hash: [(notary.service_key, int(notary.mode)) for notary in signed.parameters.notaries]
        for parameters_hash, signed in member.network_map.parameters.items()
    }
    network = Network(member.rules, identity.network_id, notaries)
    if name == "node":
        owner = inspection.get(Table.META, META_IDENTITY)
        if owner is not None and owner != identity.public:
            part.found(f"the data directory belongs to the node with identity {owner.hex()}")
            return
        VaultCheck(inspection, network, identity.public, part, say).run()
    elif name == "histories":
        rows = scan_prefix(inspection, Table.ANCESTOR, b"")
        part.facts["transactions"] = check_finals(rows, network, part, say)
        _parents(inspection, part)
    elif name == "notary":
        accepted, count, first = inspection.audit_notary(identity.network_id)
        part.facts["decisions"] = accepted
        for sequence, index, why in first:
            part.found(f"record {sequence}, request {index}: {why}")
        if count > len(first):
            part.found(f"{count - len(first)} more requests are not what a notary decides", times=count - len(first))


def _parents(reader: Reader, part: Part) -> None:
    """Each transaction of a history comes with the list of those before it, and no list without its transaction."""
    ancestors = {key for key, _ in scan_prefix(reader, Table.ANCESTOR, b"")}
    listed = {key for key, _ in scan_prefix(reader, Table.PARENTS, b"")}
    for key in sorted(ancestors ^ listed):
        part.found(
            f"of transaction {key.hex()} only {'the list of parents' if key in listed else 'the bytes'} are here"
        )


def _attachments(directory: Path, say: Say) -> Part:
    part = Part("attachments")
    with disk_errors(f"verifying {directory}"):
        files = sorted(file for file in directory.iterdir() if _ATTACHMENT.fullmatch(file.name))
        for number, file in enumerate(files):
            say("attachments: reading", number, len(files))
            if hash_of(file).hex() != file.name:
                part.found(f"{file} does not have the hash that it is named after; upload it again, or delete it")
    part.facts["files"] = len(files)
    return part
