"""Is a log whole, are its snapshots, and is the view what the log says?

1. The log: checksums, sequences, the chain, the links between segments, and that the snapshots stand for records of it.
2. Each snapshot: the digest of its pages.
3. The log is replayed into a view of its own, from its start or from the oldest whole snapshot, and compared with each
   whole snapshot and with the view at the record that each of them shows.
"""

from collections.abc import Callable
from pathlib import Path

from p2petd import native
from p2petd.errors import DataDirectoryError
from p2petd.offline.compare import Compared, PagesDamaged, compare, compared, head_of
from p2petd.offline.findings import Part, Say

PAGES = "data.mdb"
Progress = Callable[[str, int, int], None]
_REBUILD = "delete the directory of the view, and the next start rebuilds it"
_WORK = {
    "checking_log": "checking the log",
    "restoring_snapshot": "reading a snapshot",
    "rebuilding_view": "replaying the log",
    "checking_decisions": "checking decisions",
    "comparing_rows": "comparing rows",
}


def check_log(
    directory: Path, scratch: Path, part: Part, say: Say, *, notary: bool, map_bytes: int
) -> native.Inspection | None:
    """Everything that needs no keys; what is rebuilt can then be read. None when that cannot be done.

    Raises DataDirectoryError for a directory in use, or one that the operating system refuses.
    """

    def progress(phase: str, done: int, total: int) -> None:
        say(f"{part.name}: {_WORK.get(phase, phase)}", done, total)

    try:
        inspection = native.Inspection.begin(
            str(directory), str(scratch), notary=notary, map_bytes=map_bytes, progress=progress
        )
    except native.LogDamagedError as error:
        part.found(str(error))
        return None
    except native.StoreError as error:
        if error.code == "store.no_snapshot":
            part.found(str(error))
            return None
        if error.code == "store.locked":
            raise DataDirectoryError(f"{error}: stop the node before its data directory is verified") from error
        raise DataDirectoryError(str(error)) from error
    try:
        _check(inspection, directory, scratch, part, progress)
    except native.LogDamagedError as error:
        part.found(str(error))
        inspection.close()
        return None
    except native.StoreError as error:
        inspection.close()
        raise DataDirectoryError(str(error)) from error
    return inspection


def _check(inspection: native.Inspection, directory: Path, scratch: Path, part: Part, progress: Progress) -> None:
    first, last, chain_value, unfinished = inspection.log
    part.facts |= {"records": last - first + 1, "first record": first, "last record": last}
    part.facts["chain value"] = chain_value.hex()
    if unfinished is not None:
        file, offset, _ = unfinished
        part.facts["unfinished record"] = f"{file} at offset {offset}: nobody has seen it, the next start cuts it"
    whole = [sequence for sequence, why in inspection.snapshots if why is None]
    part.facts["snapshots"] = ", ".join(str(sequence) for sequence, _ in inspection.snapshots) or "none"
    for sequence, why in inspection.snapshots:
        if why is not None:
            part.found(f"the snapshot of record {sequence} in {directory / 'snapshots'} is damaged: {why}")
    live = _live_head(inspection, directory, part)
    for stop in sorted({*whole, *([live] if live is not None else [])}):
        inspection.rebuild(stop, progress=progress)
        answer = inspection.compare_snapshot(progress=progress) if stop in whole else None
        if answer is not None:
            _tell(part, f"the snapshot of record {stop}", compared(answer))
        if stop == live:
            _compare_live(directory, scratch, part)
    inspection.rebuild(last, progress=progress)


def _live_head(inspection: native.Inspection, directory: Path, part: Part) -> int | None:
    """The last record that the view shows; None where there is no view to compare."""
    if not inspection.view_is_believed:
        part.facts["view"] = "not to be believed: the next start rebuilds it"
        return None
    pages = directory / "view" / PAGES
    try:
        head = head_of(pages)
    except PagesDamaged as error:
        part.found(f"the view {pages} is damaged: {error}; {_REBUILD}")
        return None
    if head > inspection.log[1]:
        part.found(f"the view {pages} shows record {head}, but the log ends with record {inspection.log[1]}")
        return None
    return head


def _compare_live(directory: Path, scratch: Path, part: Part) -> None:
    pages = directory / "view" / PAGES
    try:
        answer = compare(scratch / PAGES, pages)
    except PagesDamaged as error:
        part.found(f"the view {pages} is damaged: {error}; {_REBUILD}")
        return
    part.facts["rows"] = answer.rows
    if answer.differing == 0:
        part.facts["view"] = "what the log says"
    _tell(part, f"the view {pages}", answer)
    if answer.differing:
        part.found(f"the view is wrong: {_REBUILD}", times=0)


def _tell(part: Part, what: str, answer: Compared) -> None:
    for row in answer.first:
        part.found(f"{what}: table {row.table}, key {row.key.hex()} {row.why}")
    left = answer.differing - len(answer.first)
    if left:
        part.found(f"{what}: {left} more rows differ", times=left)
