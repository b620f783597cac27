"""What an oracle says, and signing for exactly that."""

from p2pet.ledger.v1.oracle_pb2 import Attestation, EnergyForecast, MeterReading, TariffNotice
from p2pet.oracle.v1.oracle_pb2 import FactQuery, FactsRequest, SignRequest
from p2pet.store.v1.store_pb2 import AttestationRow

from p2petd import native
from p2petd.contracts.identifiers import LOT_UNITS_MAX
from p2petd.contracts.oracle import FACTS_MAX
from p2petd.contracts.oracle import NAME as CONTRACT
from p2petd.errors import FactDiffers, MalformedTransaction, OracleError, UnknownFact
from p2petd.ledger.codec import parse_strict
from p2petd.ledger.groups import DIGEST_BYTES, Group
from p2petd.ledger.proposal import PURPOSE_TRANSACTION
from p2petd.oracle.book import Book
from p2petd.oracle.telling import check_period


class Voice:
    """One oracle's answers; `key` signs them. Called from the thread of the book."""

    def __init__(self, book: Book, key: native.SigningKey, network_id: bytes, unit_ns: int) -> None:
        self._book = book
        self._key = key
        self._network_id = network_id
        self._unit_ns = unit_ns

    def facts(self, request: FactsRequest) -> Attestation:
        """The facts that are asked for, of each kind in the order of the queries.

        Raises UnknownFact naming what is missing first, OracleError for a request without queries or with too many.
        """
        if not 1 <= len(request.queries) <= FACTS_MAX:
            raise OracleError(f"a request holds 1 to {FACTS_MAX} queries, not {len(request.queries)}")
        units = sum(self._units(query) for query in request.queries)
        if units > LOT_UNITS_MAX:
            raise OracleError(f"a request covers {units} market time units; {LOT_UNITS_MAX} at once are answered")
        answer = Attestation(oracle=self._key.public)
        for query in request.queries:
            match query.WhichOneof("query"):
                case "reading":
                    answer.readings.append(self._reading(query.reading))
                case "forecast":
                    answer.forecasts.append(self._forecast(query.forecast))
                case "tariff":
                    answer.tariffs.append(self._tariff(query.tariff))
                case _:
                    raise OracleError("a query asks for a reading, a forecast or a tariff")
        return answer

    def sign(self, request: SignRequest, now_ns: int) -> bytes:
        """64 bytes over the transaction's id; what they vouch for is in the book. A repeat gives the same bytes, also
        after a correction: the first signature has left.

        1. the tear-off leads to the id and shows one component, a command: else OracleError;
        2. that is an attestation in canonical form which names this oracle's key: else OracleError;
        3. it is the only one that this oracle has vouched for in this transaction: else OracleError;
        4. each of its facts is what the oracle says now: else FactDiffers or UnknownFact.
        That no other command in the transaction leans on this signature, the oracle contract sees to.
        """
        payload = _shown_attestation(request)
        known = self._book.attestation(request.transaction_id)
        if known is None:
            attestation = _decode(payload)
            if attestation.oracle != self._key.public:
                raise OracleError(f"the attestation names the key {attestation.oracle.hex()[:64]}, not this oracle's")
            self._check_facts(attestation)
            self._record(request.transaction_id, attestation, payload, now_ns)
        elif known.attestation != payload:
            raise OracleError("the oracle has signed this transaction for another attestation")
        return self._key.sign(self._network_id, PURPOSE_TRANSACTION, request.transaction_id)

    def _check_facts(self, attestation: Attestation) -> None:
        """Raises FactDiffers, UnknownFact, OracleError."""
        queries = [
            *(FactQuery(reading=reading) for reading in attestation.readings),
            *(FactQuery(forecast=forecast) for forecast in attestation.forecasts),
            *(FactQuery(tariff=TariffNotice(tariff=notice.tariff)) for notice in attestation.tariffs),
        ]
        truth = self.facts(FactsRequest(queries=queries))
        for stated, true in zip(attestation.readings, truth.readings, strict=True):
            if stated != true:
                raise FactDiffers(
                    f"{stated.energy_wh} Wh of meter {stated.meter} in revision {stated.revision} is not what the "
                    f"oracle knows: {true.energy_wh} Wh in revision {true.revision}"
                )
        for forecast, expected in zip(attestation.forecasts, truth.forecasts, strict=True):
            if forecast != expected:
                raise FactDiffers(f"the forecast for meter {forecast.meter} is {expected.energy_wh_max} Wh")
        for notice, published in zip(attestation.tariffs, truth.tariffs, strict=True):
            if notice != published:
                raise FactDiffers(f"the tariff {notice.tariff.hex()} is valid in another time")

    def _record(self, transaction_id: bytes, attestation: Attestation, payload: bytes, now_ns: int) -> None:
        for fact in attestation.readings:
            for start_ns in range(fact.start_ns, fact.end_ns, self._unit_ns):
                row = self._book.reading(fact.meter, start_ns)
                assert row is not None
                row.attested_revision, row.attested_in = row.revision, transaction_id
                self._book.put_reading(fact.meter, start_ns, row)
        self._book.put_attestation(transaction_id, AttestationRow(attestation=payload, signed_at_ns=now_ns))

    def _units(self, query: FactQuery) -> int:
        if query.WhichOneof("query") != "reading":
            return 1
        check_period(query.reading.start_ns, query.reading.end_ns, self._unit_ns)
        return (query.reading.end_ns - query.reading.start_ns) // self._unit_ns

    def _reading(self, asked: MeterReading) -> MeterReading:
        """The sum of the units of the period, all of them known; 1 revision more for each correction of one of them."""
        energy_wh, revision = 0, 1
        for start_ns in range(asked.start_ns, asked.end_ns, self._unit_ns):
            row = self._book.reading(asked.meter, start_ns)
            if row is None:
                raise UnknownFact(f"the oracle has no reading of meter {asked.meter} for the unit from {start_ns} ns")
            energy_wh += row.energy_wh
            revision += row.revision - 1
        return MeterReading(
            meter=asked.meter, start_ns=asked.start_ns, end_ns=asked.end_ns, energy_wh=energy_wh, revision=revision
        )

    def _forecast(self, asked: EnergyForecast) -> EnergyForecast:
        row = self._book.forecast(asked.meter, asked.start_ns, asked.end_ns)
        if row is None:
            raise UnknownFact(
                f"the oracle has no forecast of meter {asked.meter} for [{asked.start_ns}, {asked.end_ns}) ns"
            )
        return EnergyForecast(
            meter=asked.meter, start_ns=asked.start_ns, end_ns=asked.end_ns, energy_wh_max=row.energy_wh_max
        )

    def _tariff(self, asked: TariffNotice) -> TariffNotice:
        """By its hash, or the one in force at `valid_from_ns` that was published last."""
        tariffs = self._book.tariffs
        row = tariffs.get(asked.tariff)
        if not asked.tariff:
            at_ns = asked.valid_from_ns
            valid = [one for one in tariffs.values() if one.valid_from_ns <= at_ns < one.valid_until_ns]
            row = max(valid, key=lambda one: one.published_at_ns, default=None)
        if row is None:
            what = asked.tariff.hex()[:64] or f"that is in force at {asked.valid_from_ns} ns"
            raise UnknownFact(f"the oracle has published no tariff {what}")
        return TariffNotice(tariff=row.tariff, valid_from_ns=row.valid_from_ns, valid_until_ns=row.valid_until_ns)


def _shown_attestation(request: SignRequest) -> bytes:
    """The payload of the one command that the tear-off shows. Raises OracleError."""
    if len(request.transaction_id) != DIGEST_BYTES:
        raise OracleError(f"a transaction id is {DIGEST_BYTES} bytes, not {len(request.transaction_id)}")
    try:
        shown = native.verify_tear_off(request.tear_off, request.transaction_id).groups
        if set(shown) != {Group.COMMANDS} or len(shown[Group.COMMANDS][1]) != 1:
            raise OracleError("the tear-off shows something else than one command, which the oracle must not see")
        (component,) = shown[Group.COMMANDS][1].values()
        contract, type_name, schema_version, payload = native.decode_command(component)
    except native.NativeError as error:
        raise OracleError(f"the tear-off does not prove what it shows: {error}") from error
    if (contract, type_name, schema_version) != (CONTRACT, "Attestation", 1):
        raise OracleError(f"the tear-off shows the command {contract} {type_name}, not an attestation")
    return payload


def _decode(payload: bytes) -> Attestation:
    try:
        return parse_strict(Attestation, payload)
    except MalformedTransaction as error:
        raise OracleError(str(error)) from error
