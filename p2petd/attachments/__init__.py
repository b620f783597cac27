"""Files that transactions cite by their SHA-256: kept, served to peers, fetched from peers."""
