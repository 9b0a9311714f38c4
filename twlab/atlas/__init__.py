"""The atlas: what installed programs do about ports and TIME_WAIT.

- `subject`: what has to be known of a program; `programs`: one file for each.
- `origin`, `visitor`: the two ends between which a proxy runs; a client of the atlas has the origin
  only.
- `station`: a program that runs in a lab. `columns`: what is measured on it.
- `trace`, `endings`: what its system calls and its segments say.
- `agent`, `driver`: one boot for each program. `table`: the results, in words.
"""
