#!/usr/bin/env bash
# In a container without one connection, ss -s counts the whole machine's as "closed" and "orphaned".
#
# Guess: like every other view of ss, and like its own "estab" and "timewait", the line TCP of ss -s
# counts the sockets of the network namespace that it runs in: in an empty one, zeros.
# Happened: 300 connections of another namespace, one end of each closed with data that the other does not
# take yet, are here as well: as 600 or more "closed" and 300 or more "orphaned", in a total that no listing
# of ss explains.
# Cause: of the line TCP in /proc/net/sockstat (net/ipv4/proc.c), inuse and tw are the namespace's, and
# orphan, alloc and mem are the machine's. ss reckons "closed" as alloc less inuse.
# Matters to: people who look for a leak of sockets in a container or pod, and find the neighbours'.
# proc(5) does not tell the two kinds apart; ss -Htan | wc -l counts what is here.
# Versions: iproute2 6.1.0 (6.15.0 alike), Linux 6.18.44.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
deb iproute2=6.1.0-3
needs python3

cat >look.sh <<'SH'
summary() { ss -s | sed -n "s/^TCP: .*$1 \([0-9]*\).*/\1/p"; }
at_least() { if [ "$2" -ge "$1" ]; then echo "$1 or more"; else echo "$2"; fi; }
echo "TCP sockets that ss lists: $(ss -Htan | wc -l)"
echo "estab: $(summary estab)"
echo "closed: $(at_least 600 "$(summary closed)")"
echo "orphaned: $(at_least 300 "$(summary orphaned)")"
sed -n 's/^TCP: \(inuse [0-9]*\) .*\( tw [0-9]*\) .*/sockstat: \1\2/p' /proc/net/sockstat
SH
cat >connections.py <<'PY'
import socket
import subprocess

with socket.create_server(("127.0.0.1", 8000), backlog=300) as server:
    kept = []
    for _ in range(300):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        client.connect(("127.0.0.1", 8000))
        kept.append(server.accept()[0])
        client.setblocking(False)
        try:
            while client.send(bytes(65536)):
                pass
        except BlockingIOError:
            client.close()  # its data waits for the peer: the kernel keeps an orphan
    subprocess.run(["unshare", "--net", "sh", "look.sh"], check=True)
PY
alone python3 connections.py >seen

expect <<'SEEN'
TCP sockets that ss lists: 0
estab: 0
closed: 600 or more
orphaned: 300 or more
sockstat: inuse 0 tw 0
SEEN
