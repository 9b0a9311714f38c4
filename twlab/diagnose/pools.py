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
from twlab.diagnose.bind_first import Bind, Range, own_range
from twlab.diagnose.columns import peer_key
from twlab.diagnose.pool import FULL, Measured, Pool, Served
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
    step_width = place.number("ip_local_port_step_width") or 1
    span = Range(low, high, usable & ~place.reserved, step_width, place.range_known, place.kernel)
    sockets = place.sockets
    going = outgoing(sockets, span)
    opened = sockets.where(going)
    pools, others, sources = _pools(opened, place, span)
    served = _served(sockets.where(~going & (sockets.state != _LISTEN)), place)
    made = Measured(pools, served, others, _states(sockets), span)
    _judge(made, sockets, sources, place.time_wait_s)
    _spread_timestamps(pools)
    sharers: dict[str, list[Pool]] = {}
    for pool in pools:
        sharers.setdefault(pool.source if pool.binds else pool.name, []).append(pool)
    for together in sharers.values():
        _foresee(together, place)
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
        live: ports with a socket that is not in TIME_WAIT, a flag each.
        sizes: ports of each destination.
    """

    counts: NDArray[np.int64]
    live: NDArray[np.bool_]
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
        ports = sockets.local_port[mine]
        live = _flags(ports[sockets.state[mine] != _TIME_WAIT])
        found[shown(address)] = _Source(np.bincount(ports, minlength=65536), live, sizes[pools])
    return found


def _flags(ports: NDArray[np.uint16]) -> NDArray[np.bool_]:
    made = np.zeros(65536, np.bool_)
    made[ports] = True
    return made


def _pool(sockets: Sockets, place: Namespace, span: Range) -> Pool:
    flags = _flags(sockets.local_port)
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
        _flags(sockets.local_port[~waiting]) & span.usable,
        sockets.local_port[waiting],
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


def _judge(measured: Measured, sockets: Sockets, sources: dict[str, _Source], time_wait_s: float) -> None:
    """Judge which pools bind first, and which ports that closes to others."""
    span = measured.span
    listening = _flags(sockets.local_port[sockets.state == _LISTEN])
    by_source: dict[str, list[Pool]] = {}
    for pool in measured.pools:
        by_source.setdefault(pool.source, []).append(pool)
    for source, pools in by_source.items():
        of_source = sources[source]
        union = of_source.counts > 0
        for pool in pools:
            doubted = _doubted(pool, pool.flags | listening, span, time_wait_s)
            pool.bind = bind_first.judge(pool.flags, listening, union, pool.no_port, span, doubted)
        _judge_together(pools, of_source, listening, span)
        binders = [pool for pool in pools if pool.binds]
        bound = np.logical_or.reduce([pool.flags for pool in binders]) if binders else np.zeros(65536, np.bool_)
        if binders and len(binders) == len(pools):
            bound = union & span.usable
        measured.taken_by_binders[source] = int(np.count_nonzero(bound))
        for pool in pools:
            pool.blocked = int(np.count_nonzero((bound | listening) & span.usable & ~pool.flags))
            pool.take(((union if pool.binds else pool.flags | bound) | listening) & span.usable)
            live = of_source.live if pool.binds else pool.live | bound & of_source.live
            pool.open_ports = int(np.count_nonzero(pool.taken_flags & (live | listening)))


def _doubted(pool: Pool, taken: NDArray[np.bool_], span: Range, time_wait_s: float) -> NDArray[np.bool_] | None:
    """Flag the ports whose parity says nothing; None if the closes have no dates."""
    if pool.rate is None or not pool.rate.dated:
        return None
    dated = pool.remaining_ms >= 0
    ages_s = time_wait_s - pool.remaining_ms[dated] / 1000
    return bind_first.doubtful(pool.closed_ports[dated], ages_s, pool.rate.peak_per_s, taken, span)


def _judge_together(pools: list[Pool], source: _Source, listening: NDArray[np.bool_], span: Range) -> None:
    """Judge by all pools of one source what single pools leave open.

    Pools that share no port are of programs that bind first, all but one: its ports may be what the
    others left to it. So the others have to show it without the largest.
    """
    plain = [pool for pool in pools if pool.own_range is None]
    open_ = [pool for pool in plain if pool.bind.verdict == bind_first.UNKNOWN]
    if not open_ or len(source.sizes) < 2:
        return
    counts, sizes = source.counts, source.sizes
    for pool in pools:
        if pool.own_range is not None:
            counts, sizes = _less(counts, sizes, pool)
    rest = bind_first.judge_by_sharing(*_less(counts, sizes, open_[0]), span)
    if rest and rest.verdict == bind_first.YES:
        whole = bind_first.judge_by_sharing(counts, sizes, span)
        _decide(open_, whole if whole and whole.verdict == bind_first.YES else None)
    _decide(open_[1:], rest)
    shared = np.zeros(65536, np.bool_)
    for pool in plain:
        if pool.bind.verdict == bind_first.NO:
            shared |= pool.flags
    for pool in open_:
        _decide([pool], bind_first.judge_apart(pool.flags, shared, span))
    if all(pool.bind.ports < bind_first.FEWEST for pool in pools):
        have, known = (sum(pool.no_port[i] for pool in open_) for i in (0, 1))
        flags = source.counts > 0
        _decide(open_, bind_first.judge(flags, listening, flags, (have, known), span))


def _less(
    counts: NDArray[np.int64], sizes: NDArray[np.int64], pool: Pool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the counts and sizes of a source's pools without this one."""
    at = int(np.argmax(sizes == sum(pool.states.values())))
    return counts - pool.flags, np.delete(sizes, at)


def _decide(pools: list[Pool], verdict: Bind | None) -> None:
    """Give `verdict` to the pools that have none yet."""
    if verdict is None or verdict.verdict == bind_first.UNKNOWN:
        return
    for pool in pools:
        if pool.bind.verdict == bind_first.UNKNOWN:
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


def _foresee(sharers: list[Pool], place: Namespace) -> None:
    """Set how long TIME_WAIT holds a port, and the forecast, of pools that share their ports."""
    first = sharers[0]
    waiting = np.zeros(65536, np.bool_)
    for pool in sharers:
        waiting |= pool.flags & ~pool.live
    held = int(np.count_nonzero(first.taken_flags & ~waiting))
    joint_open, joint_per_s = sum(pool.busy for pool in sharers), sum(pool.per_s_in_range for pool in sharers)
    remaining_s = np.concatenate([_remaining_s(pool, place.time_wait_s) for pool in sharers])
    hold_s = place.time_wait_s
    if _reuse_applies(first, place):
        by_time_wait = first.fill >= FULL and held < FULL * first.capacity
        first.reuse_doubted = by_time_wait and not _taken_over(first, place)
        first.reusable = not first.reuse_doubted
    if first.reusable:
        delay_ms = place.number("tcp_tw_reuse_delay")
        hold_s = min(place.time_wait_s, (1000 if delay_ms is None else delay_ms) / 1000 or 0.001)
        held_ms = 1000 * (place.time_wait_s - hold_s)
        young = _flags(first.closed_ports[rate.in_full(first.remaining_ms) > held_ms]) & first.flags
        first.take(first.taken_flags & ~waiting | young)
        remaining_s = remaining_s - held_ms / 1000
        remaining_s = remaining_s[remaining_s > 0]
    ahead = rate.forecast(held, remaining_s, joint_per_s, hold_s, first.capacity)
    for pool in sharers:
        pool.sharers, pool.held, pool.hold_s, pool.forecast = len(sharers), held, hold_s, ahead
        pool.joint_open, pool.joint_per_s = joint_open, joint_per_s


def _reuse_applies(pool: Pool, place: Namespace) -> bool:
    """Tell whether tcp_tw_reuse gives ports of this pool to connect() before TIME_WAIT ends."""
    have, asked = pool.timestamps if pool.timestamps[1] else pool.peer_timestamps
    timestamps_off = place.number("tcp_timestamps") == 0 or (asked > 0 and have == 0)
    on = place.tw_reuse == 1 or (place.tw_reuse == 2 and pool.loopback)
    return on and not timestamps_off and not pool.binds


def _taken_over(pool: Pool, place: Namespace) -> bool:
    """Tell whether tcp_tw_reuse is at work in a full pool.

    It is if it counts, or if ports come back faster than TIME_WAITs end, which keeps them young.
    """
    if place.counters.get("TWRecycled"):
        return True
    return pool.rate is not None and pool.rate.dated and pool.rate.recent_per_s > 1.2 * pool.rate.average_per_s


def _remaining_s(pool: Pool, time_wait_s: float) -> NDArray[np.float64]:
    """Return how long each TIME_WAIT on a port of the range still lasts."""
    remaining_ms = pool.remaining_ms[pool.flags[pool.closed_ports]]
    known = remaining_ms[remaining_ms >= 0] / 1000
    return known if len(known) or not len(remaining_ms) else np.linspace(0, time_wait_s, len(remaining_ms))
