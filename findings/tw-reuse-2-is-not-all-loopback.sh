#!/usr/bin/env bash
# tcp_tw_reuse=2, "for loopback traffic only", does not apply to the machine's own address over lo.
#
# Guess, from ip-sysctl.rst ("2 - enable for loopback traffic only"): it covers every connection whose
# segments cross the loopback interface.
# Happened: it goes by the addresses, 127.0.0.0/8 and ::1, or by a socket bound to lo. Connections to a
# service on the machine's own LAN address cross lo as well, and run out of ports all the same.
# Matters to: services that address each other on one machine by its LAN address or host name: the same
# load works with "localhost", and fails with the name. Value 1 covers both.
# Versions: Linux 6.18.44, Python 3.11.7 (only as the caller).
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs python3 ip

cat >reuse.py <<'PY'
import socket
import subprocess
import time

SYSCTL = "/proc/sys/net/ipv4/"


def write(name: str, value: str) -> None:
    with open(SYSCTL + name, "w") as file:
        file.write(value)


def connections(address: str, wanted: int = 10) -> int:
    """Open and close connections, the client first, and count those that opened."""
    opened = 0
    with socket.create_server((address, 8000)) as listener:
        for _ in range(wanted):
            try:
                client = socket.create_connection((address, 8000))
            except OSError:
                continue
            server, _ = listener.accept()
            client.close()
            server.close()
            opened += 1
    return opened


subprocess.run("ip link add eth9 type veth peer name eth8 && ip addr add 10.9.9.1/24 dev eth9 &&"
               "ip link set eth9 up && ip link set eth8 up", shell=True, check=True)
print(subprocess.check_output(["ip", "-o", "route", "get", "10.9.9.1"], text=True).split(" src")[0])
write("ip_local_port_range", "40000 40009")
with open(SYSCTL + "tcp_tw_reuse") as file:
    print("tcp_tw_reuse as it comes:", file.read().strip())
for value in "2", "1":
    write("tcp_tw_reuse", value)
    for address in "127.0.0.1", "10.9.9.1":
        time.sleep(1.2)
        first = connections(address)
        time.sleep(1.2)
        print(f"tcp_tw_reuse={value}, ten ports, to {address}: {first}, then {connections(address)}")
PY
alone python3 reuse.py >seen

expect <<'SEEN'
local 10.9.9.1 dev lo
tcp_tw_reuse as it comes: 2
tcp_tw_reuse=2, ten ports, to 127.0.0.1: 10, then 10
tcp_tw_reuse=2, ten ports, to 10.9.9.1: 10, then 0
tcp_tw_reuse=1, ten ports, to 127.0.0.1: 10, then 10
tcp_tw_reuse=1, ten ports, to 10.9.9.1: 10, then 10
SEEN
