"""The states that this party owns: recording, reservation, selection, and what clients may ask of them."""
