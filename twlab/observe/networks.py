"""Finds connections that virtual networks have split.

A router leads a connection from one VLAN to another, or each direction has its own.
"""

from __future__ import annotations

import numpy as np

from twlab.observe.incarnations import Incarnations, Sorted
from twlab.observe.packets import Array, mixed


def split_tuples(rows: Sorted, made: Incarnations) -> Array:
    """Return hashes of the four-tuples that several networks seem to have split.

    Two networks have it with an equal initial sequence number, or each has one direction of it.
    """
    at = made.start
    shift = np.uint64(16)
    ends = [
        address[at].astype(np.uint64) << shift | port[at]
        for address, port in ((rows.src, rows.sport), (rows.dst, rows.dport))
    ]
    four = mixed(mixed(np.minimum(*ends)) + np.maximum(*ends))
    order = np.lexsort((rows.t[at], four))
    one, other = order[:-1], order[1:]
    pair = (four[one] == four[other]) & (rows.key[at[one]] != rows.key[at[other]])
    one, other = one[pair], other[pair]
    equal = ((made.isn[one] == made.isn[other]) & (made.isn[one] >= 0)).any(1)
    missing = made.seen == 0
    halves = missing[one].any(1) & missing[other].any(1) & (missing[one, 0] != missing[other, 0])
    return np.unique(four[one[equal | halves]])
