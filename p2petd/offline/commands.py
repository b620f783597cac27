"""The commands `p2petd backup` and `p2petd restore`: their arguments, and what they say."""

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from p2petd.config import load_config
from p2petd.errors import ConfigError
from p2petd.offline.backup import Made, make_backup
from p2petd.offline.check import check_backup
from p2petd.offline.manifest import Manifest, in_words
from p2petd.offline.restore import Restored, accept_losses, restore_backup

MIB = 1 << 20
UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    backup = commands.add_parser("backup", help="copy a node's data to a new directory, while it runs or is stopped")
    # What stands before the command counts too.
    backup.add_argument("--config", type=Path, metavar="node.toml", default=argparse.SUPPRESS)
    backup.add_argument("--with-keys", action="store_true", help="copy the configuration and its keys, too")
    backup.add_argument("--check", action="store_true", help="instead say whether the directory is a whole backup")
    backup.add_argument("--json", action="store_true", help="print JSON")
    backup.add_argument("directory", type=Path, help="new or empty; with --check a backup")
    restore = commands.add_parser("restore", help="put a backup in the place of a stopped node's data directory")
    restore.add_argument("--config", type=Path, metavar="node.toml", default=argparse.SUPPRESS)
    restore.add_argument("--replace", action="store_true", help="move what the data directory holds aside, and keep it")
    restore.add_argument(
        "--accept-loss",
        action="store_true",
        help="a notary or oracle signs again: there is no newer data, or what is not in it may be lost; also without a "
        "backup, for the data that is there",
    )
    restore.add_argument("--json", action="store_true", help="print JSON")
    restore.add_argument("backup", type=Path, nargs="?", help="a directory that `p2petd backup` has made")


def run_backup(arguments: argparse.Namespace) -> int:
    """Raises BackupRefused, CertificateError, ConfigError."""
    os.umask(0o077)
    if arguments.check:
        manifest = check_backup(arguments.directory)
        _print(arguments, asdict(manifest), f"{arguments.directory} is a whole backup.\n{_describe(manifest)}")
        return 0
    config = load_config(_config_file(arguments))
    file = _config_file(arguments)
    keys_of = file / "node.toml" if file.is_dir() else file
    made = make_backup(config, arguments.directory, _tell(arguments), keys_of if arguments.with_keys else None)
    summary = asdict(made.manifest) | {"directory": str(made.directory), "left_out": made.left_out}
    _print(arguments, summary | {"seconds": round(made.seconds, 3)}, _of_backup(made))
    return 0


def run_restore(arguments: argparse.Namespace) -> int:
    """Raises BackupRefused, CertificateError, ConfigError."""
    os.umask(0o077)
    config = load_config(_config_file(arguments))
    if arguments.backup is None:
        if not arguments.accept_loss:
            raise ConfigError("name the backup to restore: p2petd restore --config node.toml BACKUP")
        accepted = accept_losses(config)
        names = " and ".join(accepted)
        said = f"From its next start on the {names} signs again." if names else "Nothing was held; nothing is changed."
        _print(arguments, {"accepted": accepted}, said)
        return 0
    restored = restore_backup(
        config,
        arguments.backup,
        _tell(arguments),
        replace=arguments.replace,
        loss_accepted=arguments.accept_loss,
    )
    summary = asdict(restored.manifest) | {
        "directory": str(restored.directory),
        "age_seconds": restored.age_seconds,
        "replaced": None if restored.replaced is None else str(restored.replaced),
        "held": restored.held,
    }
    _print(arguments, summary, _of_restore(restored))
    return 0


def _config_file(arguments: argparse.Namespace) -> Path:
    if arguments.config is None:
        raise ConfigError("name the node: --config node.toml")
    return Path(arguments.config)


def _tell(arguments: argparse.Namespace) -> Any:
    """Progress, beside what is printed at the end."""
    return (lambda _: None) if arguments.json else (lambda text: print(text, file=sys.stderr))


def _print(arguments: argparse.Namespace, summary: dict[str, Any], text: str) -> None:
    print(json.dumps(summary, indent=1) if arguments.json else text)


def _describe(manifest: Manifest) -> str:
    lines = [
        f"  node      {manifest.node}",
        f"  made      {in_words(manifest.began_ns)}, by p2petd {manifest.p2petd}",
        f"  size      {manifest.size / MIB:.1f} MiB in {len(manifest.files)} files",
    ]
    for name, log in manifest.stores.items():
        snapshots = f", {len(log.snapshots)} snapshots" if log.snapshots else ""
        empty = log.last_sequence < log.first_sequence
        records = "no records" if empty else f"records {log.first_sequence} to {log.last_sequence}"
        lines.append(f"  {name:<10}{records}{snapshots}")
    return "\n".join(lines)


def _of_backup(made: Made) -> str:
    rate = made.manifest.size / MIB / max(made.seconds, 1e-3)
    lines = [f"{made.directory} is a whole backup, made in {made.seconds:.1f} s ({rate:.0f} MiB/s).", ""]
    lines += [_describe(made.manifest), ""]
    lines += [f"Left out: attachment {name}, whose content is damaged." for name in made.left_out]
    if made.manifest.with_keys:
        lines.append("It holds the node's keys and tokens: who has it can sign for it. Keep it as you keep those.")
    else:
        lines.append("It holds no keys and no configuration: keep those apart from it (--with-keys puts them in).")
    lines.append("Move it to another machine, and check it there: p2petd backup --check DIRECTORY")
    return "\n".join(lines)


def _of_restore(restored: Restored) -> str:
    age = _in_words(restored.age_seconds)
    lines = [f"{restored.directory} is the backup of {in_words(restored.manifest.began_ns)}, {age} old.", ""]
    lines += [_describe(restored.manifest), ""]
    if restored.replaced is not None:
        lines.append(f"What was there is kept in {restored.replaced}.")
    if restored.manifest.with_keys:
        lines.append("The keys in the backup were not touched: copy them by hand if this node lacks them.")
    lines += [
        "What the node did after the backup is not in it. As soon as a peer proves that it knows more, the node stops",
        "with store.rolled_back. Then restore a newer backup; if there is none, start with an empty data directory and",
        "fetch from the others what they know: p2pet-cli vault recover.",
    ]
    for name in restored.held:
        lines += [
            f"The {name} signs nothing new until you have decided. If this is the newest copy there is of its log:",
            "  p2petd restore --config node.toml --accept-loss",
            "Else restore that one: what was signed after this backup could be decided a second time, and otherwise.",
        ]
    return "\n".join(lines)


def _in_words(seconds: int) -> str:
    for name, size in UNITS:
        if seconds >= size:
            count = seconds // size
            return f"{count} {name}{'s' if count > 1 else ''}"
    return "less than a second"
