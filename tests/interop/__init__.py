"""An implementation of docs/protocol.md that shares no code with the node."""
