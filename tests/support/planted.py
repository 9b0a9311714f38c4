"""Generates captures whose truth is known: connections on reused four-tuples, and late segments
planted among them.

One window of time after another, so that a capture of any length takes the same memory. What is
planted stands in `Capture.planted`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
ORDINARY, COPY, RETRANSMISSION, DELAYED, ANSWER, DUPLICATE, FORGED = range(7)
NAMES = ("", "copy", "retransmission", "delayed", "answer", "duplicate", "forged")
START_NS = 1_700_000_000 * 10**9
ISN_PER_S = 15_625_000
COLUMNS = (
    *("t", "tuple", "side", "seq", "ack", "flags", "ln", "ipid", "tsval", "tsecr", "win", "ttl"),
    *("label", "late", "fill"),
)
OTHER_PATH_S = 0.11  # a copy that is older may have come by another path
# side (0: client), flags, bytes, milliseconds since the segment before
EXCHANGE = [
    (0, SYN, 0, 0.0),
    (1, SYN | ACK, 0, 5.0),
    (0, ACK, 0, 5.0),
    (0, PSH | ACK, 120, 0.1),
    (1, ACK, 0, 5.0),
    (1, ACK, 400, 1.0),
    (1, PSH | ACK, 200, 0.05),
    (0, ACK, 0, 5.0),
    (0, PSH | ACK, 90, 20.0),
    (1, PSH | ACK, 150, 5.0),
    (0, FIN | ACK, 0, 6.0),
    (1, FIN | ACK, 0, 6.0),
    (0, ACK, 0, 6.0),
]
LAST_MS = sum(step[3] for step in EXCHANGE)


@dataclass
class Plan:
    """What a capture shall hold.

    Attributes:
        tuples: four-tuples, each opened again 2 to 90 s after its close.
        window_s: seconds of a batch.
        windows: number of batches.
        copies: share of packets of which the network delivers a second copy, 0.05 to 120 s later;
            three of four by other paths, with other TTLs.
        retransmissions: share of connections whose server sends its FIN again after the close.
        delayed: share of connections whose last data segment comes after the close; its
            retransmission came in time.
        timestamps: TCP timestamps are in use.
        big: bytes of the server's first data segment; above 1,448 it is an offloaded one, and
            copies are wire segments of it.
        sides: the directions that the capture sees.
        twice_us: each packet is captured a second time so many microseconds later; 0: once.
        steps: at these fractions of the windows the clock is set back by 5 s.
    """

    tuples: int = 400
    window_s: float = 60.0
    windows: int = 3
    copies: float = 0.005
    retransmissions: float = 0.0
    delayed: float = 0.0
    timestamps: bool = True
    big: int = 400
    sides: tuple[int, ...] = (0, 1)
    twice_us: float = 0.0
    steps: tuple[int, ...] = ()
    seed: int = 1


KINDS = {
    "both directions": Plan(copies=0.01),
    "without timestamps": Plan(copies=0.01, timestamps=False),
    "client's packets only": Plan(copies=0.02, sides=(0,)),
    "server's packets only": Plan(copies=0.02, sides=(1,)),
    "SPAN port": Plan(copies=0.01, twice_us=20.0),
    "SPAN port, clock set back": Plan(copies=0.01, twice_us=20.0, steps=(1,)),
    "offloaded segments": Plan(copies=0.02, big=14_480),
    "clock set back twice": Plan(copies=0.01, steps=(1, 2)),
    "retransmitted FINs": Plan(copies=0.0, retransmissions=0.05),
    "retransmitted FINs without timestamps": Plan(copies=0.0, retransmissions=0.05, timestamps=False),
    "delayed": Plan(copies=0.0, delayed=0.05),
    "delayed without timestamps": Plan(copies=0.0, delayed=0.05, timestamps=False),
    "all at once": Plan(copies=0.01, retransmissions=0.02, delayed=0.02),
}


@dataclass
class Capture:
    """Makes the packets of a plan.

    Attributes:
        connections: opened so far.
        frames: made so far.
        planted: (frame number counted from 1, label, seconds since the close) of each planted
            segment.
    """

    plan: Plan
    connections: int = 0
    frames: int = 0
    planted: list[tuple[int, str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.plan.seed)
        count = self.plan.tuples
        self._next = self._random.uniform(0, 46.0, count)
        self._hash = self._random.integers(0, 1 << 32, (count, 2), dtype=np.uint64)
        self._clock = self._random.integers(0, 1 << 32, (count, 2), dtype=np.uint64)
        self._pending: dict[str, Any] = {name: np.empty(0) for name in COLUMNS}
        self._back = 0.0

    def batches(self) -> Iterator[dict[str, Any]]:
        """Columns of packets in the order of time, window after window."""
        for number in range(self.plan.windows + 1):
            until = (number + 1) * self.plan.window_s
            last = number == self.plan.windows
            if number in self.plan.steps:
                self._back += 5.0
            parts = [self._pending]
            while not last and len(due := np.nonzero(self._next < until)[0]):
                parts.append(self._open(due))
            rows = {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}
            rows = _pick(rows, np.argsort(rows["t"], kind="stable"))
            now = np.ones(len(rows["t"]), bool) if last else rows["t"] < until
            self._pending = _pick(rows, ~now)
            rows = self._seen(_pick(rows, now))
            rows["t"] = rows["t"] - self._back
            for at in np.nonzero(rows["label"])[0].tolist():
                self.planted.append((self.frames + at + 1, NAMES[int(rows["label"][at])], float(rows["late"][at])))
            self.frames += len(rows["t"])
            yield rows

    def _seen(self, rows: dict[str, Any]) -> dict[str, Any]:
        """What the capture sees of the packets: some directions, perhaps each packet twice."""
        rows = _pick(rows, np.isin(rows["side"], self.plan.sides))
        if not self.plan.twice_us:
            return rows
        again = _pick(rows, np.arange(len(rows["t"])))
        again["t"] = again["t"] + self.plan.twice_us * 1e-6
        again["label"] = np.full(len(again["t"]), DUPLICATE)
        both = {name: np.concatenate([rows[name], again[name]]) for name in COLUMNS}
        return _pick(both, np.argsort(both["t"], kind="stable"))

    def _open(self, due: Any) -> dict[str, Any]:
        """One connection on each of the four-tuples `due`, and what is planted for it."""
        plan, random, count = self.plan, self._random, len(due)
        begin = self._next[due]
        isn = np.stack([self._hash[due, side] + (begin * ISN_PER_S).astype(np.uint64) for side in (0, 1)], 1).astype(
            np.int64
        )
        ids = random.integers(1, 1 << 16, (count, 2))
        sent = np.zeros((count, 2), np.int64)
        heard = np.zeros((count, 2), np.int64)
        t, echo = begin.copy(), np.zeros((count, 2), np.int64)
        steps = []
        for number, (side, flags, size, after_ms) in enumerate(EXCHANGE):
            size = plan.big if number == 5 else size
            t = t + after_ms / 1000 * random.uniform(0.9, 1.1, count)
            stamp = (self._clock[due, side].astype(np.int64) + (t * 1000).astype(np.int64)) % (1 << 32)
            plain = not (flags & SYN and side)
            row = {
                "t": t,
                "tuple": due,
                "side": np.full(count, side),
                "seq": isn[:, side] + sent[:, side],
                "ack": isn[:, 1 - side] + heard[:, side] if flags & ACK else np.zeros(count, np.int64),
                "flags": np.full(count, flags),
                "ln": np.full(count, size),
                "ipid": ids[:, side] * plain,
                "tsval": stamp * plan.timestamps,
                "tsecr": echo[:, side] * plan.timestamps,
                "win": np.full(count, 502),
                "ttl": np.full(count, 64),
                "label": np.zeros(count, np.int64),
                "late": np.zeros(count),
                "fill": (self.connections + np.arange(count)) % 251,
            }
            ids[:, side] = ids[:, side] + plain * max(1, -(-size // 1448))
            sent[:, side] += size + bool(flags & SYN) + bool(flags & FIN)
            heard[:, 1 - side] = sent[:, side]
            echo[:, 1 - side] = stamp
            steps.append(row)
        self._next[due] = t + np.exp(random.uniform(np.log(2.0), np.log(90.0), count))
        self.connections += count
        late = [self._delay(steps, t, ids), self._again(steps, t, ids), self._copies(steps, t)]
        rows = {name: np.concatenate([step[name] for step in [*steps, *late]]) for name in COLUMNS}
        return _pick(rows, rows["t"] >= 0)

    def _copies(self, steps: list[dict[str, Any]], closed: Any) -> dict[str, Any]:
        made = []
        for number, step in enumerate(steps):
            which = np.nonzero(self._random.random(len(closed)) < self.plan.copies)[0]
            if (number in (0, 1, 2, 4, 7, 12) and number != 0) or not len(which):
                which = which[:0]  # copies of pure ACKs and SYN/ACKs have no identification, or tell nothing
            copy = _pick(step, which)
            if number == 5 and self.plan.big > 1448:
                part = self._random.integers(0, self.plan.big // 1448, len(which))
                copy["seq"], copy["ipid"] = copy["seq"] + part * 1448, (copy["ipid"] + part)
                copy["ln"] = np.full(len(which), 1448)
            copy["t"] = closed[which] + np.exp(self._random.uniform(np.log(0.05), np.log(120.0), len(which)))
            copy["label"], copy["late"] = np.full(len(which), COPY), copy["t"] - closed[which]
            by_another = copy["t"] - step["t"][which] > OTHER_PATH_S
            copy["ttl"] = copy["ttl"] - by_another * (copy["tuple"] % 4).astype(np.int64)
            made.append(copy)
        return {name: np.concatenate([copy[name] for copy in made]) for name in COLUMNS}

    def _again(self, steps: list[dict[str, Any]], closed: Any, ids: Any) -> dict[str, Any]:
        """The server's FIN again, 0.25 s later, as if the last ACK had been lost behind the tap."""
        which = np.nonzero(self._random.random(len(closed)) < self.plan.retransmissions)[0]
        made = _pick(steps[11], which)
        made["t"] = closed[which] + 0.25
        made["ipid"] = ids[which, 1]
        made["tsval"] = (made["tsval"] + 256) * self.plan.timestamps
        made["label"], made["late"] = np.full(len(which), RETRANSMISSION), np.full(len(which), 0.25)
        return made

    def _delay(self, steps: list[dict[str, Any]], closed: Any, ids: Any) -> dict[str, Any]:
        """The server's last data segment after the close; in its place stands a retransmission,
        sent a little later.
        """
        which = np.nonzero(self._random.random(len(closed)) < self.plan.delayed)[0]
        made = _pick(steps[9], which)
        after = np.exp(self._random.uniform(np.log(0.5), np.log(60.0), len(which)))
        made["t"], made["late"] = closed[which] + after, after
        made["label"] = np.full(len(which), DELAYED)
        for step in steps[9:]:
            step["ipid"][which] += step["side"][which] == 1
        ids[which, 1] += 1
        steps[9]["tsval"][which] += 1 * self.plan.timestamps
        return made


def _pick(rows: dict[str, Any], which: Any) -> dict[str, Any]:
    return {name: column[which] for name, column in rows.items()}


def frames(rows: dict[str, Any], *, timestamps: bool = True, snaplen: int = 0, before: int = 0) -> tuple[Any, Any, Any]:
    """The packets as Ethernet frames: all bytes one behind the other, with `before` free ones in
    front of each; where these begin, and the length of each frame on the wire.
    """
    count = len(rows["t"])
    header = 66 if timestamps else 54
    head = np.zeros((count, header), np.uint8)
    number, side = rows["tuple"].astype(np.int64), rows["side"].astype(bool)
    client, port = 0x0A000001 + number // 28_000, 32_768 + number % 28_000
    _put(head, 0, 6, np.where(side, 0x020000000001, 0x020000000002))
    _put(head, 6, 6, np.where(side, 0x020000000002, 0x020000000001))
    head[:, 12], head[:, 14], head[:, 22], head[:, 23], head[:, 20] = 8, 0x45, rows["ttl"], 6, 0x40
    _put(head, 16, 2, header - 14 + rows["ln"])
    _put(head, 18, 2, rows["ipid"])
    _put(head, 26, 4, np.where(side, 0x0A640001, client))
    _put(head, 30, 4, np.where(side, client, 0x0A640001))
    _put(head, 34, 2, np.where(side, 80, port))
    _put(head, 36, 2, np.where(side, port, 80))
    for at, size, name in ((38, 4, "seq"), (42, 4, "ack"), (48, 2, "win")):
        _put(head, at, size, rows[name])
    head[:, 46], head[:, 47] = 0x80 if timestamps else 0x50, rows["flags"]
    if timestamps:
        head[:, 54:58] = (1, 1, 8, 10)
        _put(head, 58, 4, rows["tsval"])
        _put(head, 62, 4, rows["tsecr"])
    length = header + rows["ln"].astype(np.int64)
    kept = np.minimum(length, snaplen) if snaplen else length
    start = np.concatenate([[0], np.cumsum(kept + before)])
    out = np.repeat(rows["fill"].astype(np.uint8), kept + before)
    _scatter(out, start[:-1] + before, head)
    return out, start, length


def _scatter(out: Any, at: Any, heads: Any) -> None:
    """Write each row of `heads` into `out` at its place."""
    kind = f"V{heads.shape[1]}"
    if len(heads):
        np.ndarray((len(out) - heads.shape[1] + 1,), kind, out, strides=(1,))[at] = heads.view(kind)[:, 0]


def _put(head: Any, at: int, size: int, values: Any) -> None:
    eight = np.asarray(values).astype(">i8").view(np.uint8).reshape(-1, 8)
    head[:, at : at + size] = eight[:, 8 - size :]


def pcap(plan: Plan, write: Any, *, nanoseconds: bool = True, order: str = "<", snaplen: int = 0) -> Capture:
    """Write the capture of `plan` as pcap with `write`; the capture, with its truth."""
    capture = Capture(plan)
    write(struct.pack(f"{order}IHHiIII", 0xA1B23C4D if nanoseconds else 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1))
    for rows in capture.batches():
        out, start, length = frames(rows, timestamps=plan.timestamps, snaplen=snaplen, before=16)
        kept = np.diff(start) - 16
        time = START_NS + (rows["t"] * 1e9).astype(np.int64)
        fraction = time % 10**9 if nanoseconds else time % 10**9 // 1000
        head = np.stack([time // 10**9, fraction, kept, length], 1).astype(f"{order}u4").view(np.uint8).reshape(-1, 16)
        _scatter(out, start[:-1], head)
        write(out)
    return capture


def pcapng(plan: Plan, write: Any) -> Capture:
    """Write the capture of `plan` as pcapng with `write`; the capture, with its truth."""
    capture = Capture(plan)
    write(struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28))
    write(struct.pack("<IIHHIHHBxxxII", 1, 32, 1, 0, 0, 9, 1, 9, 0, 32))
    for rows in capture.batches():
        data, start, length = frames(rows, timestamps=plan.timestamps)
        kept = np.diff(start)
        padded = kept + -kept % 4
        time = START_NS + (rows["t"] * 1e9).astype(np.int64)
        size = padded + 32
        zero = np.zeros(len(kept), np.int64)
        head = (
            np.stack([zero + 6, size, zero, time >> 32, time & 0xFFFFFFFF, kept, length], 1)
            .astype("<u4")
            .view(np.uint8)
            .reshape(-1, 28)
        )
        block = np.concatenate([[0], np.cumsum(size)])
        out = np.zeros(block[-1], np.uint8)
        out[(block[:-1, None] + np.arange(28)).ravel()] = head.ravel()
        out[np.arange(len(data)) + np.repeat(block[:-1] + 28 - start[:-1], kept)] = data
        out[(block[1:, None] - 4 + np.arange(4)).ravel()] = size.astype("<u4").view(np.uint8)
        write(out.tobytes())
    return capture
