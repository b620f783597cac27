"""Transactions and their parts. Pure: no clock, no I/O, no randomness, no logging."""
