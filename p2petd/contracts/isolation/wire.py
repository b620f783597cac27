"""A resolved transaction as bytes for the process that runs a foreign contract, and back."""

import struct
from collections.abc import Callable
from typing import IO

from p2pet.ledger.v1.transaction_pb2 import ComponentGroup
from p2pet.network.v1 import network_pb2
from p2pet.node.v1.isolation_pb2 import IsolatedTransaction

from p2petd.ledger.parameters import ContractParameters
from p2petd.ledger.resolved import AttachmentReader, LedgerTransaction

MESSAGE_BYTES_MAX = 8 * 1024 * 1024
_LENGTH = struct.Struct(">I")


def framed(data: bytes) -> bytes:
    """u32 length ‖ message."""
    return _LENGTH.pack(len(data)) + data


def write_message(stream: IO[bytes], data: bytes) -> None:
    """The message as `framed`."""
    stream.write(framed(data))
    stream.flush()


def read_message(read: Callable[[int], bytes]) -> bytes:
    """The next message. Raises EOFError at the end, and for one that is longer than MESSAGE_BYTES_MAX."""
    header = read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        raise EOFError("the other side has ended")
    (length,) = _LENGTH.unpack(header)
    data = read(length) if length <= MESSAGE_BYTES_MAX else b""
    if len(data) != length:
        raise EOFError("the other side ended within a message")
    return data


def encode_transaction(transaction: LedgerTransaction) -> IsolatedTransaction:
    """The groups that contracts read, and the states that inputs and references name."""
    return IsolatedTransaction(
        id=transaction.id,
        groups=[ComponentGroup(components=group) for group in transaction.groups],
        input_outputs=[state.raw for _, state in transaction.inputs],
        reference_outputs=[state.raw for _, state in transaction.references],
        parameters=encode_parameters(transaction.parameters),
    )


def decode_transaction(message: IsolatedTransaction, reader: AttachmentReader) -> LedgerTransaction:
    return LedgerTransaction.from_parts(
        message.id,
        [list(group.components) for group in message.groups],
        list(message.input_outputs),
        list(message.reference_outputs),
        ContractParameters.from_message(message.parameters),
        reader,
    )


def encode_parameters(parameters: ContractParameters) -> network_pb2.NetworkParameters:
    """Only the fields that `ContractParameters.from_message` reads."""
    return network_pb2.NetworkParameters(
        notaries=[network_pb2.NotaryEntry(service_key=key) for key in parameters.notaries],
        contracts=[
            network_pb2.ContractEntry(name=name, version=version, code_hash=code_hash)
            for (name, version), code_hash in parameters.contracts.items()
        ],
        energy_types=sorted(parameters.energy_types),
        market_time_unit_ns=parameters.market_time_unit_ns,
        negative_prices=parameters.negative_prices,
        currencies=[
            network_pb2.CurrencyEntry(code=code, issuer=issuer)
            for code, issuers in parameters.currencies.items()
            for issuer in sorted(issuers)
        ],
        oracles=[network_pb2.OracleEntry(key=key, facts=sorted(facts)) for key, facts in parameters.oracles.items()],
        registrars=sorted(parameters.registrars),
        markets=[
            network_pb2.MarketEntry(key=key, settlement_notary=notary) for key, notary in parameters.markets.items()
        ],
        trade_deadline_ns=parameters.trade_deadline_ns,
        reading_deadline_ns=parameters.reading_deadline_ns,
        issue_attested=parameters.issue_attested,
        self_trades=parameters.self_trades,
    )
