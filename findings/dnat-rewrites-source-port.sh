#!/usr/bin/env bash
# With a DNAT rule alone, Linux also rewrites a source port, unasked, and counts nothing.
#
# Guess: a client uses one source port to a virtual address and to the backend behind it. Without a SNAT
# rule the source is left alone, so the two connections collide behind the gateway and the second fails.
# Happened: both open at once. The gateway gives the later one another source port towards the backend,
# whichever comes first, translated or not. No rule asks for it, and the client cannot see it.
# Matters to: people who match flows by source port on both sides of a load balancer (captures, audit logs),
# or who open "the same port" on purpose: the backend sees a port that the client never used.
# Versions: nftables 1.0.6, Linux 6.18.44.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
deb nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11=1.2.4-2
needs python3
gateway

cat >client.py <<'PY'
import socket

VIRTUAL, BACKEND = "10.9.0.9", "10.2.0.2"
kept = []
for own, order in ((5001, (VIRTUAL, BACKEND)), (5002, (BACKEND, VIRTUAL))):
    for destination in order:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        connection.settimeout(2)
        connection.bind(("", own))
        connection.connect((destination, 80))
        kept.append(connection)
        address, port = connection.recv(100).decode().split()
        port = "the same" if int(port) == own else "another one"
        print(f"from port {own} to {destination}: the backend sees address {address}, port {port}")
PY
cat >dnat.sh <<'SH'
. ./gateway.sh
ip netns exec server python3 server.py &
sleep 1
rule='table ip n {\nchain p {\ntype nat hook prerouting priority -100;\n ip daddr 10.9.0.9 dnat to 10.2.0.2\n}\n}\n'
printf "$rule" | ip netns exec gate nft -f -
ip netns exec client python3 client.py
SH
alone sh dnat.sh >seen

expect <<'SEEN'
from port 5001 to 10.9.0.9: the backend sees address 10.1.0.2, port the same
from port 5001 to 10.2.0.2: the backend sees address 10.1.0.2, port another one
from port 5002 to 10.2.0.2: the backend sees address 10.1.0.2, port the same
from port 5002 to 10.9.0.9: the backend sees address 10.1.0.2, port another one
SEEN
