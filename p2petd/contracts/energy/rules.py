"""The rules of the energy contract, a sentence each."""

from p2petd.contracts.rules import Rule


class EnergyRule(Rule):
    # Every state and command (C07, C08)
    STATE_TYPE_UNKNOWN = ("energy.state.type_unknown", "A state of the energy contract is an EnergyState.")
    QUANTITY_NOT_POSITIVE = ("energy.state.quantity_not_positive", "Every state holds more than 0 Wh.")
    KEY_INVALID = ("energy.state.key_invalid", "The owner of an output is a 32-byte key.")
    COMMAND_MISSING = ("energy.command.missing", "Energy states move only under a command of the energy contract.")
    COMMAND_UNKNOWN = ("energy.command.unknown", "An energy command is Issue, Transfer, Trade, Split or Merge.")
    COMMAND_CONFLICTING = (
        "energy.command.conflicting",
        "A transaction has one energy command; only Issue may be repeated.",
    )
    # Issue (C01, C02)
    ISSUE_HAS_INPUTS = ("energy.issue.has_inputs", "An issue consumes no energy states.")
    ISSUE_OUTPUTS = ("energy.issue.one_output_per_command", "Each Issue creates exactly one energy state.")
    ISSUE_TYPE = ("energy.issue.type_not_permitted", "The network parameters permit the energy type.")
    ISSUE_ISSUER = ("energy.issue.issuer_invalid", "The issuer is a 32-byte key.")
    ISSUE_METER = ("energy.issue.meter_invalid", "The meter's name has 1 to 255 bytes.")
    ISSUE_PERIOD_EMPTY = ("energy.issue.period_empty", "The delivery period ends after it starts.")
    ISSUE_PERIOD_UNALIGNED = (
        "energy.issue.period_not_aligned",
        "The delivery period starts and ends on the market time unit.",
    )
    ISSUE_PERIOD_TOO_LONG = ("energy.issue.period_too_long", "A lot covers at most 4096 market time units.")
    ISSUE_PRICE = (
        "energy.issue.price_negative",
        "The asked price is not below zero, unless the network permits negative prices.",
    )
    ISSUE_LOT_ID = ("energy.issue.lot_id_wrong", "The lot id is the hash of issuer, meter and delivery period.")
    ISSUE_NOTARY = (
        "energy.issue.other_notary",
        "Energy is issued at the first notary that the network parameters list, because claims are unique at one only.",
    )
    ISSUE_UNSIGNED = ("energy.issue.producer_must_sign", "The producer, which is the issuer, signs an issue.")
    ISSUE_OWNER_UNSIGNED = ("energy.issue.owner_must_sign", "The first owner of a lot signs its issue.")
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
    # Trade (C09, C16)
    TRADE_SELF = ("energy.trade.buyer_is_seller", "The buyer is not the seller.")
    TRADE_QUANTITY = ("energy.trade.quantity_not_positive", "A trade moves more than 0 Wh.")
    TRADE_PRICE = (
        "energy.trade.price_negative",
        "The price is not below zero, unless the network permits negative prices.",
    )
    TRADE_AMOUNT = ("energy.trade.amount_wrong", "The amount is quantity × price, exactly.")
    TRADE_SELLER_UNSIGNED = ("energy.trade.seller_must_sign", "The seller signs a trade.")
    TRADE_BUYER_UNSIGNED = ("energy.trade.buyer_must_sign", "The buyer signs a trade.")
    TRADE_INPUT = ("energy.trade.input_of_another_owner", "Every energy input belongs to the seller.")
    TRADE_OUTPUT = (
        "energy.trade.output_to_another_owner",
        "Every energy output belongs to the buyer or, as change, to the seller.",
    )
    TRADE_CHANGED = (
        "energy.trade.fields_changed",
        "Energy type, period, issuer, meter, zone, lot id and asked price never change.",
    )
    TRADE_NOT_CONSERVED = ("energy.trade.quantity_not_conserved", "A trade conserves the quantity of each lot.")
    TRADE_ENERGY_LEG = (
        "energy.trade.energy_leg_wrong",
        "The buyer gets exactly the quantity that the command states.",
    )
    TRADE_PAYMENT_OWNER = (
        "energy.trade.payment_of_another_owner",
        "Every payment input and output belongs to the buyer or the seller.",
    )
    TRADE_OTHER_MONEY = (
        "energy.trade.other_money",
        "Every payment state is of the currency and the issuer that the command states.",
    )
    TRADE_PAYMENT_LEG = (
        "energy.trade.payment_leg_wrong",
        "Exactly the stated amount goes from buyer to seller, at a negative price from seller to buyer.",
    )
    TRADE_PAYMENT_AT_ZERO = ("energy.trade.payment_at_price_zero", "At price 0 there is no payment leg.")
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
