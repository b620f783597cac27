"""What an operator does with the data directory of a node beside running it: back it up, restore it, verify it."""
