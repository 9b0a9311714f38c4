"""The files of a run: writes and reads them.

- `result`: ``result.json``: verdicts, arms, evidence, versions.
- `transcript`: the numbered steps and facts of an arm; `connect_facts`: its connect() calls.
- `pcapng`: the capture; `packet_comments`: what the lab did to each packet.
- `files`: writes files whole or not at all; `filetypes`: tells what a wrong file is.
"""
