"""Finds late segments of closed connections in captures.

It also works out what those segments would have met under a shorter TIME_WAIT.

From bytes to findings: `files` opens and decompresses. `pcap` and `pcapng` find the frames, many at
once along the `chain` of records. `link` and `tunnels` find IP and TCP in them. `headers` makes
columns (`packets`). `sightings` drops second sightings. `incarnations` splits four-tuples into
connections. `suspects` picks what does not fit, `late` classifies it, and `exposure` works out the
harm. `observer` drives all of it in bounded memory, and counts.
"""

from twlab.callable_package import make_callable

make_callable(__name__)  # twlab.observe(...), see `twlab.notebook.functions`
