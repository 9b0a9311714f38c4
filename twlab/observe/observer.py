"""Drives the analysis batch by batch, in bounded memory.

Adds up what each batch shows.
"""

from __future__ import annotations

from bisect import bisect, insort

import numpy as np

from twlab.observe import sightings, suspects
from twlab.observe.contents import Source, compare
from twlab.observe.distribution import Distribution
from twlab.observe.exposure import Exposure, weigh
from twlab.observe.findings import Findings, Frame, Late, Row
from twlab.observe.headers import Tables
from twlab.observe.history import History
from twlab.observe.incarnations import BY_FIN, BY_RST, ONE_SIDE, Incarnations, Sorted, ranges, split
from twlab.observe.late import COPY, DELAYED, FOREIGN, UNDECIDED, Judge, Verdict
from twlab.observe.networks import split_tuples
from twlab.observe.packets import AGAIN, FILE, NUMBER, SEEN, SIX, STRAY, Array, Packets, mixed, settle

_SIGNATURE = 65_537  # net/ipv4/tcp_ipv4.c, tcp_twsk_unique(): added to the number after the last one
_FLAGS = ((2, "SYN"), (1, "FIN"), (4, "RST"), (8, "PSH"), (16, "ACK"), (32, "URG"))
_MOST_PAIRS = 100_000
_BACK_NS, _STEP_NS = 1_000_000, 1_000_000_000  # the clock ran back; it was set back
_MOST_STEPS = 100_000


class Observer:
    """Takes packets in the order of the file, and adds to `findings`.

    Args:
        findings: to add to.
        tables: of the addresses in the packets.
        remember_s: how long packets are remembered, to compare late ones with.
        batch: new packets in a batch.
        keep: older packets that are remembered at most.
        most_listed: late packets that are kept with their evidence; more are only counted.

    Attributes:
        sources: parts of each file that can be read again, to compare contents; by the file's number.
    """

    def __init__(
        self,
        findings: Findings,
        tables: Tables,
        *,
        remember_s: float = 120.0,
        batch: int = 1 << 21,
        keep: int = 1 << 20,
        most_listed: int = 100_000,
    ):
        self.findings, self._tables = findings, tables
        self._remember_ns, self._batch, self._keep, self._most = int(remember_s * 1e9), batch, keep, most_listed
        self._rows = Packets(batch + keep)
        self._used = self._old = 0
        self._clocks: dict[int, tuple[int, int]] = {}  # of each lane: the latest time, the last one
        self._split: set[int] = set()  # four-tuples that virtual networks have split
        self._values: list[tuple[Distribution, float]] = []
        self._steps: list[int] = []  # frames before which the clock was set back
        self.sources: dict[int, list[Source]] = {}
        findings.remembered_s = remember_s
        findings.table = {length_s: Row() for length_s in findings.lengths_s}

    def add(self, packets: Packets) -> None:
        """Add the next packets."""
        at = 0
        while at < packets.size:
            room = self._old + self._batch - self._used
            part = (
                packets
                if packets.size - at <= room and not at
                else packets.take(np.arange(at, min(packets.size, at + room)))
            )
            self._rows.put(self._used, part)
            self._used, at = self._used + part.size, at + part.size
            if self._used >= self._old + self._batch:
                self._analyse(last=False)

    def finish(self) -> None:
        """Analyse the packets that are left, and complete the findings."""
        self._analyse(last=True)
        for length_s, row in self.findings.table.items():
            row.watched = self.findings.watched(length_s)

    def watch(self, packets: Packets, lane: int) -> None:
        """Watch the clock of a capture, or of rotated ones, in the order of the file."""
        found, t = self.findings, packets.t
        latest, last = self._clocks.get(lane, (int(t[0]), int(t[0])))
        steps = np.diff(t, prepend=last)
        found.back += int((steps < -_BACK_NS).sum())
        for at in np.nonzero(steps < -_STEP_NS)[0][: _MOST_STEPS - len(self._steps)].tolist():
            insort(self._steps, int(packets.n[at]))
        highest = np.maximum.accumulate(np.maximum(t, latest))
        behind = float((highest - t).max()) / 1e9
        found.back_s = max(found.back_s, behind if behind > _BACK_NS / 1e9 else 0.0)
        found.begin_ns = min(found.begin_ns, int(t.min())) if self._clocks else int(t.min())
        self._clocks[lane] = int(highest[-1]), int(t[-1])
        found.end_ns = max(found.end_ns, int(highest[-1]))

    def _analyse(self, *, last: bool) -> None:
        packets = self._rows.view(self._used)
        packets.bits[: self._old] |= SEEN
        settle(packets)
        seen = sightings.find(packets, np.array(self._steps, np.int64))
        original, held, places, nearest = seen.original, seen.held, seen.places, seen.nearest
        packets.bits[(original >= 0) | held] |= AGAIN
        drop = seen.duplicate & ~held
        self.findings.duplicates += int(seen.duplicate.sum())
        if drop.any():
            kept = ~drop
            moved = np.cumsum(kept) - 1
            packets = packets.take(kept)
            original = np.where(original[kept] >= 0, moved[original[kept]], -1)
            held, places, nearest = held[kept], places[kept], nearest[kept]
        rows = Sorted(packets)
        made = split(rows)
        elsewhere = suspects.out_of_place(rows, places, nearest)
        self._judge(rows, made, original, held, elsewhere)
        self._count(rows, made, last)
        if not last:
            self._retain(rows, made)

    def _judge(self, rows: Sorted, made: Incarnations, original: Array, held: Array, elsewhere: Array) -> None:
        chosen = suspects.pick(rows, made, held, elsewhere)
        if not len(chosen):
            return
        history = History(rows, made)
        judge = Judge(rows, made, history, _first_sightings(rows, original, chosen), held, elsewhere)
        for row in chosen.tolist():
            verdict = judge.decide(row)
            if not verdict.kind:
                continue
            if verdict.old != made.of[row]:
                rows.bits[row] |= STRAY
                rows.packets.bits[rows.order[row]] |= STRAY
                history.forget(int(made.of[row]))
            exposure = weigh(verdict, rows, made, history, self.findings.lengths_s)
            self._distrust_clock(verdict, exposure, rows, made)
            contents = (
                compare(row, rows, made, self.sources, self.findings.interfaces)
                if exposure.met and self.sources
                else ""
            )
            if contents == "differ" and verdict.kind == UNDECIDED:
                verdict.kind, verdict.rule = (
                    FOREIGN,
                    f"{verdict.rule}; the open connection sent other bytes under the same numbers",
                )
            self._enter(verdict, exposure, contents, rows)
        self._add_values()

    def _add_values(self) -> None:
        """Add the times of the judged packets to their distributions."""
        for kind in self.findings.kinds.values():
            for distribution in (kind.lateness, kind.age):
                distribution.add(np.array([value for into, value in self._values if into is distribution]))
        self._values.clear()

    def _distrust_clock(self, verdict: Verdict, exposure: Exposure, rows: Sorted, made: Incarnations) -> None:
        """Drop times that span a step back of the clock."""
        if not self._steps:
            return
        now = bisect(self._steps, int(rows.n[verdict.row]))
        closed = int(made.closed_at[verdict.old]) if verdict.old >= 0 else -1
        if closed >= 0 and bisect(self._steps, int(rows.n[closed])) != now:
            exposure.late_ns = exposure.in_window = None
        if verdict.against and bisect(self._steps, int(rows.n[verdict.against[0]])) != now:
            verdict.age_ns = -1

    def _enter(self, verdict: Verdict, exposure: Exposure, contents: str, rows: Sorted) -> None:
        kind = self.findings.kinds[verdict.kind]
        late_s = exposure.late_ns / 1e9 if exposure.late_ns is not None and exposure.late_ns >= 0 else None
        age_s = verdict.age_ns / 1e9 if verdict.age_ns >= 0 else None
        if late_s is not None:
            self._values.append((kind.lateness, late_s))
        elif exposure.late_ns is not None:
            kind.before_close += 1
        else:
            kind.undated += 1
        if age_s is not None:
            self._values.append((kind.age, age_s))
        if verdict.kind in (COPY, DELAYED) and late_s is not None and exposure.waits:
            for length_s, line in self.findings.table.items():
                if late_s > length_s:
                    line.exposed += 1
                    line.met += exposure.met
                    line.harmed += exposure.harmed
                    line.in_window += exposure.in_window is not None and length_s in exposure.in_window
                    line.refused += exposure.in_window is None
        if len(self.findings.late) >= self._most:
            self.findings.unlisted += 1
            return
        row = verdict.row
        against = [self.frame(int(rows.n[other])) for other in verdict.against]
        self.findings.late.append(
            Late(
                verdict.kind,
                verdict.rule,
                self.frame(int(rows.n[row])),
                against,
                self._flow(rows, row),
                late_s,
                age_s,
                exposure.met,
                exposure.harmed,
                exposure.why,
                exposure.in_window,
                _words(rows, row),
                int(rows.key[row]),
                contents,
            )
        )

    def frame(self, number: int) -> Frame:
        """Return the file of a frame, and its number there, from `n` of a packet."""
        return Frame(self.findings.files[number >> FILE][0], (number & NUMBER) + 1)

    def _flow(self, rows: Sorted, row: int) -> tuple[str, int, str, int]:
        six = bool(rows.bits[row] & SIX)
        ends = [self._tables.address(int(column[row]), six) for column in (rows.src, rows.dst)]
        return ends[0], int(rows.sport[row]), ends[1], int(rows.dport[row])

    def _count(self, rows: Sorted, made: Incarnations, last: bool) -> None:
        """Count the connections that are over.

        Others followed on their four-tuples, or the capture ended.
        """
        fresh = (rows.bits[made.start] & SEEN) == 0
        later = np.nonzero((made.previous >= 0) & fresh)[0]
        self._count_reuse(rows, made, later)
        over = made.previous[later]
        if last:
            followed = np.zeros(len(made), bool)
            followed[made.previous[made.previous >= 0]] = True
            over = np.concatenate([over, np.nonzero(~followed)[0]])
        self._count_ends(rows, made, over)
        if len(self._tables.nets) > 1 and len(self._split) < _MOST_PAIRS:
            self._split.update(split_tuples(rows, made).tolist())
            self.findings.split = len(self._split)

    def _count_ends(self, rows: Sorted, made: Incarnations, over: Array) -> None:
        found = self.findings
        found.connections += len(over)
        found.opened += int((made.opener[over] >= 0).sum())
        found.one_way += int((made.seen[over] == 0).any(1).sum())
        ending, closer, opener = made.ending[over], made.closer[over], made.opener[over]
        finished = (ending == BY_FIN) | (ending == ONE_SIDE)
        known = finished & (closer >= 0) & (closer < 2) & (opener >= 0)
        for name, which in (
            ("client", known & (closer == opener)),
            ("server", known & (closer == 1 - opener)),
            ("both", finished & (closer == 2)),
            ("unknown", finished & ~known & (closer != 2)),
            ("reset", ending == BY_RST),
        ):
            found.closes[name] += int(which.sum())
        found.open += int((made.closed_at[over] < 0).sum())
        seconds, counts = np.unique(rows.t[made.closed_at[over[finished]]] // 10**9, return_counts=True)
        for second, count in zip(seconds.tolist(), counts.tolist(), strict=True):
            found.close_times[second] += count

    def _count_reuse(self, rows: Sorted, made: Incarnations, later: Array) -> None:
        before, reuse = made.previous[later], self.findings.reuse
        reuse.after_reset += int((made.ending[before] == BY_RST).sum())
        some = ((made.ending[before] == BY_FIN) | (made.ending[before] == ONE_SIDE)) & (made.opener[later] >= 0)
        later, before = later[some], before[some]
        if not len(later):
            return
        gap = (rows.t[made.start[later]] - rows.t[made.closed_at[before]]) / 1e9
        side = made.opener[later]
        isn, fin = made.isn[later, side], made.fin[before, side]
        signed = (fin >= 0) & (isn == (fin + _SIGNATURE) % (1 << 32))
        forward = gap >= 0  # otherwise the clock ran back in between
        reuse.gaps.add(gap[forward])
        reuse.signed.add(gap[forward & signed])
        at = made.start[later]
        swap = (rows.bits[at] & 1) != side
        client, server = np.where(swap, rows.dst[at], rows.src[at]), np.where(swap, rows.src[at], rows.dst[at])
        port = np.where(swap, rows.sport[at], rows.dport[at])
        code = (
            mixed(client.astype(np.uint64) << np.uint64(32) | server)
            ^ port
            ^ (rows.bits[at] & SIX).astype(np.uint64) << np.uint64(32)
        )
        at, gap, signed, code, client, server, port = (
            each[forward] for each in (at, gap, signed, code, client, server, port)
        )
        if not len(at):
            return
        order = np.argsort(code, kind="stable")
        first = np.nonzero(np.diff(code[order], prepend=~code[order[:1]]))[0]
        counts = np.diff(np.append(first, len(order)))
        marked, least = np.add.reduceat(signed[order].astype(np.int64), first), np.minimum.reduceat(gap[order], first)
        for one, *found in zip(order[first].tolist(), counts.tolist(), marked.tolist(), least.tolist(), strict=True):
            six = bool(rows.bits[at[one]] & SIX)
            pair = (
                self._tables.address(int(client[one]), six),
                self._tables.address(int(server[one]), six),
                int(port[one]),
            )
            if pair in reuse.pairs or len(reuse.pairs) < _MOST_PAIRS:
                line = reuse.pairs.setdefault(pair, [0, 0, float("inf")])
                line[:] = [line[0] + found[0], line[1] + found[1], min(line[2], found[2])]

    def _retain(self, rows: Sorted, made: Incarnations) -> None:
        """Keep the packets that later ones may have to be compared with.

        These are all recent ones, and those that show how connections began and ended.
        """
        now = int(np.median(self._rows.t[max(0, self._used - 1000) : self._used]))
        keep = rows.t[:] > now - self._remember_ns
        followed = np.zeros(len(made), bool)
        followed[made.previous[made.previous >= 0]] = True
        current = np.nonzero(~followed)[0]
        recent = made.previous[current]
        recent = recent[recent >= 0]
        shown = np.zeros(len(rows), bool)
        for inc in (current, recent[rows.t[made.stop[recent] - 1] > now - self._remember_ns]):
            columns = [
                made.start[inc],
                made.closed_at[inc],
                *made.syn_at[inc].T,
                *made.fin_at[inc].T,
                made.stop[inc] - 1,
            ]
            at = np.concatenate(columns)
            shown[at[at >= 0]] = True
            shown[ranges(np.maximum(made.start[inc], made.stop[inc] - 3), made.stop[inc])] = True
        if shown.sum() > self._keep // 2:
            shown &= ~self._forget(rows, made, current, shown)
        if (surplus := int((keep | shown).sum()) - self._keep) > 0:
            spare = np.nonzero(keep & ~shown)[0]
            oldest = spare[np.argsort(rows.t[spare], kind="stable")[:surplus]]
            keep[oldest] = False
            reach = (now - int(rows.t[oldest].max())) / 1e9
            self.findings.remembered_s = min(self.findings.remembered_s, max(0.0, reach))
        chosen = np.sort(rows.order[keep | shown])
        self._rows.put(0, rows.packets.take(chosen))
        self._old = self._used = len(chosen)

    def _forget(self, rows: Sorted, made: Incarnations, current: Array, shown: Array) -> Array:
        """Drop the four-tuples that have been idle longest.

        Returns:
            A flag for each packet that is dropped with them.
        """
        idle = current[np.argsort(rows.t[made.stop[current] - 1], kind="stable")]
        cost = np.cumsum(made.stop[idle] - made.start[idle])
        given_up = idle[: int(np.searchsorted(cost, int(shown.sum()) - self._keep // 2)) + 1]
        self._count_ends(rows, made, given_up)
        self.findings.forgotten += len(given_up)
        dropped = np.zeros(len(rows), bool)
        dropped[ranges(made.start[given_up], made.stop[given_up])] = True
        return dropped


def _first_sightings(rows: Sorted, original: Array, chosen: Array) -> dict[int, int]:
    """Return the row of the first sighting of those of the rows `chosen` that are further ones.

    Args:
        original: the first sighting of each packet, in the packets' own order; -1 without.
    """
    first = original[rows.order[chosen]]
    chosen, first = chosen[first >= 0], first[first >= 0]
    wanted = np.zeros(len(rows), bool)
    wanted[first] = True
    at = np.nonzero(wanted[rows.order])[0]
    row_of = dict(zip(rows.order[at].tolist(), at.tolist(), strict=True))
    return {row: row_of[packet] for row, packet in zip(chosen.tolist(), first.tolist(), strict=True)}


def _words(rows: Sorted, row: int) -> str:
    names = " ".join(name for bit, name in _FLAGS if rows.flags[row] & bit) or "no flags"
    return f"{names} seq {int(rows.seq[row])} ack {int(rows.ack[row])} len {int(rows.ln[row])}"
