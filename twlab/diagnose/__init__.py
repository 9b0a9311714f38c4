"""Diagnoses which ports a machine holds, what holds them, and until when.

The machine is this one, or another one of which there is text.

Data flows one way. `live` or `texts` read a `Snapshot`. `pools`, `rate` and `bind_first` measure
it. `causes` and `machine_causes` find the causes, and `advice` asks the planner. `diagnosis` puts
these together; `screen`, `watch` and `prometheus` show them. Nothing here changes the machine's
settings or sockets.
"""
