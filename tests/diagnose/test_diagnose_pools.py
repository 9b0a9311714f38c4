"""Pools of ports: which sockets belong to one, what holds its ports, and what it has room for."""

import numpy as np
from diagnose_cases import judged, listening, waiting

from twlab.diagnose.columns import peer_key
from twlab.diagnose.snapshot import packed, words


def causes(part, weight=None):
    return {finding.cause for finding in part.findings if weight in (None, finding.weight)}


def pool_to(part, destination):
    return next(pool for pool in part.measured.pools if pool.destination == destination)


def test_every_pair_of_addresses_has_a_key_of_its_own():
    """254 source addresses and 254 destinations, whose addresses lie near each other."""
    for source, destination in (("10.0.0.{}", "10.0.1.{}"), ("10.0.0.{}", "10.0.0.{}"), ("fd00::{}", "fd00::1:{}")):
        local, remote = (
            words(b"".join(packed(form.format(i)) for i in range(1, 255))) for form in (source, destination)
        )
        of_local = peer_key(local, np.zeros(254, np.uint16))
        of_remote = peer_key(remote, np.full(254, 80, np.uint16))
        assert len(np.unique(of_local[:, None] ^ of_remote[None, :])) == 254 * 254


def test_two_pairs_are_two_pools():
    """14,000 ports each: neither is full."""
    pairs = (("10.0.0.117", "10.0.1.112", 0), ("10.0.0.243", "10.0.1.238", 1))
    lines = [text for at, to, odd in pairs for text in waiting(at, to, 80, range(32768 + odd, 60768, 2), 233)]
    part = judged([*listening(22), *lines])
    assert sorted(pool.used for pool in part.measured.pools) == [14_000] * 2
    assert causes(part, "fault") == set()
