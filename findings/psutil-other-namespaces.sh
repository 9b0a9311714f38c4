#!/usr/bin/env bash
# psutil lists no connections for a process in another network namespace, and no error.
#
# Guess: Process(pid).net_connections() shows the process's connections wherever it runs, as `ls /proc/PID/fd`
# shows its sockets; /proc/PID/net/tcp has them, and root may read all of it.
# Happened: an empty list, as of a process without sockets. Asked from inside the namespace, the same process
# has a listener and both ends of a connection.
# Matters to: exporters and dashboards on a host that ask psutil what a container's process has open: their
# zero means "not looked at".
# Versions: psutil 7.1.3, Linux 6.18.44.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
pypi psutil==7.1.3

cat >serve.py <<'PY'
import socket
import time

with socket.create_server(("127.0.0.1", 8080)) as listener:
    with socket.create_connection(("127.0.0.1", 8080)):
        accepted = listener.accept()
        time.sleep(60)
PY
cat >ask.py <<'PY'
import os
import sys

import psutil

process = psutil.Process(int(sys.argv[1]))
sockets = [name for name in os.listdir(f"/proc/{process.pid}/fd")
           if os.readlink(f"/proc/{process.pid}/fd/{name}").startswith("socket:")]
states = sorted(connection.status for connection in process.net_connections("tcp"))
print(f"asked from {sys.argv[2]}: descriptors of sockets {len(sockets)}, net_connections {states}")
PY
cat >both.sh <<'SH'
ip netns add apart
ip -n apart link set lo up
ip netns exec apart python3 serve.py & pid=$!
sleep 1
python3 ask.py $pid outside
ip netns exec apart python3 ask.py $pid "its namespace"
SH
alone sh both.sh >seen

expect <<'SEEN'
asked from outside: descriptors of sockets 3, net_connections []
asked from its namespace: descriptors of sockets 3, net_connections ['ESTABLISHED', 'ESTABLISHED', 'LISTEN']
SEEN
