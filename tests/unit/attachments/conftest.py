"""A store in a new directory, of a network that permits attachments of so many bytes."""

from pathlib import Path

import pytest

from p2petd.attachments.store import AttachmentStore

ATTACHMENT_BYTES_MAX = 2 * 1024 * 1024
DIRECTORY_BYTES_MAX = 8 * 1024 * 1024


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "attachments"


@pytest.fixture
def store(directory: Path) -> AttachmentStore:
    return AttachmentStore(directory, DIRECTORY_BYTES_MAX, lambda: ATTACHMENT_BYTES_MAX)
