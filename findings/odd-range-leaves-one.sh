#!/usr/bin/env bash
# With an odd number of local ports, connect() fails with EADDRNOTAVAIL while one of them is free.
#
# Guess: connect() fails when every port of ip_local_port_range is in use towards that destination, not before.
# Happened: the kernel goes through the ports in steps of two, one parity first, and rounds an odd number of them
# down. Of three ports it uses two, however often one calls. Of five it uses four towards some destinations and five
# towards others. bind() to port 0 takes the other parity first; of three ports it, too, gives out two, and of five
# the last one comes when one calls again. A range of one port, or of four, is used up.
# A range of the socket's own (IP_LOCAL_PORT_RANGE) is used up, too.
# Matters to: small ranges, as operators give them to containers and benches: n ports may be n - 1, and
# EADDRNOTAVAIL does not mean that all are taken. Linux's own range has an even number.
# Versions: Linux 6.18.44; net/ipv4/inet_hashtables.c, __inet_hash_connect(); net/ipv4/inet_connection_sock.c,
# inet_csk_find_open_port().
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs python3

cat >ports.py <<'PY'
import errno
import pathlib
import socket
import struct

ROUNDS = 100
IP_LOCAL_PORT_RANGE = 51  # linux/in.h


def connected(bind: bool, address: str, own: int = 0) -> socket.socket | None:
    made = socket.socket()
    if own:
        made.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, struct.pack("I", (39999 + own) << 16 | 40000))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closes without TIME_WAIT
    try:
        if bind:
            made.bind(("127.0.0.1", 0))
        made.connect((address, 80))
    except OSError as error:
        made.close()
        assert error.errno in (errno.EADDRNOTAVAIL, errno.EADDRINUSE), error
        return None
    return made


def filled(count: int, bind: bool, address: str, own: int = 0) -> tuple[int, int, list[int]]:
    """How many connections come before the first error, and in all of 20 more calls; their ports."""
    pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").write_text(f"40000 {39999 + count}")
    calls = [connected(bind, address, own) for _ in range(count + 20)]
    kept = [one for one in calls if one]
    ports = [one.getsockname()[1] for one in kept]
    for one in kept:
        one.close()
        listener.accept()[0].close()
    return calls.index(None), len(kept), ports


with socket.create_server(("", 80), backlog=1000) as listener:
    for bind, name in ((False, "connect"), (True, "bind to 0")):
        _, _, ports = filled(100, bind, "127.0.0.1")
        print(f"{name}, 100 ports: the first 50 taken are {'odd' if ports[0] % 2 else 'even'}:", end=" ")
        print(len({port % 2 for port in ports[:50]}) == 1)
    for bind, name in ((False, "connect"), (True, "bind to 0")):
        for count in (1, 3, 4, 5):
            seen = [filled(count, bind, f"127.0.1.{number}") for number in range(1, ROUNDS + 1)]
            first = sorted({before for before, _, _ in seen})
            print(f"{name}, ports {count}: connections before the first error", *first, end="; ")
            print("in the end", *sorted({most for _, most, _ in seen}))
    seen = [filled(100, False, f"127.0.1.{number}", own=3) for number in range(1, ROUNDS + 1)]
    print("connect, ports 3 of the socket's own: in the end", *{most for _, most, _ in seen})
PY
alone python3 ports.py >seen

expect <<'SEEN'
connect, 100 ports: the first 50 taken are even: True
bind to 0, 100 ports: the first 50 taken are odd: True
connect, ports 1: connections before the first error 1; in the end 1
connect, ports 3: connections before the first error 2; in the end 2
connect, ports 4: connections before the first error 4; in the end 4
connect, ports 5: connections before the first error 4 5; in the end 4 5
bind to 0, ports 1: connections before the first error 1; in the end 1
bind to 0, ports 3: connections before the first error 2; in the end 2
bind to 0, ports 4: connections before the first error 4; in the end 4
bind to 0, ports 5: connections before the first error 4 5; in the end 5
connect, ports 3 of the socket's own: in the end 3
SEEN
