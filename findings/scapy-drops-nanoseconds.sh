#!/usr/bin/env bash
# scapy reads a capture with nanoseconds and writes it back with microseconds, without a word.
#
# Guess: wrpcap(rdpcap(file)) keeps the times: each packet has its own as an exact Decimal.
# Happened: rdpcap reads all nine digits. wrpcap writes a file of the microsecond kind, unless it is told
# nano=True, and rounds. So two segments 400 ns apart get one time; which was first is told by their order alone.
# Matters to: scripts that cut or anonymise captures before they are compared or merged.
# Versions: scapy 2.8.0.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
pypi scapy==2.8.0

python3 - >seen <<'PY'
from decimal import Decimal

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.utils import PcapWriter, rdpcap, wrpcap

segments = []
for at in ("1700000000.123456600", "1700000000.123457000"):
    segment = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="10.0.0.1", dst="10.0.0.2") / TCP()
    segment.time = Decimal(at)
    segments.append(segment)
with PcapWriter("given.pcap", nano=True) as writer:
    writer.write(segments)
wrpcap("made.pcap", rdpcap("given.pcap"))
wrpcap("asked.pcap", rdpcap("given.pcap"), nano=True)
for name in ("given", "made", "asked"):
    print(name, *(packet.time for packet in rdpcap(f"{name}.pcap")))
PY

expect <<'SEEN'
given 1700000000.123456600 1700000000.123457000
made 1700000000.123457 1700000000.123457
asked 1700000000.123456600 1700000000.123457000
SEEN
