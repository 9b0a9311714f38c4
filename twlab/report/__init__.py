"""Showing what a run has found, from its folder alone: no root, no kernel, no network."""
