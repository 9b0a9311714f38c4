"""The commands of the command line, a group a module. `twlab.cli` gives them their names."""
