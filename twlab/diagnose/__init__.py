"""Diagnoses which ports a machine holds, by what, and until when.

Of a live machine, or of text from another.

Data flows one way: `live` or `texts` read a `Snapshot`; `pools`, `rate` and `bind_first` measure
it; `findings` names the causes; `advice` asks the planner; `report`, `screen`, `watch` and
`prometheus` show the result. Nothing here writes to the machine.
"""
