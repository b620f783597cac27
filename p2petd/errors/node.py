"""Errors of a node itself: configuration, keys, network, store, its clients."""

from p2petd.errors.base import Category, NodeError


class ConfigError(NodeError):
    code = "config.invalid"
    # It names every key or file that is wrong, and never crosses a wire.
    message_max = 10_000
    category = Category.INVALID
    meaning = "The configuration file has a key or value that the node does not accept."
    fix = "Correct the named key; `p2petd config show --defaults` prints all keys with their meaning."


class KeyFileError(NodeError):
    code = "identity.key_file"
    category = Category.PRECONDITION
    meaning = "A key or token file is missing, unreadable, malformed, or can be read by other users."
    fix = "Restore the file from a backup, or run chmod 600 on it."


class CertificateError(NodeError):
    code = "identity.certificate"
    category = Category.PRECONDITION
    meaning = "A certificate is missing, expired, of the wrong authority, or does not belong to its key."
    fix = "Install the certificate that the network issued for this node."


class NetworkError(NodeError):
    code = "network.invalid"
    category = Category.PRECONDITION
    meaning = "Signed network parameters or node infos are missing, malformed or not signed by the network."
    fix = "Copy the files of the network directory again from the network's operator."


class ListenError(NodeError):
    code = "node.listen"
    category = Category.UNAVAILABLE
    meaning = "A listener's address is in use or not an address of this host."
    fix = "Stop the other process or choose another port in node.toml."


class DataDirectoryError(NodeError):
    code = "store.directory"
    category = Category.DATA_LOSS
    meaning = "The data directory is in use by another process, damaged, or of another node."
    fix = "See the message; never delete a log segment. Restore a backup if the log is damaged."


class DiskFull(NodeError):
    code = "store.disk_full"
    category = Category.EXHAUSTED
    meaning = "The disk or the map of the view is nearly full; the node serves reads and changes nothing."
    fix = "Free space on the disk of the data directory, or raise [store] map_bytes; the node goes on by itself."


class BackupRefused(NodeError):
    code = "store.backup"
    category = Category.PRECONDITION
    meaning = "A backup cannot be made there, or what should be restored is no whole backup of this node."
    fix = "Follow the message; the data directory was not changed."


class VerifyFailed(NodeError):
    code = "store.verify"
    category = Category.DATA_LOSS
    meaning = "The data directory does not hold what its log, its signatures and its proofs say."
    fix = "Follow the message: a wrong view can be deleted and is rebuilt; restore a backup for anything else."


class RolledBack(NodeError):
    code = "store.rolled_back"
    category = Category.DATA_LOSS
    meaning = "A peer or a request proves what this node has done and its data directory does not know: an older copy."
    fix = "Restore a newer backup; if there is none, see docs/backup.md."


class CopyUnconfirmed(NodeError):
    code = "store.copy_unconfirmed"
    category = Category.UNAVAILABLE
    meaning = "A notary or an oracle runs on a copy of its data directory, which may lack what was signed after it."
    fix = "Its operator restores the newest one, and says with `p2petd restore --accept-loss` that there is none."


class UnknownParty(NodeError):
    code = "network.unknown_party"
    category = Category.NOT_FOUND
    meaning = "A key or name that no node info of the network map has."
    fix = "Check the key against `p2pet-cli node peers`."


class TransactionNotFound(NodeError):
    code = "vault.transaction_not_found"
    category = Category.NOT_FOUND
    meaning = "The vault holds no transaction with this id."
    fix = "List the transactions with `p2pet-cli tx list`."


class PageTokenInvalid(NodeError):
    code = "request.page"
    category = Category.INVALID
    meaning = "A page token or page size is not one that the node gives or accepts."
    fix = "Start again without a token; page sizes are 1 to 1000."


class RequestMalformed(NodeError):
    code = "request.malformed"
    category = Category.INVALID
    meaning = "The bytes of a call are not the message that its method takes."
    fix = "Use a client that was generated from the protos of this version."


class NotPermitted(NodeError):
    code = "client.unauthenticated"
    category = Category.UNAUTHENTICATED
    meaning = "The client presented no token, or a wrong one."
    fix = "Give the token file that node.toml names."


class PermissionMissing(NodeError):
    code = "client.permission"
    category = Category.DENIED
    meaning = "The client's token is of a user who may not call this service."
    fix = "Add the permission to the user's [[client.users]] in node.toml, or use another token."


class UnknownService(NodeError):
    code = "peer.unknown_service"
    category = Category.NOT_FOUND
    meaning = "A peer was asked for a service that it does not offer."
    fix = "Check the roles of that node in the network map."
