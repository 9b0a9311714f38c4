#!/usr/bin/env bash
# nstat subtracts the counters of one network namespace from those of another, without a word.
#
# Guess: nstat shows, in each namespace, what was counted there since its last call there.
# Happened: it keeps one history file for each user, /tmp/.nstat.uUID, for all namespaces. After 5
# connections in one namespace, 7 in a second are shown as 2; 3 in a third are not shown at all.
# Matters to: people who compare namespaces or containers that share /tmp: small differences look
# believable. nstat -a and -s, or NSTAT_HISTORY with a file for each namespace, avoid it.
# nstat(8) says "increments since the previous use", and not that all namespaces share the use.
# Versions: iproute2 6.1.0, Linux 6.18.44.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
deb iproute2=6.1.0-3
needs python3

cat >connect.py <<'PY'
import socket
import sys

with socket.create_server(("127.0.0.1", 8000)):
    for _ in range(int(sys.argv[1])):
        socket.create_connection(("127.0.0.1", 8000))
PY
cat >namespaces.sh <<'SH'
# An empty /tmp for this script, with the working directory in its old place.
mkdir /run/keep
mount --bind "$PWD" /run/keep
mount -t tmpfs none /tmp
mkdir -p "$PWD"
mount --bind /run/keep "$PWD"
cd "$PWD"
unset NSTAT_HISTORY
for count in 5 7 3; do
    unshare --net sh -c '
        ip link set lo up && python3 connect.py $1
        echo "$1 connections: nstat says $(nstat TcpActiveOpens | sed -n "s/TcpActiveOpens *\([0-9]*\).*/\1/p")."
    ' sh $count
done
SH
alone sh namespaces.sh >seen

expect <<'SEEN'
5 connections: nstat says 5.
7 connections: nstat says 2.
3 connections: nstat says .
SEEN
