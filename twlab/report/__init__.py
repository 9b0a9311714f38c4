"""Shows what a run has found, from its folder alone.

It needs no root, no kernel and no network.
"""
