"""Finds late segments of closed connections in captures, and what a TIME_WAIT would have met.

From bytes to findings: `files` opens and decompresses, `pcap` and `pcapng` find the frames, `link`
and `tunnels` find IP and TCP in them, `headers` makes columns (`packets`), `sightings` drops second
sightings, `incarnations` splits four-tuples into connections, `suspects` and `late` classify what
does not fit, `exposure` and `reuse` count, `observer` drives it in bounded memory.
"""
