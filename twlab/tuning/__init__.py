"""Settings: how they are applied to nodes, and what replaces a missing sysctl.

- `baseline`: the sysctls that every arm starts from, with a reason each.
- `apply`: checks settings and applies them.
- `time_wait_reaper`: ends TIME_WAIT sockets early on an unpatched kernel.
- `recycle_rule`, `recycle_emulation`: tcp_tw_recycle on kernels that no longer have it.
- `timestamp_shift`: another timestamp clock for a node.
"""
