"""The interactive shell on a live topology.

- `repl`: Mininet's command line with the lab's verbs.
- `verbs`, `phrases`, `prompt`: the verbs, how they are written, how they are read.
- `agent`: the shell's session inside an engine.
"""
