"""Figures of a test for whoever runs it, shown also when the test passes."""

import pytest


def tell(config: pytest.Config, words: str) -> None:
    """A line on the terminal, at once, whatever pytest captures."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n{words}", flush=True)
