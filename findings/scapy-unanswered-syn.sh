#!/usr/bin/env bash
# Scapy's sr1() reports no answer to a SYN that Linux does answer: with a challenge ACK.
#
# Guess: sr1() returns the first segment that comes back between the same addresses and ports, so a challenge
# ACK (RFC 5961, section 4.2) and the ACK of a TIME_WAIT are the answer.
# Happened: it waits in vain, and returns None, while a sniffer beside it sees the ACK. TCP.answers() demands
# that the ACK acknowledges the SYN; these two acknowledge what the connection had. To a port where nothing
# is, and to a free one, the same call returns RST and SYN-ACK.
# Matters to: tests of what a stack answers in ESTABLISHED and TIME_WAIT, and probes for stale connections:
# "no answer" reads as a drop on the way. A sniffer beside it tells the two apart.
# Versions: scapy 2.8.0, Linux 6.18.44.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
pypi scapy==2.8.0

cat >server.py <<'PY'
import socket

with socket.create_server(("10.2.0.2", 80)) as listener:
    kept = []
    while True:
        connection = listener.accept()[0]
        kept.append(connection)
        if connection.recv(1) == b"c":  # this end closes first, and has the TIME_WAIT
            connection.close()
PY
cat >probe.py <<'PY'
import socket
import time

from scapy.all import IP, TCP, AsyncSniffer, conf, sr1

conf.verb = 0


def sniffing(host):
    sniffer = AsyncSniffer(iface="eth0", filter=f"tcp and src host {host}")
    sniffer.start()
    time.sleep(0.5)
    return sniffer


def probe(what, sport, dport=80, seq=1):
    sniffer = sniffing("10.2.0.2")
    answer = sr1(IP(dst="10.2.0.2") / TCP(sport=sport, dport=dport, flags="S", seq=seq), timeout=1)
    seen = " ".join(str(packet[TCP].flags) for packet in sniffer.stop())
    print(f"SYN {what}: sr1 returns {answer and answer[TCP].flags}, the sniffer has {seen}")


def opened(letter):
    """A connection, its port, and a sequence number below its first."""
    sniffer = sniffing("10.2.0.1")
    connection = socket.create_connection(("10.2.0.2", 80))
    connection.sendall(letter)
    time.sleep(0.5)
    return connection, connection.getsockname()[1], (sniffer.stop()[0][TCP].seq - 1000) % 2**32


probe("to a port without a listener", 1025, 81)
probe("to a listener", 1026)
established, port, below = opened(b"k")
probe("into ESTABLISHED", port, seq=below)
closing, port, below = opened(b"c")
closing.close()
time.sleep(0.2)
probe("below the sequence of a TIME_WAIT", port, seq=below)
PY
cat >wire.sh <<'SH'
ip netns add server
ip link add eth0 type veth peer name eth0 netns server
ip addr add 10.2.0.1/24 dev eth0 && ip link set eth0 up
ip -n server addr add 10.2.0.2/24 dev eth0 && ip -n server link set eth0 up
sysctl -qw net.ipv4.tcp_timestamps=0
ip netns exec server python3 server.py &
sleep 1
python3 probe.py
SH
alone sh wire.sh >seen

expect <<'SEEN'
SYN to a port without a listener: sr1 returns RA, the sniffer has RA
SYN to a listener: sr1 returns SA, the sniffer has SA
SYN into ESTABLISHED: sr1 returns None, the sniffer has A
SYN below the sequence of a TIME_WAIT: sr1 returns None, the sniffer has A
SEEN
