"""The notary role: a queue in front of the uniqueness log, and the contracts that a verifying notary runs."""
