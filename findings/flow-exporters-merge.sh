#!/usr/bin/env bash
# softflowd, nfpcapd and NFStream report two complete TCP connections through one port as one flow.
#
# Guess: FIN in both directions ends a flow, so that a client whose port is reused after 1.5 s gives two flows
# of four packets each way; softflowd(8) has a timeout for a "TCP session which closed through FIN".
# Happened: one flow of eight packets each way, 1.5 s long, though there are two SYN and two pairs of FIN.
# tcptrace and tshark, given the same capture, report two connections.
# Matters to: people who count connections, or reckon their length and size, from flow records, of servers
# that close first or of clients with tcp_tw_reuse: ports that come back within the exporter's timeout make
# few long connections out of many short ones.
# Versions: softflowd 1.1.0, nfdump 1.7.1, NFStream 6.6.0, tcptrace 6.6.7, tshark 4.0.17, Linux 6.18.44.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
deb softflowd=1.1.0-1+b1 nfdump=1.7.1-2+deb12u1 tcptrace=6.6.7-6+b1 tcpdump=4.99.3-1 libpcap0.8=1.10.3-1
pypi nfstream==6.6.0 numpy==2.4.6 pandas==3.1.1
needs tshark
tshark --version | grep -q '4\.0\.17' || { echo "this needs tshark 4.0.17" >&2; exit 3; }

cat >connections.py <<'PY'
import socket
import time

with socket.create_server(("127.0.0.1", 8080)) as server:
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", 8080)) as client:
            accepted, _address = server.accept()
            client.sendall(b"ask")
            accepted.recv(3)
            accepted.close()  # the server closes first: the client's port is free at once
            client.recv(1)
        time.sleep(1.5)
PY
cat >capture.sh <<'SH'
sysctl -qw net.ipv4.ip_local_port_range='40001 40001'
tcpdump -Z root -i lo -U --immediate-mode -w two.pcap tcp 2>tcpdump.log &
until grep -q listening tcpdump.log; do sleep 0.1; done
python3 connections.py
kill $!
wait
SH
alone sh capture.sh

cat >count.py <<'PY'
import re
import subprocess

from nfstream import NFStreamer


def run(*words):
    return subprocess.run(words, capture_output=True, text=True).stdout


tcptrace = re.findall(r" (\d+)> +(\d+)< .*\(complete\)", run("tcptrace", "-n", "two.pcap"))
print("tcptrace, packets each way:", *(" and ".join(pair) for pair in tcptrace), sep="  ")
streams = run("tshark", "-r", "two.pcap", "-T", "fields", "-e", "tcp.stream").split()
print("tshark, packets of each stream:", *(streams.count(number) for number in sorted({*streams})), sep="  ")
softflowd = subprocess.run(["softflowd", "-D", "-r", "two.pcap"], capture_output=True, text=True)
flows = re.findall(r"EXPIRED: .*packets>:(\d+)", softflowd.stdout + softflowd.stderr)
print("softflowd, packets of each direction:", *flows, sep="  ")
subprocess.run(["mkdir", "flows"], check=True)
run("nfpcapd", "-r", "two.pcap", "-l", "flows")
print("nfpcapd, packets of each direction:", *run("nfdump", "-q", "-R", "flows", "-o", "fmt:%pkt").split(), sep="  ")
print("NFStream, packets of each flow:", *(flow.bidirectional_packets for flow in NFStreamer("two.pcap")), sep="  ")
PY
alone python3 count.py >seen

expect <<'SEEN'
tcptrace, packets each way:  4 and 4  4 and 4
tshark, packets of each stream:  8  8
softflowd, packets of each direction:  8  8
nfpcapd, packets of each direction:  8  8
NFStream, packets of each flow:  16
SEEN
