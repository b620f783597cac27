"""Clock and logging, for everything that is not pure."""
