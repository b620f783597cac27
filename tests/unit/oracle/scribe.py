"""An oracle without its thread: a book, and what tests tell it and ask it."""

from p2pet.oracle.v1 import oracle_pb2 as pb

from p2petd import native
from p2petd.contracts.oracle import Attestation
from p2petd.ledger.transaction import TransactionBuilder
from p2petd.oracle.book import Book
from p2petd.oracle.telling import Taken, take_reading
from p2petd.oracle.vouching import Voice
from p2petd.units import MINUTE_NS

UNIT_NS = 15 * MINUTE_NS
# The market time unit that tests mean, long over.
START_NS = 1_700_000_000 * 1_000_000_000 // UNIT_NS * UNIT_NS
NOW_NS = START_NS + 1000 * UNIT_NS
METER = "meter-1"
NETWORK = b"\x01" * 32
KEY = native.SigningKey.from_seed(b"\x02" * 32)
OTHER_KEY = native.SigningKey.from_seed(b"\x03" * 32)


class Scribe:
    """A book with an oracle's voice."""

    def __init__(self, store: native.Store) -> None:
        self.store = store
        self.book = Book(store)
        self.voice = Voice(self.book, KEY, NETWORK, UNIT_NS)

    def tell(self, energy_wh: int, unit: int = 0, revision: int = 0, meter: str = METER) -> Taken:
        return take_reading(self.book, reading(energy_wh, unit, revision, meter), UNIT_NS, NOW_NS)

    def commit(self) -> None:
        if changes := self.book.take():
            self.store.commit(changes)

    def facts(self, units: int = 1, unit: int = 0) -> Attestation:
        """The attestation of a reading that starts with `unit` and is `units` long."""
        start = START_NS + unit * UNIT_NS
        query = pb.FactQuery()
        query.reading.meter, query.reading.start_ns, query.reading.end_ns = METER, start, start + units * UNIT_NS
        return self.attest(query)

    def attest(self, *queries: pb.FactQuery) -> Attestation:
        return Attestation.from_payload(self.voice.facts(pb.FactsRequest(queries=queries)).SerializeToString())

    def sign(self, request: pb.SignRequest) -> bytes:
        return self.voice.sign(request, NOW_NS)


def reading(energy_wh: int, unit: int = 0, revision: int = 0, meter: str = METER) -> pb.UnitReading:
    return pb.UnitReading(meter=meter, start_ns=START_NS + unit * UNIT_NS, energy_wh=energy_wh, revision=revision)


def request(*attestations: Attestation, show: tuple[int, ...] = (0,), salt: bytes = b"\x07" * 32) -> pb.SignRequest:
    """What a flow sends for a transaction with these attestations, of which those numbered `show` are shown."""
    builder = TransactionBuilder(b"\x04" * 32, b"\x05" * 32).add_output_component(b"output")
    for one in attestations:
        builder.add_command("oracle", one, [one.oracle])
    draft = builder.build(salt)
    shown = [(3, index) for index in show]
    return pb.SignRequest(transaction_id=draft.id, tear_off=native.tear_off(draft.transaction, shown, []))
