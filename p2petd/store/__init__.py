"""The durable side of a node: one log record for each batch, and the rows that it changes."""
