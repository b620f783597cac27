"""Contracts: pure functions of one resolved transaction. The rules are listed in docs/contracts.md."""
