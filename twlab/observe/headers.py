"""Reads IP and TCP headers of many frames at once into columns."""

from __future__ import annotations

from collections import Counter, defaultdict
from ipaddress import ip_address
from socket import inet_ntoa
from typing import NamedTuple

import numpy as np

from twlab.observe import link, tunnels
from twlab.observe.frames import Frames, number, rows
from twlab.observe.packets import FORWARD, PARTIAL, SIX, STAMPED, SYN, Array, Packets, mixed

_IP4 = np.dtype(
    [
        ("vihl", "u1"),
        ("tos", "u1"),
        ("length", ">u2"),
        ("id", ">u2"),
        ("part", ">u2"),
        ("ttl", "u1"),
        ("protocol", "u1"),
        ("sum", ">u2"),
        ("src", ">u4"),
        ("dst", ">u4"),
    ]
)
_IP6 = np.dtype(
    [("first", ">u4"), ("length", ">u2"), ("protocol", "u1"), ("ttl", "u1"), ("src", "V16"), ("dst", "V16")]
)
_TCP = np.dtype(
    [
        ("sport", ">u2"),
        ("dport", ">u2"),
        ("seq", ">u4"),
        ("ack", ">u4"),
        ("size", "u1"),
        ("flags", "u1"),
        ("win", ">u2"),
        ("sum", ">u2"),
        ("urgent", ">u2"),
        ("o20", ">u4"),
        ("o24", ">u4"),
        ("o28", ">u4"),
        ("o32", ">u4"),
        ("o36", "V3"),
        ("o39", "u1"),
    ]
)
_TCP_PROTOCOL, _UDP = 6, 17
_IS_TUNNEL_4 = np.isin(np.arange(256), (4, 41, 47))  # by protocol
_TUNNELS_6 = (0, 4, 41, 43, 44, 47, 51, 60, 135)
_UDP_TUNNELS = (4789, 8472, 6081, 3544)
_USUAL = np.frombuffer(b"\x01\x01\x08\x0a", np.uint32)[0]  # NOP NOP timestamp, in this machine's byte order
_USUAL_SYN, _USUAL_SACK = 0x0402080A, 0x0101  # SACK permitted, timestamp; NOP NOP
_LEAST = 16  # bytes of a TCP header that must be there: up to the window
NO_SCALE = 255
_MOST_NETS = 65_535


class Tables:
    """The values that columns refer to by index, and counts of frames.

    Attributes:
        six: IPv6 addresses, 16 bytes each.
        nets: numbers of virtual networks; 0 first.
        counts: frames by what they are: ``tcp``, ``cut`` (before the TCP header's window),
            ``malformed``, ``fragment`` (one without a TCP header), ``unknown_link``.
        links: frames of link types that cannot be read, by LINKTYPE number.
    """

    def __init__(self) -> None:
        self.six: list[bytes] = []
        self._six: dict[bytes, int] = {}
        self.nets = [0]
        self._nets = {0: 0}
        self.counts: Counter[str] = Counter()
        self.links: Counter[int] = Counter()

    def intern(self, addresses: Array) -> Array:
        """Return the indices of IPv6 addresses (dtype V16)."""
        different, inverse = np.unique(
            addresses.view("S16") if addresses.dtype.kind == "S" else addresses, return_inverse=True
        )
        indices = []
        for value in different.tolist():
            address = bytes(value)
            if address not in self._six:
                self._six[address] = len(self.six)
                self.six.append(address)
            indices.append(self._six[address])
        return np.array(indices, np.uint32)[inverse.reshape(-1)]

    def net_indices(self, nets: Array) -> Array:
        """Return the indices of virtual networks.

        Those past the 65,535th share the last index.
        """
        if not nets.any():
            return np.zeros(len(nets), np.uint16)
        different, inverse = np.unique(nets, return_inverse=True)
        for value in different.tolist():
            if value not in self._nets and len(self.nets) <= _MOST_NETS:
                self._nets[value] = len(self.nets)
                self.nets.append(value)
        return np.array([self._nets.get(value, _MOST_NETS) for value in different.tolist()], np.uint16)[
            inverse.reshape(-1)
        ]

    def packed(self, value: int, six: bool) -> bytes:
        """Return the bytes of an address from its value in a column."""
        return self.six[value] if six else value.to_bytes(4, "big")

    def address(self, value: int, six: bool) -> str:
        """Return an address as text."""
        packed = self.packed(value, six)
        return str(ip_address(packed)) if six else inet_ntoa(packed)


class _Found:
    """The TCP headers of a batch.

    For each: index of the frame, where IP and TCP begin, whether it is IPv6, the virtual network.
    And from its frame: where its captured bytes end, and where its bytes on the wire would.
    """

    def __init__(self, frames: Frames, frame: Array, ip: Array, tcp: Array, six: Array, net: Array):
        self.frame, self.ip, self.tcp, self.six, self.net = frame, ip, tcp, six, net
        # A frame has one TCP header at most, so as many headers as frames are those of all frames
        # in their order.
        self.which = slice(None) if len(frame) == len(frames) else frame
        start = frames.start[self.which]
        self.kept_end, self.wire_end = start + frames.kept[self.which], start + frames.length[self.which]


def read(frames: Frames, tables: Tables, places: Array) -> Packets:
    """Read the TCP packets in `frames`, in their order.

    Args:
        tables: take in new addresses and virtual networks, and count.
        places: number of an interface in the file to its number among all.
    """
    return locate(frames, tables, places).packets


class Located(NamedTuple):
    """Packets and where each was found.

    Attributes:
        packets: as `read` gives them.
        frame: the index of each one's frame.
        tcp: where its TCP header begins in the buffer.
        behind: of a frame that begins a fragmented datagram: the frames with the other fragments.
    """

    packets: Packets
    frame: Array
    tcp: Array
    behind: dict[int, list[int]]


class _Datagram:
    """The fragments of a datagram: those with and without a TCP header, and its bytes behind IP."""

    def __init__(self) -> None:
        self.heads: list[int] = []
        self.others: list[int] = []
        self.size = 0


def locate(frames: Frames, tables: Tables, places: Array) -> Located:
    """Read the TCP packets in `frames`, and say where each was found."""
    if frames.link not in link.KNOWN:
        tables.links[frames.link] += len(frames)
        tables.counts["unknown_link"] += len(frames)
        return Located(Packets(0), np.zeros(0, np.int64), np.zeros(0, np.int64), {})
    found, datagrams = _find(frames, tables)
    good = found.tcp + _LEAST <= found.kept_end
    tables.counts["cut"] += int(len(good) - good.sum())
    if not good.all():
        found = _Found(frames, *(column[good] for column in (found.frame, found.ip, found.tcp, found.six, found.net)))
    packets, whole = _columns(frames, found, tables, places, datagrams)
    tables.counts["malformed"] += int(len(whole) - whole.sum())
    tables.counts["tcp"] += int(whole.sum())
    behind = {head: one.others for one in datagrams for head in one.heads}
    if whole.all():
        return Located(packets, found.frame, found.tcp, behind)
    return Located(packets.take(whole), found.frame[whole], found.tcp[whole], behind)


def _find(frames: Frames, tables: Tables) -> tuple[_Found, list[_Datagram]]:
    """Find the TCP headers, and the datagrams that are fragmented."""
    data, end = frames.data, frames.start + frames.kept
    at, net, kind = link.ip_headers(frames)
    is_four = (kind == 4) & (at + 20 <= end)
    four = np.nonzero(is_four)[0]
    at_four = at if is_four.all() else at[four]
    header = rows(data, at_four, _IP4)
    size, protocol = (header["vihl"] & 15).astype(np.int64) * 4, header["protocol"]
    whole = (header["part"] & 0x3FFF) == 0
    plain = (protocol == _TCP_PROTOCOL) & whole & (size >= 20)
    odd = (_IS_TUNNEL_4[protocol] | ~whole) & ~plain
    datagram = np.nonzero((protocol == _UDP) & whole)[0]
    odd[datagram] |= _to_tunnel(data, at[four[datagram]] + size[datagram], end[four[datagram]])
    rare_four = four[odd]
    six = np.nonzero((kind == 6) & (at + 40 <= end))[0]
    plain_six, odd_six = six[:0], six[:0]
    if len(six):
        protocol = number(data, at[six] + 6, "u1")
        plain_six = six[protocol == _TCP_PROTOCOL]
        odd = np.isin(protocol, _TUNNELS_6)
        datagram = np.nonzero(protocol == _UDP)[0]
        odd[datagram] |= _to_tunnel(data, at[six[datagram]] + 40, end[six[datagram]])
        odd_six = six[odd]
    if not plain.all():
        four, at_four, size = four[plain], at_four[plain], size[plain]
    found = four, at_four, at_four + size, np.zeros(len(four), bool), net[four]
    rare = np.concatenate([rare_four, odd_six, np.nonzero(kind > 6)[0]])
    if not len(rare) and not len(plain_six):
        return _Found(frames, *found), []
    looked, datagrams = _look(frames, np.sort(rare), at, kind, net, tables)
    parts = [
        found,
        (plain_six, at[plain_six], at[plain_six] + 40, np.ones(len(plain_six), bool), net[plain_six]),
        looked,
    ]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return _Found(frames, *(column[order] for column in columns)), datagrams


def _to_tunnel(data: bytearray, at: Array, end: Array) -> Array:
    """Flag the UDP headers, which begin at `at`, that have the port of a tunnel."""
    at = np.minimum(at, end)
    return np.isin(number(data, at + 2, ">u2"), _UDP_TUNNELS) | (number(data, at, ">u2") == tunnels.TEREDO)


def _look(
    frames: Frames, rare: Array, at: Array, kind: Array, net: Array, tables: Tables
) -> tuple[tuple[Array, ...], list[_Datagram]]:
    """Look into rare frames one by one."""
    rows_found: list[tuple[int, int, int, bool, int]] = []
    datagrams: defaultdict[bytes, _Datagram] = defaultdict(_Datagram)
    end = frames.start + frames.kept
    for index in rare.tolist():
        inner = tunnels.look(frames.data, int(at[index]), int(end[index]), int(kind[index]), int(net[index]))
        if inner is None:
            continue
        if inner.fragment:
            datagram = datagrams[inner.fragment]
            datagram.size = max(datagram.size, inner.end)
            (datagram.heads if inner.tcp >= 0 else datagram.others).append(index)
        if inner.tcp < 0:
            tables.counts["fragment"] += 1
            continue
        rows_found.append((index, inner.ip, inner.tcp, inner.version == 6, inner.net))
    columns = list(zip(*rows_found, strict=True)) or [()] * 5
    kinds = (np.int64, np.int64, np.int64, bool, np.uint64)
    return tuple(np.array(column, dtype) for column, dtype in zip(columns, kinds, strict=True)), list(
        datagrams.values()
    )


def _columns(
    frames: Frames, found: _Found, tables: Tables, places: Array, datagrams: list[_Datagram]
) -> tuple[Packets, Array]:
    """Make the columns, and flag the rows that are consistent.

    Those have lengths that fit, and a TCP header of at least 20 bytes.
    """
    data, frame = frames.data, found.frame
    tcp = rows(data, found.tcp, _TCP)
    packets = Packets(len(frame))
    packets.t, packets.n = frames.t[found.which], frames.n[found.which]
    packets.off = frames.base + frames.start[found.which]
    packets.iface = places[frames.place[found.which]]
    for name in ("seq", "ack", "sport", "dport", "win"):
        setattr(packets, name, tcp[name].astype(tcp[name].dtype.newbyteorder("=")))
    packets.flags = tcp["flags"].copy()
    packets.bits = np.zeros(len(frame), np.uint8)
    end = _addresses(frames, found, packets, tables)
    size = (tcp["size"] >> 4).astype(np.int64) * 4
    length = end - found.tcp - size
    if datagrams:
        heads = np.array([head for one in datagrams for head in one.heads], np.int64)
        behind = np.array([one.size for one in datagrams for _ in one.heads], np.int64)
        _, at_head, in_frame = np.intersect1d(heads, frame, return_indices=True)
        length[in_frame], end[in_frame] = behind[at_head] - size[in_frame], found.tcp[in_frame]
        packets.bits[in_frame] |= PARTIAL
    whole = (size >= 20) & (length >= 0) & (length < 1 << 24) & (end <= np.maximum(found.wire_end, found.kept_end))
    packets.ln = np.where(whole, length, 0).astype(np.uint32)
    _options(data, found.tcp, size, found.kept_end, tcp, packets)
    _keys(packets, found.net)
    packets.net = tables.net_indices(found.net)
    return packets, whole


def _addresses(frames: Frames, found: _Found, packets: Packets, tables: Tables) -> Array:
    """Fill in the fields of the IP headers.

    Returns:
        Where each packet ends by its IP header.
    """
    data, six = frames.data, found.six
    all_four = not six.any()
    four = slice(None) if all_four else np.nonzero(~six)[0]
    header = rows(data, found.ip[four], _IP4)
    size = header["length"].astype(np.int64)
    end = np.where(
        size == 0, found.wire_end[four], found.ip[four] + size
    )  # 0: segmentation was left to the network card
    if all_four:
        packets.src, packets.dst = header["src"].astype(np.uint32), header["dst"].astype(np.uint32)
        packets.ttl, packets.ipid = header["ttl"].copy(), header["id"].astype(np.uint16)
        return end
    packets.src[four], packets.dst[four] = header["src"], header["dst"]
    packets.ttl[four], packets.ipid[four] = header["ttl"], header["id"]
    which = np.nonzero(six)[0]
    header = rows(data, found.ip[which], _IP6)
    packets.src[which], packets.dst[which] = tables.intern(header["src"]), tables.intern(header["dst"])
    packets.ttl[which], packets.ipid[which] = header["ttl"], 0
    packets.bits[which] |= SIX
    all_ends = np.empty(len(six), np.int64)
    all_ends[four] = end
    size = header["length"].astype(np.int64)
    all_ends[which] = np.where(size == 0, found.wire_end[which], found.ip[which] + 40 + size)
    return all_ends


def _options(data: bytearray, at: Array, size: Array, end: Array, tcp: Array, packets: Packets) -> None:
    """Fill in timestamps and window scales."""
    room = np.minimum(at + size, end) - at
    stamped = (tcp["o20"].view(np.uint32) == _USUAL) & (room >= 32)
    packets.tsval, packets.tsecr = tcp["o24"].astype(np.uint32), tcp["o28"].astype(np.uint32)
    packets.scale = np.full(len(at), NO_SCALE, np.uint8)
    other = np.nonzero(~stamped)[0]
    head, space = tcp[other], room[other]
    usual_syn = (head["o24"] == _USUAL_SYN) & (space >= 40) & ((head["flags"] & SYN) != 0)
    packets.tsval[other] = np.where(usual_syn, head["o28"], 0)
    packets.tsecr[other] = np.where(usual_syn, head["o32"], 0)
    packets.scale[other[usual_syn]] = head["o39"][usual_syn]
    stamped[other] = usual_syn
    packets.bits |= stamped.view(np.uint8) * np.uint8(STAMPED)
    packets.bits |= (at + size > end).view(np.uint8) * np.uint8(PARTIAL)
    first = head["o20"]
    sack_alone = (first >> 16 == _USUAL_SACK) & ((first >> 8 & 255) == 5) & ((first & 255) == size[other] - 22)
    for row in other[(space > 20) & ~usual_syn & ~sack_alone].tolist():
        begin = int(at[row])
        for kind, body in _each_option(data[begin + 20 : begin + int(room[row])]):
            if kind == 8 and len(body) == 8:
                packets.tsval[row], packets.tsecr[row] = (
                    int.from_bytes(body[:4], "big"),
                    int.from_bytes(body[4:], "big"),
                )
                packets.bits[row] |= STAMPED
            elif kind == 3 and len(body) == 1:
                packets.scale[row] = body[0]


def _each_option(options: bytearray) -> list[tuple[int, bytearray]]:
    at, found = 0, []
    while at < len(options) and options[at]:
        if options[at] == 1:
            at += 1
            continue
        size = options[at + 1] if at + 1 < len(options) else 0
        if size < 2 or at + size > len(options):
            break
        found.append((options[at], options[at + 2 : at + size]))
        at += size
    return found


def _keys(packets: Packets, net: Array) -> None:
    """Fill in the four-tuple's key, the direction, and the hash that copies share."""
    shift = np.uint64(16)
    six = (packets.bits & SIX).astype(np.uint64) << np.uint64(48)
    one = packets.src.astype(np.uint64) << shift | packets.sport | six
    other = packets.dst.astype(np.uint64) << shift | packets.dport | six
    forward = one <= other
    packets.bits |= forward.astype(np.uint8) * np.uint8(FORWARD)
    low, high = np.minimum(one, other), np.maximum(one, other)
    packets.key = mixed(mixed(low) + high + net * np.uint64(0x9E3779B97F4A7C15))
    half = np.uint64(32)
    same: Array = packets.key ^ forward
    for column in (
        packets.seq.astype(np.uint64) << half | packets.ack,
        packets.tsval.astype(np.uint64) << half | packets.tsecr,
        packets.ipid.astype(np.uint64) << np.uint64(48)
        | packets.flags.astype(np.uint64) << np.uint64(40)
        | packets.ln.astype(np.uint64) << np.uint64(16)
        | packets.win,
    ):
        same ^= column
        same *= np.uint64(0xD6E8FEB86659FD93)
        same ^= same >> half
    same *= np.uint64(0xD6E8FEB86659FD93)
    packets.same = same
