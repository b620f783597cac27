"""The daemon: `p2petd --config node.toml`."""

import argparse
import asyncio
import gc
import logging
import os
import sys
from pathlib import Path

from p2petd.config import check_config, load_config, render_defaults
from p2petd.errors import NodeError
from p2petd.node import run_node
from p2petd.observe import failpoints
from p2petd.observe.log import configure
from p2petd.offline.commands import add_commands, run_backup, run_restore
from p2petd.offline.verify_command import add_verify, run_verify

EXIT_REFUSED = 1

# Flows leave next to no cycles: with the defaults the collector walks all running flows again and again in vain.
GC_THRESHOLDS = (50_000, 50, 100)

# Between two switches a thread may hold the interpreter for so long; the default of 5 ms would be felt in each flow.
SWITCH_INTERVAL_SECONDS = 0.002


def main() -> int:
    arguments = _parser().parse_args()
    try:
        if arguments.command == "config":
            return _config(arguments)
        if arguments.command == "backup":
            return run_backup(arguments)
        if arguments.command == "restore":
            return run_restore(arguments)
        if arguments.command == "verify":
            return run_verify(arguments)
        if arguments.config is None:
            _parser().error("--config node.toml is required")
        return _run(arguments.config)
    except NodeError as error:
        print(f"p2petd: {error.message} [{error.code}]", file=sys.stderr)
        return EXIT_REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="p2petd", description="A peer-to-peer energy trading node.")
    parser.add_argument("--config", type=Path, metavar="node.toml", help="run the node that this file describes")
    commands = parser.add_subparsers(dest="command")
    config = commands.add_parser("config", help="look at the configuration")
    actions = config.add_subparsers(dest="action", required=True)
    show = actions.add_parser("show", help="print all keys with their meaning")
    show.add_argument("--defaults", action="store_true", required=True)
    check = actions.add_parser("check", help="check a file and say what is wrong")
    check.add_argument("file", type=Path)
    add_commands(commands)
    add_verify(commands)
    return parser


def _config(arguments: argparse.Namespace) -> int:
    if arguments.action == "show":
        print(render_defaults())
    else:
        check_config(arguments.file)
        print(f"{arguments.file}: ok")
    return 0


def _run(path: Path) -> int:
    config = load_config(path)
    failpoints.arm_from_environment()
    configure(config.log.level, config.node.name)
    # Logs and views hold secrets, and what others need not know, also where the directory is open to others.
    os.umask(0o077)
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)

    def ready() -> None:
        log = logging.getLogger("p2petd")
        log.info("ready peer=%s client=%s", config.peer.listen, config.client.listen)

    asyncio.run(run_node(config, ready))
    return 0


if __name__ == "__main__":
    sys.exit(main())
