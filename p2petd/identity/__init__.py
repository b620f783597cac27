"""Who a node is: key files, fingerprints, certificates, TLS."""
