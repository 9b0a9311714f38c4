"""The commands of the command line, one group in each module.

`twlab.cli` gives them their names.
"""
