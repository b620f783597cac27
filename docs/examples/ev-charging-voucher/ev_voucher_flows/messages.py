"""The arguments of the flows as protobuf messages, declared here so that the package needs no protoc.

`p2pet-cli` imports this module by its entry point (group p2pet.messages) and then knows how to read KEY=VALUE.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "ev_voucher.v1"
_Field = descriptor_pb2.FieldDescriptorProto


def _message(name: str, *fields: tuple[str, int]) -> descriptor_pb2.DescriptorProto:
    numbered = enumerate(fields, start=1)
    return descriptor_pb2.DescriptorProto(
        name=name,
        field=[
            _Field(name=field, number=number, type=kind, label=_Field.LABEL_OPTIONAL)
            for number, (field, kind) in numbered
        ],
    )


_FILE = descriptor_pb2.FileDescriptorProto(
    name="ev_voucher/v1/arguments.proto",
    package=PACKAGE,
    syntax="proto3",
    message_type=[
        _message(
            "IssueArguments",
            ("holder", _Field.TYPE_BYTES),
            ("energy_wh", _Field.TYPE_INT64),
            ("valid_until_ns", _Field.TYPE_INT64),
        ),
        # `state` is the reference of the voucher: 36 bytes.
        _message("RedeemArguments", ("state", _Field.TYPE_BYTES), ("charged_wh", _Field.TYPE_INT64)),
    ],
)
_POOL = descriptor_pool.Default()
_POOL.Add(_FILE)


def _class(name: str) -> type:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


IssueArguments = _class("IssueArguments")
RedeemArguments = _class("RedeemArguments")
