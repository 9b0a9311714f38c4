"""The interactive shell on a live topology.

- `repl`: Mininet's command line with the lab's verbs.
- `verbs`, `connection_verbs`, `wire_verbs`: the verbs, by subject; `verb_base`: what they share.
- `phrases`, `prompt`: how a verb's arguments are parsed, how a line is read from the terminal.
- `crossing`, `endless`: refuse rules that never match, and commands that never end.
- `ends`: the ends of the session's connections, by name.
- `agent`: the shell's session inside an engine.
"""
