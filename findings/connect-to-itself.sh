#!/usr/bin/env bash
# Where nothing listens, a program that connects to a port of the ephemeral range may be connected to itself,
# and then keeps the service from starting.
#
# Guess: connect() to a local port where nothing listens ends with ECONNREFUSED.
# Happened: the kernel may choose, as the source, the very port that is connected to. Then the SYN arrives at the
# socket that sent it: a simultaneous open with itself (RFC 9293, section 3.5). curl reads its own
# request as the answer. Its TIME_WAIT then keeps a server without SO_REUSEADDR from binding the port.
# Here the range has one port, so it happens at the first try; with Linux's 28,232 ports a client that tries again
# and again, as those do which wait for a service to come up, gets there by chance.
# Matters to: services on ports above 32767, and programs that wait for them. ip_local_reserved_ports keeps a
# port out of the choice.
# Versions: curl 7.88.1, Linux 6.18.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl ss sysctl python3
curl --version | grep -q '^curl 7\.88\.1 ' || { echo "this needs curl 7.88.1" >&2; exit 3; }

cat >serve.py <<'PY'
import socket

try:
    socket.socket().bind(("127.0.0.1", 40000))
    print("the service has its port")
except OSError as error:
    print("the service:", error.strerror)
PY
cat >itself.sh <<'SH'
sysctl -qw net.ipv4.ip_local_port_range="40000 40000" net.ipv4.ip_local_reserved_ports=
curl --silent --show-error --max-time 5 http://127.0.0.1:40000/
ss --tcp --numeric --no-header --all | awk '{print $1, $4, $5}'
python3 serve.py
ip link set lo down && ip link set lo up
sysctl -qw net.ipv4.ip_local_port_range="40000 40001" net.ipv4.ip_local_reserved_ports=40000
curl --silent --show-error --max-time 5 http://127.0.0.1:40000/ 2>&1 | sed 's/after [0-9]* ms/after a while/'
SH
alone sh itself.sh >seen 2>&1

expect <<'SEEN'
curl: (1) Received HTTP/0.9 when not allowed
TIME-WAIT 127.0.0.1:40000 127.0.0.1:40000
the service: Address already in use
curl: (7) Failed to connect to 127.0.0.1 port 40000 after a while: Couldn't connect to server
SEEN
