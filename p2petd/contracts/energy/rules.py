"""The rules of the energy contract, a sentence each."""

from p2petd.contracts.rules import Rule


class EnergyRule(Rule):
    # Every state and command (C07, C08)
    STATE_TYPE_UNKNOWN = (
        "energy.state.type_unknown",
        "A state of the energy contract is an EnergyState, EnergyDelivery or EnergyAllocation.",
    )
    QUANTITY_NOT_POSITIVE = ("energy.state.quantity_not_positive", "Every state holds more than 0 Wh.")
    STATE_CLOSED = (
        "energy.state.closed",
        "Energy that was delivered is taken by Retire alone and made by Deliver alone; an EnergyAllocation is made by "
        "Allocate alone, and taken by nothing.",
    )
    KEY_INVALID = ("energy.state.key_invalid", "The owner of an output is a 32-byte key.")
    COMMAND_MISSING = ("energy.command.missing", "Energy states move only under a command of the energy contract.")
    COMMAND_UNKNOWN = (
        "energy.command.unknown",
        "An energy command is Issue, Transfer, Trade, Split, Merge, Deliver, Allocate, Retire or Expire.",
    )
    COMMAND_CONFLICTING = (
        "energy.command.conflicting",
        "A transaction has one energy command; only Issue may be repeated.",
    )
    # Transfer (C04, C05)
    TRANSFER_QUANTITY = ("energy.transfer.quantity_not_positive", "A transfer moves more than 0 Wh.")
    TRANSFER_SAME_OWNER = ("energy.transfer.same_owner", "The new owner is not the old owner.")
    TRANSFER_INPUT = ("energy.transfer.input_of_another_owner", "Every energy input belongs to the old owner.")
    TRANSFER_OUTPUT = (
        "energy.transfer.output_to_another_owner",
        "Every energy output belongs to the new owner or, as change, to the old one.",
    )
    TRANSFER_CHANGED = (
        "energy.transfer.fields_changed",
        "Energy type, period, issuer, meter, zone, lot id and asked price never change.",
    )
    TRANSFER_NOT_CONSERVED = (
        "energy.transfer.quantity_not_conserved",
        "A transfer conserves the quantity of each lot.",
    )
    TRANSFER_NOT_AS_STATED = (
        "energy.transfer.quantity_not_as_stated",
        "The new owner gets exactly the quantity that the command states.",
    )
    TRANSFER_OLD_UNSIGNED = ("energy.transfer.old_owner_must_sign", "The old owner signs a transfer.")
    TRANSFER_NEW_UNSIGNED = ("energy.transfer.new_owner_must_sign", "The new owner signs a transfer.")
    # Split and Merge (C06, C15)
    SPLIT_COUNT = ("energy.split.counts", "A split makes one state into two or more.")
    SPLIT_OWNER = ("energy.split.owner_changed", "The parts of a split keep the owner.")
    SPLIT_CHANGED = ("energy.split.fields_changed", "The parts of a split keep the lot and all its fields.")
    SPLIT_NOT_CONSERVED = ("energy.split.quantity_not_conserved", "A split conserves the quantity.")
    SPLIT_UNSIGNED = ("energy.split.owner_must_sign", "The owner signs a split.")
    MERGE_COUNT = ("energy.merge.counts", "A merge makes two or more states into one.")
    MERGE_OWNER = ("energy.merge.owner_changed", "The owner of a merged state owned all of its parts.")
    MERGE_LOTS = (
        "energy.merge.lots_differ",
        "Only states of one lot, and so of one issuer, merge, and the lot keeps all its fields.",
    )
    MERGE_NOT_CONSERVED = ("energy.merge.quantity_not_conserved", "A merge conserves the quantity.")
    MERGE_UNSIGNED = ("energy.merge.owner_must_sign", "The owner signs a merge.")
