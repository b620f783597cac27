"""The demo is no installed package: its tests find it where scripts/demo finds it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))
