"""Measures each pool of ports: one (source address, destination, port).

connect() needs a free four-tuple; so each destination has the whole range to itself. Only bind()
before connect() joins the pools of one source address into one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twlab.diagnose import bind_first, rate
from twlab.diagnose.bind_first import Range, own_range
from twlab.diagnose.columns import peer_key
from twlab.diagnose.pool import Measured, Pool, Served
from twlab.diagnose.snapshot import UNKNOWN, Namespace, Sockets, shown
from twlab.linux import inet_diag

_DETAILED = 200  # the fullest pools, which are measured one by one
_LISTENER_GONE = 20  # with this many peers, a local port outside the range was a listener's
_TIME_WAIT, _LISTEN, _ESTABLISHED, _FIN_WAIT2 = map(
    inet_diag.STATES.index, ("TIME_WAIT", "LISTEN", "ESTABLISHED", "FIN_WAIT2")
)


def measure(place: Namespace) -> Measured:
    """Measure the pools of `place`, with rates, forecasts and verdicts."""
    low, high = place.port_range
    usable = np.zeros(65536, np.bool_)
    usable[low : high + 1] = True
    span = Range(low, high, usable & ~place.reserved, place.number("ip_local_port_step_width") or 1, place.range_known)
    sockets = place.sockets
    going = outgoing(sockets, span)
    opened = sockets.where(going)
    pools, others, sources = _pools(opened, place, span)
    served = _served(sockets.where(~going & (sockets.state != _LISTEN)), place)
    made = Measured(pools, served, others, _states(sockets), span)
    _judge(made, sockets, sources, span)
    _spread_timestamps(pools)
    for pool in pools:
        _foresee(pool, pools, place)
    pools.sort(key=lambda pool: (-pool.fill, -pool.used))
    return made


def outgoing(sockets: Sockets, span: Range) -> NDArray[np.bool_]:
    """Flag the connections that this host opened: no listener has their port."""
    listening = np.zeros(65536, np.bool_)
    listening[sockets.local_port[sockets.state == _LISTEN]] = True
    connected = (sockets.state != _LISTEN) & (sockets.remote_port != 0)
    if not listening.any():  # a text without listeners: a port that many peers share is a service's
        per_local = np.bincount(sockets.local_port[connected], minlength=65536)
        per_remote = np.bincount(sockets.remote_port[connected], minlength=65536)
        inside_local, inside_remote = span.usable[sockets.local_port], span.usable[sockets.remote_port]
        service = per_local[sockets.local_port] > per_remote[sockets.remote_port]
        return connected & np.where(inside_local == inside_remote, ~service, inside_local)
    outside = np.bincount(sockets.local_port[connected & span.usable[sockets.remote_port]], minlength=65536)
    outside[span.usable] = 0
    return connected & ~(listening | (outside >= _LISTENER_GONE))[sockets.local_port]


@dataclass(frozen=True)
class _Source:
    """All sockets with one source address.

    Attributes:
        counts: sockets of each port.
        sizes: ports of each destination.
    """

    counts: NDArray[np.int64]
    sizes: NDArray[np.int64]


def _pools(sockets: Sockets, place: Namespace, span: Range) -> tuple[list[Pool], int, dict[str, _Source]]:
    if not len(sockets):
        return [], 0, {}
    key = peer_key(sockets.remote, sockets.remote_port)
    if (sockets.local != sockets.local[0]).any():
        key ^= peer_key(sockets.local, np.zeros(len(sockets), np.uint16))
    order = np.argsort(key)
    ordered = key[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    ends = np.append(starts[1:], len(order))
    fullest = np.argsort(starts - ends, kind="stable")
    pools = [_pool(sockets.where(order[starts[i] : ends[i]]), place, span) for i in fullest[:_DETAILED]]
    return pools, len(fullest) - len(pools), _sources(sockets, order[starts], ends - starts)


def _sources(sockets: Sockets, first: NDArray[np.int64], sizes: NDArray[np.int64]) -> dict[str, _Source]:
    """Return the sockets of each source address.

    Args:
        first: the first socket of each pool.
        sizes: how many sockets each pool has.
    """
    found = {}
    for address in {row.tobytes() for row in sockets.local[first]}:
        words = np.frombuffer(address, np.uint64)
        mine = (sockets.local == words).all(axis=1)
        pools = (sockets.local[first] == words).all(axis=1)
        found[shown(address)] = _Source(np.bincount(sockets.local_port[mine], minlength=65536), sizes[pools])
    return found


def _pool(sockets: Sockets, place: Namespace, span: Range) -> Pool:
    flags = np.zeros(65536, np.bool_)
    flags[sockets.local_port] = True
    waiting = sockets.state == _TIME_WAIT
    sampled = sockets.timestamps[sockets.timestamps != UNKNOWN]
    known = sockets.no_port[(sockets.no_port != UNKNOWN) & (sockets.state == _ESTABLISHED)]
    source, destination = shown(sockets.local[0]), shown(sockets.remote[0])
    remaining_ms = sockets.remaining_ms[waiting]
    return Pool(
        source,
        destination,
        int(sockets.remote_port[0]),
        _states(sockets),
        int(np.count_nonzero(flags & span.usable)),
        int(np.count_nonzero(~span.usable[sockets.local_port])),
        span.size,
        flags & span.usable,
        remaining_ms,
        rate.of_closes(remaining_ms, place.time_wait_s),
        (int(np.count_nonzero(sampled)), len(sampled)),
        (int(np.count_nonzero(known)), len(known)),
        _owners(sockets, place),
        any(address.startswith("127.") or address == "::1" for address in (source, destination)),
        own_range=own_range(flags, span),
    )


def _states(sockets: Sockets) -> dict[str, int]:
    closed = (sockets.mini > 0) & (sockets.state == _FIN_WAIT2)
    counts = np.bincount(sockets.state.astype(np.int64) * 2 + closed, minlength=2 * len(inet_diag.STATES))
    return {inet_diag.STATES[i // 2] + " (closed)" * (i % 2): int(counts[i]) for i in np.flatnonzero(counts).tolist()}


def _owners(sockets: Sockets, place: Namespace) -> list[str]:
    if not place.owners:
        return []
    counts = Counter(
        place.owners[inode] for inode in sockets.inode[sockets.inode > 0].tolist() if inode in place.owners
    )
    return [owner for owner, _ in counts.most_common(5)]


def _served(sockets: Sockets, place: Namespace) -> list[Served]:
    if not len(sockets):
        return []
    key = peer_key(sockets.local, sockets.local_port)
    _, first, member = np.unique(key, return_index=True, return_inverse=True)
    found = []
    for index in np.argsort(-np.bincount(member))[:_DETAILED]:
        part = sockets.where(member == index)
        closes = rate.of_closes(part.remaining_ms[part.state == _TIME_WAIT], place.time_wait_s)
        one = int(first[index])
        found.append(Served(shown(sockets.local[one]), int(sockets.local_port[one]), _states(part), closes))
    return found


def _judge(measured: Measured, sockets: Sockets, sources: dict[str, _Source], span: Range) -> None:
    """Judge which pools bind first, and which ports that closes to others."""
    listening = np.zeros(65536, np.bool_)
    listening[sockets.local_port[sockets.state == _LISTEN]] = True
    by_source: dict[str, list[Pool]] = {}
    for pool in measured.pools:
        by_source.setdefault(pool.source, []).append(pool)
    for source, pools in by_source.items():
        union = sources[source].counts > 0
        for pool in pools:
            pool.joined = int(np.count_nonzero((union | listening) & span.usable))
            pool.bind = bind_first.judge(pool.flags, listening, union, pool.no_port, span)
        _judge_together(pools, sources[source], listening, span)
        binders = [pool for pool in pools if pool.binds]
        bound = np.logical_or.reduce([pool.flags for pool in binders]) if binders else np.zeros(65536, np.bool_)
        if binders and len(binders) == len(pools):
            bound = union & span.usable
        measured.taken_by_binders[source] = int(np.count_nonzero(bound))
        for pool in pools:
            pool.blocked = int(np.count_nonzero((bound | listening) & span.usable & ~pool.flags))


def _judge_together(pools: list[Pool], source: _Source, listening: NDArray[np.bool_], span: Range) -> None:
    """Judge by all pools of one source what single pools leave open."""
    open_ = [pool for pool in pools if pool.bind.verdict == bind_first.UNKNOWN]
    if not open_ or len(source.sizes) < 2:
        return
    verdict = bind_first.judge_by_sharing(source.counts, source.sizes, span)
    if verdict is None and all(pool.bind.ports < bind_first.FEWEST for pool in pools):
        option = tuple(sum(pool.no_port[i] for pool in open_) for i in (0, 1))
        flags = source.counts > 0
        verdict = bind_first.judge(flags, listening, flags, (option[0], option[1]), span)
    if verdict is not None and verdict.verdict != bind_first.UNKNOWN:
        for pool in open_:
            pool.bind = verdict


def _spread_timestamps(pools: list[Pool]) -> None:
    """Use what a destination's live sockets say for its ports that have none."""
    known: dict[str, tuple[int, int]] = {}
    for pool in pools:
        have, asked = known.get(pool.destination, (0, 0))
        known[pool.destination] = have + pool.timestamps[0], asked + pool.timestamps[1]
    for pool in pools:
        if not pool.timestamps[1]:
            pool.peer_timestamps = known[pool.destination]


def _foresee(pool: Pool, pools: list[Pool], place: Namespace) -> None:
    """Set how long TIME_WAIT holds a port of this pool, and the pool's forecast."""
    reuse = place.number("tcp_tw_reuse")
    have, asked = pool.timestamps if pool.timestamps[1] else pool.peer_timestamps
    timestamps_off = place.number("tcp_timestamps") == 0 or (asked > 0 and have == 0)
    pool.reusable = (reuse == 1 or (reuse == 2 and pool.loopback)) and not timestamps_off and not pool.binds
    pool.hold_s = place.time_wait_s
    together = [one for one in pools if one.binds and one.source == pool.source] if pool.binds else [pool]
    pool.sharers = len(together)
    remaining_s = np.concatenate([_remaining_s(one, place.time_wait_s) for one in together])
    pool.held = max(0, pool.taken - sum(one.time_wait for one in together))
    if pool.reusable:
        delay_ms = place.number("tcp_tw_reuse_delay")
        pool.hold_s = min(place.time_wait_s, (1000 if delay_ms is None else delay_ms) / 1000 or 0.001)
        remaining_s = remaining_s - (place.time_wait_s - pool.hold_s)
        remaining_s = remaining_s[remaining_s > 0]
    pool.joint_per_s = sum(one.rate_per_s for one in together)
    pool.forecast = rate.forecast(pool.held, remaining_s, pool.joint_per_s, pool.hold_s, pool.capacity)


def _remaining_s(pool: Pool, time_wait_s: float) -> NDArray[np.float64]:
    known = pool.remaining_ms[pool.remaining_ms >= 0] / 1000
    return known if len(known) or not pool.time_wait else np.linspace(0, time_wait_s, pool.time_wait)
