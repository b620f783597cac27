from collections.abc import Callable
from typing import NamedTuple

import pytest
from p2pet.cli.main import main


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


def run_cli(capsys: pytest.CaptureFixture[str], *words: str) -> Ended:
    """Runs the command; its exit code and what it printed."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(words)
    printed = capsys.readouterr()
    return Ended(int(caught.value.code or 0), printed.out, printed.err)
