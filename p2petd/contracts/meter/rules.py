"""The rules of the meter contract, a sentence each."""

from p2petd.contracts.rules import Rule


class MeterRule(Rule):
    STATE_TYPE_UNKNOWN = ("meter.state.type_unknown", "A state of the meter contract is a MeterRegistration.")
    COMMAND_COUNT = ("meter.command.count", "A transaction with meter registrations has one command of this contract.")
    COMMAND_UNKNOWN = ("meter.command.unknown", "A meter command is Register, Extend, Reassign or End.")
    # Every registration that is created (C03)
    NAME_INVALID = ("meter.state.name_invalid", "The meter's name has 1 to 255 bytes.")
    KEYS_INVALID = ("meter.state.keys_invalid", "Producer and registrar are 32-byte keys.")
    CAPACITY = ("meter.state.capacity_not_positive", "The capacity of a meter is above 0 W.")
    TYPES = (
        "meter.state.types_invalid",
        "A registration permits one energy type or more, ascending and distinct, each permitted by the network.",
    )
    PERIOD = ("meter.state.period_empty", "A registration is valid until a later time than it is valid from.")
    PERIOD_UNALIGNED = (
        "meter.state.period_not_aligned",
        "The validity of a registration starts and ends on the market time unit.",
    )
    NOTARY_UNLISTED = ("meter.state.notary_not_listed", "The network parameters list the notary that takes the issues.")
    # Who signs
    REGISTRAR_UNLISTED = (
        "meter.registrar.not_listed",
        "The network parameters list the registrar of a registration that is created.",
    )
    REGISTRAR_UNSIGNED = (
        "meter.registrar.must_sign",
        "The registrar signs; one that the network parameters do not list any more is replaced by one that they list.",
    )
    REGISTRAR_CHANGED = (
        "meter.registrar.changed",
        "A registration keeps its registrar while the network parameters list it.",
    )
    # Register (C02)
    REGISTER_COUNTS = ("meter.register.counts", "Register consumes no registration and creates one.")
    REGISTER_NOTARY = (
        "meter.register.other_notary",
        "A meter is registered at the first notary that the network parameters list, because claims are unique at one "
        "only.",
    )
    REGISTER_FOLLOWED = ("meter.register.followed", "Nothing follows a registration that is new.")
    REGISTER_UNSIGNED = ("meter.register.producer_must_sign", "The producer signs the registration of its meter.")
    # Extend
    EXTEND_COUNTS = ("meter.extend.counts", "Extend makes one registration into one.")
    EXTEND_CHANGED = ("meter.extend.fields_changed", "Extend changes nothing but the end of the validity.")
    EXTEND_EARLIER = ("meter.extend.not_later", "Extend moves the end of the validity to a later time.")
    EXTEND_FOLLOWED = (
        "meter.extend.followed",
        "A registration that another one follows is not extended, because the two would overlap.",
    )
    # Reassign (C02)
    REASSIGN_COUNTS = ("meter.reassign.counts", "Reassign makes one registration into two, the earlier one first.")
    REASSIGN_CHANGED = (
        "meter.reassign.fields_changed",
        "Reassign changes nothing but the validity, and the notary of the later registration.",
    )
    REASSIGN_PERIOD = (
        "meter.reassign.period_wrong",
        "The later registration starts where the earlier one ends, within the validity of what is cut or at its end, "
        "and does not end before it.",
    )
    REASSIGN_FOLLOWED = (
        "meter.reassign.followed",
        "The earlier registration is followed. The later one is so if what is cut is, and ends with it then.",
    )
    REASSIGN_TOO_LONG = ("meter.reassign.too_long", "Reassign takes at most 4096 market time units from a notary.")
    REASSIGN_NOTARY = (
        "meter.reassign.other_notary",
        "A registration is cut at the notary that takes its issues, because the units that leave it are claimed there.",
    )
    REASSIGN_UNSIGNED = ("meter.reassign.producer_must_sign", "The producer signs that its meter is reassigned.")
    # End
    END_COUNTS = ("meter.end.counts", "End consumes one registration and creates none.")
    # Notary change
    MOVE = ("meter.move.other_notary", "A registration moves to no other notary than the one that takes its issues.")
