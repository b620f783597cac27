"""The command line of a node; docs/cli.md describes it."""
