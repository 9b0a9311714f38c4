#!/usr/bin/env bash
# SO_REUSEADDR does not let a server restart if the process before it did not set it.
#
# Guess, from socket(7), "may bind, except when there is an active listening socket bound to the
# address": a new server with SO_REUSEADDR binds although old connections are in TIME_WAIT.
# Happened: the TIME_WAIT socket remembers whether its own owner had set the option. Both must have set
# it, the dead process and the new one; so must a client that used the port by chance.
# Matters to: operators who add SO_REUSEADDR to a server: the first restart fails all the same for 60 s. A
# port inside ip_local_port_range can be barred by the machine's own outgoing connections.
# Versions: Linux 6.18.44, Python 3.11.7 (only as the caller).
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs python3

cat >restart.py <<'PY'
import errno
import socket
import time


def start(port: int, reuse: bool) -> socket.socket:
    """Start a server."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


def try_start(port: int, reuse: bool) -> str:
    try:
        start(port, reuse).close()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "starts"


port = 8000
for before in (False, True):
    for after in (False, True):
        port += 1
        first = start(port, before)
        client = socket.create_connection(("127.0.0.1", port))
        connection, _ = first.accept()
        connection.close()
        client.close()
        first.close()
        time.sleep(0.1)
        print(f"SO_REUSEADDR before {before}, after {after}: {try_start(port, after)}")

with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
    file.write("9000 9000")
other = start(7000, True)
client = socket.create_connection(("127.0.0.1", 7000))
client.close()
other.accept()[0].close()
time.sleep(0.1)
print(f"an outgoing connection had port 9000: {try_start(9000, True)}")
PY
alone python3 restart.py >seen

expect <<'SEEN'
SO_REUSEADDR before False, after False: EADDRINUSE
SO_REUSEADDR before False, after True: EADDRINUSE
SO_REUSEADDR before True, after False: EADDRINUSE
SO_REUSEADDR before True, after True: starts
an outgoing connection had port 9000: EADDRINUSE
SEEN
