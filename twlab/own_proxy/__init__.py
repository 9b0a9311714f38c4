"""A user's own proxy configuration, run unchanged in a lab.

- `reading`: what a configuration asks of its surroundings, whichever program it is for.
- `haproxy`, `nginx`, `squid`, `envoy`, `caddy`: a tolerant reader for each, and the changes it
  proposes (`haproxy_sections`, `haproxy_changes`: parts of the first).
- `readers`: finds out which program a file is for.
- `order`: what the user asks, and what will be run; `asked`: the request for the agent.
- `outcome`: runs it on an engine; the result's files.
- `agent`: carries out the request inside an engine: `trial` builds one lab and runs one load,
  with `surroundings` (files, users, names), `network` (addresses) and `origins`.
- `ceiling`: the highest rate that a configuration sustains.
"""
