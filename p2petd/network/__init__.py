"""The network as this node knows it: parameters, nodes, and how a new one is made."""
