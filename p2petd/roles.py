"""What a node can be beside a party: opens its notary and its oracle."""

import logging
from collections.abc import Callable
from pathlib import Path

from p2petd import native
from p2petd.attachments.library import Attachments
from p2petd.config import NodeConfig
from p2petd.errors import DataDirectoryError, NetworkError, RolledBack
from p2petd.identity.keys import load_signing_key
from p2petd.membership import Membership
from p2petd.notary.service import NotaryService, QueueLimits
from p2petd.observe.clock import system_clock
from p2petd.oracle.service import OracleService, open_oracle_store
from p2petd.store.opening import Opening
from p2petd.store.snapshots import NotaryLog, SnapshotKeeper
from p2petd.store.standing import mark_rolled_back, take_standing

log = logging.getLogger(__name__)


def open_notary(
    config: NodeConfig,
    member: Membership,
    attachments: Attachments,
    rolled_back: Callable[[RolledBack], None],
    snapshots: SnapshotKeeper,
) -> NotaryService | None:
    """The notary of this node when node.toml has a [notary] section. Raises KeyFileError, NetworkError, RolledBack."""
    section = config.notary
    if section is None:
        return None
    service_key = member.network_map.by_identity(member.identity.public).notary_service_key
    modes = [
        notary.mode
        for signed in member.network_map.parameters.values()
        for notary in signed.parameters.notaries
        if notary.service_key == service_key
    ]
    if not service_key or not modes:
        raise NetworkError("node.toml has a [notary] section, but the network lists this node's notary service nowhere")
    directory = config.node.data_directory / "notary"

    def found_older(error: RolledBack) -> None:
        try:
            mark_rolled_back(directory, error.message)
        except OSError as trouble:
            log.critical("%s cannot be marked as an old copy: %s", directory, trouble)
        rolled_back(error)

    opening = Opening("notary")
    try:
        notary = native.Notary.open(
            str(directory),
            member.rules,
            member.identity.network_id,
            int(modes[0]),
            load_signing_key(section.worker_key_file),
            _read(section.worker_certificate_file),
            segment_bytes=config.store.segment_bytes,
            map_bytes=config.store.map_bytes,
            progress=opening,
        )
    except native.NativeError as error:
        raise DataDirectoryError(str(error)) from error
    opening.opened(notary.store_stats())
    snapshots.keep_whole("notary", NotaryLog(notary))
    held = take_standing(directory, "notary")
    if held is not None:
        log.warning("%s", held)
        notary.hold(held)
    return NotaryService(
        notary,
        member.contract_parameters,
        member.network_map,
        system_clock,
        QueueLimits(section.batch_max, section.queue_max, section.queue_bytes_max),
        attachments,
        found_older,
    )


def open_oracle(config: NodeConfig, member: Membership, snapshots: SnapshotKeeper) -> OracleService | None:
    """The oracle of this node when node.toml has an [oracle] section. Raises KeyFileError, NetworkError."""
    section = config.oracle
    if section is None:
        return None
    key = load_signing_key(section.key_file)
    if member.network_map.by_identity(member.identity.public).oracle_key != key.public:
        raise NetworkError(f"the node info of this node names another oracle's key than that of {section.key_file}")
    try:
        section.readings_directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataDirectoryError(f"{section.readings_directory} cannot be made: {error.strerror}") from error
    directory = config.node.data_directory / "oracle"
    store = open_oracle_store(directory, segment_bytes=config.store.segment_bytes, map_bytes=config.store.map_bytes)
    snapshots.keep_whole("oracle", store)
    held = take_standing(directory, "oracle")
    if held is not None:
        log.warning("%s", held)
    return OracleService(
        store,
        key,
        member.identity.network_id,
        # The same in all versions of the parameters.
        member.network_map.current_parameters(system_clock()).market_time_unit_ns,
        section.readings_directory,
        system_clock,
        held,
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NetworkError(f"{path} cannot be read: {error.strerror}") from error
