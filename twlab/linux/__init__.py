"""Kernel interfaces, one a file. Nothing here knows what an experiment is.

- System calls: `syscalls`, `sysctl`, `bpf`.
- Netlink: `netlink` (messages), `rtnetlink`, `inet_diag`, `conntrack`, `nftables`, `nfqueue`.
- Sockets and counters: `tcp_sockets`, `sockstat`, `counters`, `packet_ring`.
- `processor`: how long processes have waited for one.
- `namespace`: what these need to know of a node.
- `partial_import` loads parts of large libraries without their ``__init__``.
"""
