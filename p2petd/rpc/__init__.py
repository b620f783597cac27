"""The client API: one thin file for each gRPC service."""
