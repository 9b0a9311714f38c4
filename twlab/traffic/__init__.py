"""Clients, servers and loads on a lab's nodes.

- `applications`, `connection`: servers and clients, one connection at a time.
- `load`, `load_client`, `load_server`: an open-loop load of new connections.
- `connection_pairs`: blocking socket pairs by the thousand.
- `options`: socket options.
- `http`: web clients and origins for proxies.
- `program`: a real program as a process on a node.
"""
