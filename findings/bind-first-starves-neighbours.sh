#!/usr/bin/env bash
# wget --bind-address starves every other program of ports, for all destinations; curl --interface does not.
#
# Guess: a port in TIME_WAIT is barred towards its own destination only, so a neighbour that talks to another
# server does not notice; and with tcp_tw_reuse=1 the port is free again after a second.
# Happened: wget binds before it connects. The kernel then reserves the port for wget alone, until TIME_WAIT
# ends, against every other program's connect() to any destination, tcp_tw_reuse or not. curl names its
# address with IP_BIND_ADDRESS_NO_PORT: its ports are shared as if it had not bound.
# Matters to: machines where one job sets a source address: programs beside it fail with EADDRNOTAVAIL. What
# wget does, bind() to port 0 and then connect(), is what a program does that sets nothing else.
# ip(7) describes IP_BIND_ADDRESS_NO_PORT as a help to the program that sets it, not to its neighbours.
# Versions: wget 1.21.3, curl 7.88.1, Linux 6.18.44.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
deb curl=7.88.1-10+deb12u15 libcurl4=7.88.1-10+deb12u15 wget=1.21.3-1+deb12u1
needs python3

cat >starve.py <<'PY'
import errno
import socket
import subprocess
import sys
import threading
import time


def serve(port: int) -> None:
    """Answer each request and leave the close to the client."""
    with socket.create_server(("10.9.9.1", port)) as listener:
        while True:
            connection, _ = listener.accept()
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            connection.recv(4096)
            connection.close()


for name, value in ("ip_local_port_range", "40000 40009"), ("tcp_tw_reuse", "1"):
    with open(f"/proc/sys/net/ipv4/{name}", "w") as file:
        file.write(value)
for port in 8001, 8002:
    threading.Thread(target=serve, args=(port,), daemon=True).start()
time.sleep(0.2)
for _ in range(10):
    subprocess.run([*sys.argv[1:], "http://10.9.9.1:8001/"], stdout=subprocess.DEVNULL, check=True)
time.sleep(1.2)
results = []
for _ in range(10):
    neighbour = socket.socket()
    results.append(errno.errorcode.get(neighbour.connect_ex(("10.9.9.1", 8002)), "connected"))
    neighbour.close()
print(" ".join(sys.argv[1:]), "first; then ten connections of a neighbour to another server:",
      *[f"{results.count(result)} {result}" for result in sorted(set(results))])
PY
for client in "curl -s" "curl -s --interface 10.9.9.1" "wget -q -O- --bind-address=10.9.9.1"; do
    # shellcheck disable=SC2086
    alone sh -c 'ip addr add 10.9.9.1/32 dev lo && exec "$@"' sh python3 starve.py $client
done >seen

expect <<'SEEN'
curl -s first; then ten connections of a neighbour to another server: 10 connected
curl -s --interface 10.9.9.1 first; then ten connections of a neighbour to another server: 10 connected
wget -q -O- --bind-address=10.9.9.1 first; then ten connections of a neighbour to another server: 10 EADDRNOTAVAIL
SEEN
