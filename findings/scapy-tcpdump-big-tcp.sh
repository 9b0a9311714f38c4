#!/usr/bin/env bash
# Of a real capture of BIG TCP over IPv4, scapy and tcpdump lose bytes in silence; dpkt reads all of them.
#
# Guess: scapy and tcpdump read frames above 65,535 bytes whole, and dpkt, which goes by the IP header's
# length, stumbles over the 0 that Linux writes there.
# Happened: the other way round. scapy's reader cuts every frame at 65,535 bytes and says nothing, tcpdump
# prints "IP bad-len 0", without ports, and its filters still match. dpkt gives every byte. tcptrace, too,
# takes such frames for nothing and counts fewer bytes than were sent.
# Matters to: readers of captures from hosts with gso_ipv4_max_size (Linux 6.3 and later): sums of bytes
# and reassembled streams are short, and no reader says so.
# Versions: scapy 2.8.0, dpkt 1.9.8, tcpdump 4.99.3, tcptrace 6.6.7, Linux 6.18.44.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
root
pypi scapy==2.8.0 dpkt==1.9.8
deb tcpdump=4.99.3-1 tcptrace=6.6.7-6+b1 libpcap0.8=1.10.3-1

cat >send.py <<'PY'
import socket
import struct
import subprocess
import sys

SIZE = 4_000_000
if sys.argv[1] == "receive":
    with socket.create_server(("10.3.0.2", 8000)) as listener:
        connection, _ = listener.accept()
        while connection.recv(1 << 20):
            pass
else:
    # iproute2 6.1 does not know gso_ipv4_max_size (63), gro_ipv4_max_size (64); 41 and 58 are for IPv6.
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as route:
        body = struct.pack("=BBHiII", 0, 0, 0, socket.if_nametoindex("v0"), 0, 0)
        body += b"".join(struct.pack("=HHI", 8, number, 180_000) for number in (41, 58, 63))
        route.send(struct.pack("=IHHII", 16 + len(body), 16, 5, 1, 0) + body)
        assert struct.unpack_from("=i", route.recv(4096), 16) == (0,), "this kernel has no BIG TCP for IPv4"
    dump = subprocess.Popen(["tcpdump", "-Z", "root", "-B", "65536", "-U", "-i", "v0", "-w", "big.pcap", "tcp"],
                            stderr=subprocess.PIPE, text=True)
    dump.stderr.readline()
    with socket.create_connection(("10.3.0.2", 8000)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_000_000)
        connection.sendall(b"x" * SIZE)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
    subprocess.run(["sleep", "1"], check=True)
    dump.terminate()
    dump.wait()
PY
cat >read.py <<'PY'
import re
import subprocess

import dpkt
from scapy.layers.inet import TCP
from scapy.utils import rdpcap

SIZE = 4_000_000
with open("big.pcap", "rb") as file:
    segments = [dpkt.ethernet.Ethernet(frame).data.data for _, frame in dpkt.pcap.Reader(file)]
big = max(len(segment.data) for segment in segments)
text = subprocess.run(["tcpdump", "-nr", "big.pcap", "dst port 8000"], capture_output=True, text=True).stdout
report = subprocess.run(["tcptrace", "-l", "big.pcap"], capture_output=True, text=True).stdout
sums = {
    "dpkt": sum(len(segment.data) for segment in segments if segment.dport == 8000),
    "scapy": sum(len(packet[TCP].payload) for packet in rdpcap("big.pcap") if packet[TCP].dport == 8000),
    "tcpdump": sum(map(int, re.findall(r"length (\d+)", text))),
    "tcptrace": int(re.search(r"actual data bytes: *(\d+)", report)[1]),
}
print("largest segment above 65,535 bytes:", big > 65535)
for name, size in sums.items():
    print(f"{name}: {'all bytes' if size == SIZE else 'fewer' if size < SIZE else 'more'}")
print("tcpdump says bad-len 0:", "bad-len 0" in text)
PY
cat >lab.sh <<'SH'
ip netns add other
ip link add v0 type veth peer name v1 netns other
ip addr add 10.3.0.1/24 dev v0 && ip link set v0 up
ip -n other addr add 10.3.0.2/24 dev v1 && ip -n other link set v1 up
ip netns exec other python3 send.py receive &
sleep 1
python3 send.py send && python3 read.py
SH
alone sh lab.sh >seen

expect <<'SEEN'
largest segment above 65,535 bytes: True
dpkt: all bytes
scapy: fewer
tcpdump: fewer
tcptrace: fewer
tcpdump says bad-len 0: True
SEEN
