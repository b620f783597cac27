"""The demo: a network of real nodes on this machine trades one summer day of real homes."""
