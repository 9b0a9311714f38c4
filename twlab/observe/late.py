"""Decides what each suspect is.

A verdict names its rule, and the frames that the suspect was compared with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from twlab.observe.history import CIRCLE, SLACK_IDS, History, Past, after, covered
from twlab.observe.incarnations import UNKNOWN, Incarnations, Sorted
from twlab.observe.packets import ACK, AGAIN, FIN, RST, SIX, STAMPED, STRAY, SYN, Array

COPY, RETRANSMISSION, DELAYED, ANSWER, FOREIGN, UNDECIDED = KINDS = (
    "copy",
    "retransmission",
    "delayed",
    "answer",
    "foreign",
    "undecided",
)
_ANSWER_NS = 1_000_000_000  # an answer comes within this time
_TICK_NS = 2_000_000  # after this time the clock of timestamps has moved
_BACK = 24  # packets to look back for what a packet answers
_DEPTH = 16  # connections of a four-tuple to look back
_FAR_IDS = 1024
_ID_CIRCLE = 32_768  # network cards that segment count in the lower 15 bits alone
_LEAST_SEGMENT = 500


@dataclass(slots=True)
class Verdict:
    """The verdict on one packet.

    Attributes:
        kind: one of `KINDS`; empty: it belongs to the open connection after all.
        rule: the rule that decided, in words.
        row: the packet, an index into the sorted packets.
        against: packets that it was compared with.
        old: the connection that it belongs to, -1 if to none.
        age_ns: ns since its first sighting, or since its neighbours were sent; -1 if not known.
    """

    kind: str
    rule: str
    row: int
    against: list[int] = field(default_factory=list)
    old: int = UNKNOWN
    age_ns: int = -1


class Judge:
    """Decides about the packets of one batch.

    Args:
        first: of rows that are copies, or were held: the row of the packet's first sighting.
        held: packets that were held between two places, in the packets' own order.
        elsewhere: rows that did not pass where their direction is seen first.
    """

    def __init__(
        self, rows: Sorted, made: Incarnations, history: History, first: dict[int, int], held: Array, elsewhere: Array
    ):
        self._rows, self._made, self._first, self._held, self._elsewhere = rows, made, first, held, elsewhere
        self._history = history

    def decide(self, row: int) -> Verdict:
        """Decide what the packet in `row` is."""
        rows, made = self._rows, self._made
        inc, side = int(made.of[row]), int(rows.bits[row] & 1)
        if self._held[rows.order[row]]:
            return self._held_between(row)
        if row in self._first:
            return self._again(row, side)
        closed = int(made.closed_at[inc])
        after = 0 <= closed < row
        old = inc if after and self._history.within(row, inc, side) else self._history.older(row, inc, side)
        if self._elsewhere[row]:
            sent = self._sent_before(row, old, side) if old != UNKNOWN else None
            return sent if sent and sent.kind == COPY else self._put_in(row, inc, side)
        if old == UNKNOWN and not after and self._history.fits(row, inc, side):
            return self._of_open(row, inc, side)
        if verdict := self._answer(row, inc, old, side):
            return verdict
        if old == UNKNOWN:
            return self._homeless(row, inc, side)
        if old != inc and self._history.fits(row, inc, side) and not self._history.older_by_signs(row, old, inc, side):
            return self._of_open(row, inc, side)
        return self._of_old(row, old, side)

    def _of_open(self, row: int, inc: int, side: int) -> Verdict:
        """Judge a packet whose numbers are the open connection's.

        Only its identification can speak against it. An ACK without data proves nothing: machines
        in front of a server send such ACKs with other identifications.
        """
        empty = not self._rows.ln[row] and self._rows.flags[row] & 63 == ACK
        if not empty and (sign := self._out_of_sequence(row, inc, side)):
            past = self._history.past(inc, side)
            return Verdict(FOREIGN, sign, row, past.rows[past.rows < row][-1:].tolist(), inc)
        return Verdict("", "", row)

    def _put_in(self, row: int, inc: int, side: int) -> Verdict:
        """Judge a packet that was not seen where its direction is seen first."""
        past = self._history.past(inc, side)
        rule, against = (
            "it did not pass the interface where its direction is seen first",
            past.rows[past.rows < row][-1:].tolist(),
        )
        if sign := self._out_of_sequence(row, inc, side):
            return Verdict(FOREIGN, f"{sign}; and {rule}", row, against, inc)
        if self._history.continues(row, inc, side):
            return Verdict("", "", row)
        return Verdict(UNDECIDED, f"{rule}: put in between, or missed by the capture there", row, against, inc)

    def _out_of_sequence(self, row: int, inc: int, side: int) -> str:
        """Describe an identification that is far from those around the packet.

        Empty if it is not far from them, or if that says nothing.
        """
        past, identity = self._history.past(inc, side), int(self._rows.ipid[row])
        ids = past.ipid.astype(np.int64)
        before = ids[(past.rows < row) & (ids != 0)][-2:].tolist()
        behind = ids[(past.rows > row) & (ids != 0)][:2].tolist()
        around = [*before, *behind]
        if (
            not identity
            or len(around) < 2
            or not all(0 < (b - a) % _ID_CIRCLE <= SLACK_IDS for a, b in pairwise(around))
        ):
            return ""
        if not behind and not self._elsewhere[row]:
            return ""
        if min((identity - around[0]) % _ID_CIRCLE, (around[0] - identity) % _ID_CIRCLE) <= _FAR_IDS:
            return ""
        return f"its IP identification {identity} is far from those around it, {', '.join(map(str, around))}"

    # What it is

    def _held_between(self, row: int) -> Verdict:
        rows, first = self._rows, self._first[row]
        took = int(rows.t[row] - rows.t[first])
        return Verdict(DELAYED, "held between two interfaces", row, [first], int(self._made.of[first]), took)

    def _again(self, row: int, side: int) -> Verdict:
        rows, first = self._rows, self._first[row]
        old = int(self._made.of[first])
        past, age = self._history.past(old, side), int(rows.t[row] - rows.t[first])
        made = Verdict(COPY, "", row, [first], old, age)
        identity = int(rows.ipid[row])
        stamp = bool(rows.bits[row] & STAMPED) and self._ticked(past, row)
        closed = 0 <= int(self._made.closed_at[old]) < row or int(self._made.of[row]) != old
        if not rows.bits[row] & SIX and identity and past.counting and (closed or stamp or self._elsewhere[row]):
            made.rule = f"identical, and so is the IP identification {identity}, which counts in this direction"
            return made
        empty = not rows.ln[row] and not rows.flags[row] & (SYN | FIN)
        if empty and (answer := self._answer(row, int(self._made.of[row]), old, side)):
            return answer
        if self._elsewhere[row]:
            made.rule = "identical, and it did not pass the interface where its direction is seen first"
        elif stamp and age >= (_ANSWER_NS if empty else _TICK_NS):
            made.rule = "identical, and so is the timestamp, which a new transmission would have moved"
        elif not closed:
            return Verdict("", "", row)  # a repetition in an open connection: some hosts keep the identification
        else:
            made.kind = UNDECIDED
            made.rule = (
                "identical, but neither an identification that counts nor a timestamp tells a copy from a repetition"
            )
        return made

    def _ticked(self, past: Past, row: int) -> bool:
        return past.ticking or (past.stamped and bool((past.tsval != self._rows.tsval[row]).any()))

    def _answer(self, row: int, inc: int, old: int, side: int) -> Verdict | None:
        """Recognize the hosts' answers to late segments.

        These are RSTs, the ACK of TIME_WAIT, challenge ACKs, keepalives and their answers.
        """
        rows = self._rows
        flags, seq, ack = int(rows.flags[row]), int(rows.seq[row]), int(rows.ack[row])
        belongs = old if old != UNKNOWN else inc
        cause = self._cause(row, side, flags, seq, ack)
        if flags & RST:
            if cause >= 0:
                return Verdict(ANSWER, "RST that answers a segment", row, [cause], belongs)
            own = self._history.past(belongs, side)
            if len(own.rows) and own.position(seq) == own.last:
                return Verdict(ANSWER, "RST at the next number of the closed end", row, [int(own.rows[-1])], belongs)
            return None
        if (
            flags & SYN
            and flags & ACK
            and cause >= 0
            and rows.flags[cause] & SYN
            and rows.bits[cause] & (AGAIN | STRAY)
        ):
            return Verdict(ANSWER, "SYN and ACK that answer a late SYN", row, [cause], belongs)
        if flags & 63 == ACK and not rows.ln[row] and old == UNKNOWN and cause >= 0 and rows.flags[cause] & SYN:
            return Verdict(ANSWER, "ACK that answers a SYN, from a connection that was not seen", row, [cause], belongs)
        if flags & (SYN | FIN) or rows.ln[row] > 1 or not flags & ACK or old == UNKNOWN:
            return None
        own, peer = self._history.past(old, side), self._history.past(old, 1 - side)
        if not len(own.rows):
            return None
        at_end = own.position(seq) == own.last
        whole = not len(peer.rows) or peer.position(ack) == peer.last
        identity = int(rows.ipid[row])
        if cause < 0 and identity and own.orderly and not self._history.continues(row, old, side):
            return None  # no packet called for it, and the host counts elsewhere
        if own.position(seq) == own.last - 1 and whole and not self._history.is_older(row, own):
            return Verdict(ANSWER, "keepalive", row, [int(own.rows[-1])], old)
        if at_end and whole and not rows.ln[row] and (cause >= 0 or not self._history.is_older(row, own)):
            against = [cause] if cause >= 0 else [int(own.rows[-1])]
            return Verdict(ANSWER, "ACK with the last numbers of the closed connection", row, against, old)
        return None

    def _cause(self, row: int, side: int, flags: int, seq: int, ack: int) -> int:
        """Find the packet of the other direction that this one answers.

        -1 if there is no such packet. SYN/ACKs are repeated; all other answers come within 1 s.
        """
        rows = self._rows
        for other in range(row - 1, max(-1, row - 1 - _BACK), -1):
            if rows.key[other] != rows.key[row] or (rows.t[row] - rows.t[other] > _ANSWER_NS and not flags & SYN):
                break
            if int(rows.bits[other] & 1) == side or rows.flags[other] & RST:
                continue
            end = (
                int(rows.seq[other])
                + int(rows.ln[other])
                + bool(rows.flags[other] & SYN)
                + bool(rows.flags[other] & FIN)
            )
            if flags & RST:
                if (rows.flags[other] & ACK and int(rows.ack[other]) == seq) or (flags & ACK and ack == end % CIRCLE):
                    return other
                continue
            if flags & SYN:
                if rows.flags[other] & SYN and ack == end % CIRCLE:
                    return other
                continue
            over = self._made.closed_at[self._made.of[other]] >= 0 or self._made.of[other] != self._made.of[row]
            if over or (rows.flags[other] & SYN and ack != end % CIRCLE):
                return other
        return -1

    def _sent_before(self, row: int, old: int, side: int) -> Verdict | None:
        """Recognize a packet that was sent before in another form.

        It is a part of an offloaded packet, or a packet of the connection had the same
        identification.
        """
        rows, past = self._rows, self._history.past(old, side)
        seq, end = self._history.extent(row, past)
        identity = int(rows.ipid[row]) if not rows.bits[row] & SIX else 0
        for other in (
            np.nonzero((past.seq <= seq) & (past.end >= end) & (past.end > past.seq))[0].tolist() if end > seq else []
        ):
            if self._is_part(row, past, other, seq, identity):
                first = int(past.rows[other])
                rule = (
                    "a wire segment of an offloaded one: its range, timestamp, and the identification "
                    f"{identity} in its sequence"
                )
                return Verdict(COPY, rule, row, [first], old, int(rows.t[row] - rows.t[first]))
        used = past.rows[past.fresh == identity].tolist() if identity and past.counting else []
        for first in used:
            if all(column[first] == column[row] for column in (rows.seq, rows.ack, rows.ln, rows.flags)):
                rule = f"the same numbers and IP identification {identity}; its options were changed on the way"
                return Verdict(COPY, rule, row, [first], old, int(rows.t[row] - rows.t[first]))
        if not used:
            return None
        first = used[0]
        age = int(rows.t[row] - rows.t[first])
        return Verdict(FOREIGN, f"its IP identification {identity} was used for other numbers", row, [first], old, age)

    def _of_old(self, row: int, old: int, side: int) -> Verdict:
        """Judge a packet with the numbers of a closed connection, neither answer nor copy."""
        if verdict := self._sent_before(row, old, side):
            return verdict
        rows, past = self._rows, self._history.past(old, side)
        seq, end = self._history.extent(row, past)
        identity = int(rows.ipid[row]) if not rows.bits[row] & SIX else 0
        over = (
            np.nonzero((past.seq <= seq) & (past.end >= end) & (past.end > past.seq))[0]
            if end > seq
            else np.zeros(0, np.int64)
        )
        stamped = bool(rows.bits[row] & STAMPED) and past.stamped
        older = stamped and after(int(past.tsval[-1]), int(rows.tsval[row]))
        newer = stamped and not older
        in_gap = self._history.id_fits(identity, past)
        if older or (in_gap and not newer):
            neighbour = self._neighbour(row, past, stamped, identity)
            sign = "timestamp" if older else f"identification {identity}"
            rule = f"not seen before, and its {sign} is older than that of later segments"
            return Verdict(DELAYED, rule, row, [int(past.rows[neighbour])], old, int(rows.t[row] - past.t[neighbour]))
        sent = end > seq and covered(past, seq, end)
        used = past.ipid[past.ipid != 0]
        ahead = bool(identity) and len(used) > 0 and 0 < (identity - int(used[-1])) % 65536 <= _FAR_IDS
        if sent and (newer or ahead):
            first = int(past.rows[over[0]]) if len(over) else int(past.rows[np.argmax(past.end > seq)])
            sign = "timestamp" if newer else "IP identification"
            return Verdict(
                RETRANSMISSION,
                f"bytes that were sent before, with a newer {sign}",
                row,
                [first],
                old,
                int(rows.t[row] - rows.t[first]),
            )
        against = [int(past.rows[-1])] if len(past.rows) else []
        return Verdict(UNDECIDED, "numbers of the closed connection, but nothing dates it", row, against, old)

    def _is_part(self, row: int, past: Past, other: int, seq: int, identity: int) -> bool:
        """Tell whether the packet is a wire segment of a larger one.

        The identification of its k-th segment is k above that of the larger packet.
        """
        rows, first = self._rows, int(past.rows[other])
        size, whole = int(rows.ln[row]), int(rows.ln[first])
        if not 0 < size < whole or not past.counting or not identity or rows.ack[first] != rows.ack[row]:
            return False
        if (rows.bits[first] ^ rows.bits[row]) & STAMPED or rows.tsval[first] != rows.tsval[row]:
            return False
        offset, step = seq - int(past.seq[other]), (identity - int(rows.ipid[first])) % 65536
        return step == offset // size if offset % size == 0 else 0 < step <= -(-whole // _LEAST_SEGMENT)

    def _neighbour(self, row: int, past: Past, stamped: bool, identity: int) -> int:
        """Return the index in `past` of the first packet that was sent after this one."""
        if stamped:
            later = [after(int(value), int(self._rows.tsval[row])) for value in past.tsval]
            return later.index(True) if True in later else len(later) - 1
        ahead = (past.fresh.astype(np.int64) - identity) % 65536
        return int(np.argmin(np.where((past.fresh != 0) & (ahead > 0), ahead, 1 << 17)))

    def _homeless(self, row: int, inc: int, side: int) -> Verdict:
        """Judge a packet whose numbers fit neither the open connection nor one before it."""
        rows, identity = self._rows, int(self._rows.ipid[row])
        other = inc
        for _ in range(_DEPTH):
            past = self._history.past(other, side)
            used = np.nonzero((past.fresh == identity) & (past.rows != row))[0]
            if identity and past.counting and len(used) and not rows.bits[row] & SIX:
                first = int(past.rows[used[0]])
                rule = f"its numbers fit no connection, and its IP identification {identity} was used for others"
                return Verdict(FOREIGN, rule, row, [first], other, int(rows.t[row] - rows.t[first]))
            other = int(self._made.previous[other])
            if other < 0:
                break
        return Verdict(UNDECIDED, "its numbers fit no connection that was seen", row, [], UNKNOWN)
