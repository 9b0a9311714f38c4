#!/usr/bin/env bash
# When a copy from the previous connection arrives first, tshark calls the new connection's own data
# "retransmission".
#
# Guess: tshark marks the copy, which repeats a segment of the earlier connection of the same ports to the
# last bit, IP ID and timestamp included; and it marks none of the new connection's own segments.
# Happened: during the connection, or after its close, a late copy is a "spurious retransmission", in the
# same words as a segment that was really sent again (another IP ID and timestamp). In the next
# connection of the same ports the copy itself is "previous segment(s) not captured", and the two
# segments that carry those bytes for the first time are "retransmission". The IP IDs say which is which.
# Matters to: engineers who look for segments of dead connections: the words point at the wrong frames.
# Compare ip.id, and tcp.options.timestamp.tsval, with frames of the stream before.
# Versions: tshark 4.0.17, scapy 2.8.0 (which writes the capture).
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
pypi scapy==2.8.0
needs tshark
tshark --version 2>/dev/null | grep -q '4\.0\.17' || { echo "this needs tshark 4.0.17" >&2; exit 3; }

cat >write.py <<'PY'
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.utils import wrpcap

CLIENT, SERVER = ("10.0.0.1", 40000), ("10.0.0.2", 80)


def segment(at: float, sender: tuple, flags: str, seq: int, ack: int, ip_id: int, data: bytes = b"") -> Packet:
    receiver = SERVER if sender == CLIENT else CLIENT
    options = [("NOP", None), ("NOP", None), ("Timestamp", (int(at * 1000), 0))]
    made = (Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
            / IP(src=sender[0], dst=receiver[0], id=ip_id, flags="DF")
            / TCP(sport=sender[1], dport=receiver[1], flags=flags, seq=seq, ack=ack, window=60000, options=options)
            / data)
    return again(made, at)


def again(packet: Packet, at: float) -> Packet:
    """Return the same frame at another time."""
    same = Ether(bytes(packet))
    same.time = at
    return same


def connection(at: float, isn: int, peer: int, ip_id: int) -> list[Packet]:
    """Return a connection whose client sends three segments of 1,000 bytes and closes first."""
    made = [segment(at, CLIENT, "S", isn, 0, ip_id), segment(at + 0.01, SERVER, "SA", peer, isn + 1, 0),
            segment(at + 0.02, CLIENT, "A", isn + 1, peer + 1, ip_id + 1)]
    for i in range(3):
        seq, when = isn + 1 + 1000 * i, at + 0.1 * (i + 1)
        made += [segment(when, CLIENT, "PA", seq, peer + 1, ip_id + 2 + i, bytes([97 + i]) * 1000),
                 segment(when + 0.01, SERVER, "A", peer + 1, seq + 1000, 500 + i)]
    end = isn + 3001
    return [*made, segment(at + 0.5, CLIENT, "FA", end, peer + 1, ip_id + 5),
            segment(at + 0.51, SERVER, "FA", peer + 1, end + 1, 510),
            segment(at + 0.52, CLIENT, "A", end + 1, peer + 2, ip_id + 6)]


first, second = connection(1, 1_000_000, 5_000_000, 100), connection(4, 1_000_500, 9_000_000, 700)
late = first[5]  # the second data segment, IP ID 103
sent_again = segment(1.25, CLIENT, "PA", late[TCP].seq, late[TCP].ack, 150, bytes(late[TCP].payload))
wrpcap("again.pcap", sorted([*first, sent_again], key=lambda p: p.time))
wrpcap("closed.pcap", [*first, again(late, 3)])
wrpcap("next.pcap", sorted([*first, *second, again(late, 4.05)], key=lambda p: p.time))
PY
python3 write.py
for capture in again closed next; do
    tshark -r $capture.pcap -Y 'tcp.len > 0 && _ws.expert' -T fields -E separator=' ' \
        -e tcp.stream -e ip.id -e tcp.seq -e _ws.expert.message 2>/dev/null |
        sed "s/^/$capture: stream /; s/This frame is a (suspected) //g; s/ (common.*//"
done >seen

expect <<'SEEN'
again: stream 0 0x0096 1001 spurious retransmission,retransmission
closed: stream 0 0x0067 1001 spurious retransmission,retransmission
next: stream 1 0x0067 501 Previous segment(s) not captured
next: stream 1 0x02be 1 retransmission
next: stream 1 0x02bf 1001 retransmission
SEEN
