"""Durable flows: the engine that runs them, and one file for each business flow."""
