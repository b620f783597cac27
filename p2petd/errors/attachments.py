"""Errors of attachments."""

from p2petd.errors.base import Category, NodeError


class AttachmentTooLarge(NodeError):
    code = "attachment.too_large"
    category = Category.INVALID
    meaning = "An attachment is larger than the network permits, or than contracts may read."
    fix = "Split it; the network parameters' attachment_bytes_max is the limit."


class AttachmentNotFound(NodeError):
    code = "attachment.not_found"
    category = Category.NOT_FOUND
    meaning = "The node that was asked holds no attachment with this hash."
    fix = "Upload it, or fetch it from a node that holds it."


class AttachmentHashDiffers(NodeError):
    code = "attachment.hash_differs"
    category = Category.DATA_LOSS
    meaning = "A peer sent other content than the hash names. Nothing of it was kept."
    fix = "Fetch it from another node, and tell the operator of that one."


class AttachmentDamaged(NodeError):
    code = "attachment.damaged"
    category = Category.DATA_LOSS
    meaning = "A file of the attachments' directory does not have the hash that is its name. It is not used."
    fix = "Upload or fetch the attachment again, which replaces the file; check the disk."


class AttachmentDiskFull(NodeError):
    code = "attachment.disk_full"
    category = Category.EXHAUSTED
    meaning = "The disk, the limit of this node for all attachments, or a peer's daily share of it, is exhausted."
    fix = "Make room on the disk or raise [attachments] directory_bytes_max; nothing half is left."


class AttachmentUnavailable(NodeError):
    code = "attachment.unavailable"
    category = Category.UNAVAILABLE
    meaning = "The node that should give an attachment does not answer, answers too slowly, or not as it must."
    fix = "Try again when it is connected, or fetch the attachment from another node."


class AttachmentBusy(NodeError):
    code = "attachment.busy"
    category = Category.EXHAUSTED
    meaning = "The peer asks for more parts of attachments at once than a node serves."
    fix = "The node asks again by itself."
