"""A permissioned peer-to-peer energy trading node."""

import os

# gRPC's core writes its own words to standard error, beside the one sentence that we say.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
