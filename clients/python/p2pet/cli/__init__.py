"""The command line of a node; docs/cli.md describes it."""

import os

# Before grpc is imported: its own log lines would stand beside our one sentence.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
