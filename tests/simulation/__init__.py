"""A whole network in one thread, under a clock and a network of its own, all of whose chances come from one seed."""
