"""Checks what this machine can do, each lack with its remedy.

- `checks`: the list, outside.
- `probes`: what is tried inside a sandbox.
"""
