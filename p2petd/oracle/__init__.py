"""The oracle: what it is told, what it vouches for, and its own log of both."""
