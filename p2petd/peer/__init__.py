"""The streams between nodes: one long-lived connection for each pair, many messages a frame."""
