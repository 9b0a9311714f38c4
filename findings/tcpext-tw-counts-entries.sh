#!/usr/bin/env bash
# TcpExtTW, "TCP sockets finished time wait" in netstat -s, counts sockets that have just begun it.
#
# Guess, from the words of netstat -s: the counter rises when TIME_WAIT ends, 60 s after a close.
# Happened: it rises at once, with the entry into TIME_WAIT. While ss still lists seven sockets in
# TIME_WAIT, netstat says that seven have finished it.
# Matters to: readers of dashboards: the rate is that of closes on this side now, not of a minute ago, and
# the difference to ActiveOpens is not the number of sockets that still wait.
# Versions: net-tools 2.10, iproute2 6.1.0, Linux 6.18.44.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
deb net-tools=2.10-0.1+deb12u2 iproute2=6.1.0-3
needs python3

cat >close.py <<'PY'
import socket

with socket.create_server(("127.0.0.1", 8000)) as listener:
    for _ in range(7):
        client = socket.create_connection(("127.0.0.1", 8000))
        server, _ = listener.accept()
        client.close()
        server.close()
PY
cat >count.sh <<'SH'
python3 close.py
echo "ss: $(ss -Htan state time-wait | wc -l) in TIME_WAIT"
nstat -asz TcpExtTW | awk '/TW/ { print "nstat:", $1, $2 }'
netstat -st | grep "time wait" | sed 's/^ */netstat: /'
SH
alone sh count.sh >seen

expect <<'SEEN'
ss: 7 in TIME_WAIT
nstat: TcpExtTW 7
netstat: 7 TCP sockets finished time wait in fast timer
SEEN
