"""The durable rows of flows: what a restart needs to run each one again up to where it waited."""

from collections import deque

from p2pet.flows.v1.flows_pb2 import FlowStatus
from p2pet.store.v1.store_pb2 import FlowRow, MailRow, ParkedAt, StepRow

from p2petd.flows.run import Run
from p2petd.store.changes import Changes, Reader, scan_prefix
from p2petd.store.tables import Table, order_key, step_key

# Ended flows without a client id are kept for `flow list` up to this number; those with one until they are removed.
ENDED_KEPT_MAX = 10_000
MAIL_UNREAD_MAX = 256
MAIL_UNREAD_BYTES_MAX = 2 * 1024 * 1024
UNFINISHED = (FlowStatus.FLOW_STATUS_RUNNING, FlowStatus.FLOW_STATUS_PARKED)


class FlowJournal:
    """Knows the layout of the flow tables; remembers what the running batch has changed, which no view shows yet."""

    def __init__(self, store: Reader) -> None:
        self._store = store
        self._begun: dict[bytes, FlowRow | None] = {}
        self._begun_by_client: dict[str, bytes] = {}
        # Messages and bytes of mail of an unfinished flow that does not run: parked, waiting, or its code is gone.
        self._sleeping: dict[bytes, tuple[int, int]] = {}
        # Parked flows, and clients whose flow the running batch forgets.
        self.parked: set[bytes] = set()
        self._forgotten: set[str] = set()
        self._ended: deque[tuple[int, bytes]] = deque()

    def unfinished(self) -> list[tuple[bytes, FlowRow]]:
        """All flows that a restart must go on with, parked ones too: what they lacked may be here now."""
        running = []
        for flow_id, value in scan_prefix(self._store, Table.FLOW, b""):
            row = FlowRow.FromString(value)
            if row.status in UNFINISHED:
                running.append((flow_id, row))
                if row.status == FlowStatus.FLOW_STATUS_PARKED:
                    self.parked.add(flow_id)
            elif not row.client_id:
                self._ended.append((row.started_at_ns, flow_id))
        self._ended = deque(sorted(self._ended))
        return sorted(running, key=lambda entry: (entry[1].started_at_ns, entry[0]))

    def rows_of(self, flow_id: bytes) -> tuple[dict[int, StepRow], deque[MailRow]]:
        steps = {
            int.from_bytes(key[16:]): StepRow.FromString(row)
            for key, row in scan_prefix(self._store, Table.STEP, flow_id)
        }
        mail = deque(MailRow.FromString(row) for _, row in scan_prefix(self._store, Table.MAIL, flow_id))
        return steps, mail

    def row(self, flow_id: bytes) -> FlowRow | None:
        if flow_id in self._begun:
            return self._begun[flow_id]
        value = self._store.get(Table.FLOW, flow_id)
        return None if value is None else FlowRow.FromString(value)

    def flow_of_client(self, client_id: str) -> bytes | None:
        begun = self._begun_by_client.get(client_id)
        if begun is None and client_id in self._forgotten:
            return None
        return begun if begun is not None else self._store.get(Table.CLIENT_ID, client_id.encode())

    def begin(self, changes: Changes, flow_id: bytes, row: FlowRow) -> None:
        self._begun[flow_id] = row
        changes.put(Table.FLOW, flow_id, row.SerializeToString())
        changes.put(Table.FLOW_ORDER, order_key(row.started_at_ns, flow_id), b"")
        if row.client_id:
            self._begun_by_client[row.client_id] = flow_id
            changes.put(Table.CLIENT_ID, row.client_id.encode(), flow_id)

    def add_step(self, changes: Changes, run: Run, row: StepRow) -> None:
        """The outcome of the step that the run has just taken."""
        number = run.steps_taken - 1
        run.steps[number] = row
        changes.make(Table.STEP, step_key(run.flow_id, number), row.SerializeToString())

    def add_mail(self, changes: Changes, run: Run, mail: MailRow) -> None:
        changes.make(Table.MAIL, step_key(run.flow_id, run.mail_count), mail.SerializeToString())
        run.mail_count += 1

    def keep_mail(self, changes: Changes, flow_id: bytes, mail: MailRow) -> bool:
        """Store a message for an unfinished flow that does not run, for the day when it does. False when it is full."""
        if flow_id not in self._sleeping:
            held = [len(row) for _, row in scan_prefix(self._store, Table.MAIL, flow_id)]
            self._sleeping[flow_id] = (len(held), sum(held))
        arrival, size = self._sleeping[flow_id]
        row = mail.SerializeToString()
        if arrival >= MAIL_UNREAD_MAX or size + len(row) > MAIL_UNREAD_BYTES_MAX:
            return False
        self._sleeping[flow_id] = (arrival + 1, size + len(row))
        changes.put(Table.MAIL, step_key(flow_id, arrival), row)
        return True

    def park(self, changes: Changes, run: Run) -> None:
        """Keep everything; only the row says that the run stands still, and where."""
        row = run.row
        row.opened[:] = sorted(run.opened)
        row.ClearField("parked_at")
        if run.parked_at is not None:
            row.parked_at.CopyFrom(run.parked_at)
        elif run.replaying:
            row.mail_repeated = run.mail_repeated
        else:
            row.parked_at.CopyFrom(ParkedAt(sent=max(run.sent, run.sent_before), read=run.read))
        self._sleeping[run.flow_id] = (run.mail_count, sum(len(mail.payload) for mail in run.mail))
        self.park_row(changes, run.flow_id, row)

    def park_row(self, changes: Changes, flow_id: bytes, row: FlowRow) -> None:
        """The same for a flow that could not even be resumed: it stands where it stood."""
        if not (row.waiting or row.HasField("parked_at") or row.HasField("mail_repeated")):
            row.mail_repeated = sum(1 for _ in scan_prefix(self._store, Table.MAIL, flow_id))
        self.parked.add(flow_id)
        self._begun[flow_id] = row
        changes.put(Table.FLOW, flow_id, row.SerializeToString())

    def set_going(self, changes: Changes, flow_id: bytes, row: FlowRow) -> None:
        """It runs, and will not be told apart from one that was never parked and never had to wait."""
        self.wake(flow_id, row)
        row.status = FlowStatus.FLOW_STATUS_RUNNING
        row.error_code = row.error_message = ""
        changes.put(Table.FLOW, flow_id, row.SerializeToString())

    def wake(self, flow_id: bytes, row: FlowRow) -> None:
        """Nothing is kept for later any more."""
        row.waiting = False
        row.ClearField("opened")
        row.ClearField("parked_at")
        row.ClearField("mail_repeated")
        self.parked.discard(flow_id)
        self._sleeping.pop(flow_id, None)

    def forget(self, changes: Changes, flow_id: bytes, row: FlowRow) -> None:
        """Drop the row of an ended flow, and its client id, which may start another flow then."""
        changes.delete(Table.FLOW, flow_id)
        changes.delete(Table.FLOW_ORDER, order_key(row.started_at_ns, flow_id))
        self._begun[flow_id] = None
        if row.client_id:
            changes.delete(Table.CLIENT_ID, row.client_id.encode())
            self._forgotten.add(row.client_id)

    def end(self, changes: Changes, run: Run) -> None:
        """Keep the outcome, drop the journal."""
        for number in run.steps:
            changes.delete(Table.STEP, step_key(run.flow_id, number))
        for arrival in range(run.mail_count):
            changes.delete(Table.MAIL, step_key(run.flow_id, arrival))
        run.row.input = b""
        changes.put(Table.FLOW, run.flow_id, run.row.SerializeToString())
        self._begun[run.flow_id] = run.row
        if run.row.client_id:
            return
        self._ended.append((run.row.started_at_ns, run.flow_id))
        if len(self._ended) > ENDED_KEPT_MAX:
            started_at_ns, oldest = self._ended.popleft()
            changes.delete_lazily(Table.FLOW, oldest)
            changes.delete_lazily(Table.FLOW_ORDER, order_key(started_at_ns, oldest))

    def batch_ended(self) -> None:
        """What the batch has begun is, or will be before the next batch, in the view."""
        self._begun.clear()
        self._begun_by_client.clear()
        self._forgotten.clear()
