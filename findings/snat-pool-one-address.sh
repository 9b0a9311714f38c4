#!/usr/bin/env bash
# A SNAT pool of four addresses serves one client and one destination from one address only.
#
# Guess: connections are spread over the pool; iptables-extensions(8) says of --persistent that it "gives a
# client the same source-/destination-address for each connection", so without it they differ.
# Happened: without `persistent` the address is a hash of the client's and the destination's addresses. All
# 40 connections of a client to a server leave from one address. With 8 ports each, the ninth connection
# fails while 24 ports of the pool are free.
# Matters to: operators who enlarge a pool because one busy client (a proxy) runs out of ports towards one
# service: nothing changes. A map on `numgen` or `jhash` over the port does spread them.
# Versions: nftables 1.0.6, Linux 6.18.44.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
deb nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11=1.2.4-2
needs python3
gateway

cat >client.py <<'PY'
import collections
import socket
import sys

kept = []


def source() -> str:
    connection = socket.socket()
    connection.settimeout(0.5)
    try:
        connection.connect(("10.2.0.2", 80))
        kept.append(connection)
        return connection.recv(100).decode().split()[0]
    except TimeoutError:
        return "timeout"


print(*collections.Counter(source() for _ in range(int(sys.argv[1]))).values())
PY
cat >pool.sh <<'SH'
. ./gateway.sh
ip netns exec server python3 server.py &
sleep 1
for case in "40 10.2.0.11-10.2.0.14" "9 10.2.0.21-10.2.0.24:4000-4007" "40 10.2.0.31 : 10.2.0.32"; do
    count=${case%% *} pool=${case#* }
    case $pool in
    *" : "*) pool="numgen inc mod 2 map { 0 : ${pool% : *}, 1 : ${pool#* : } }" ;;
    esac
    for last in 11 12 13 14 21 22 23 24 31 32; do ip -n gate addr replace 10.2.0.$last/24 dev outside; done
    rule='table ip n {\nchain p {\ntype nat hook postrouting priority 100;\n oif outside ip protocol tcp snat to %s\n}\n}\n'
    printf "$rule" "$pool" | ip netns exec gate nft -f -
    printf '%s: connections for each result: ' "$pool"
    ip netns exec client python3 client.py "$count"
    ip netns exec gate nft flush ruleset
done
SH
alone sh pool.sh >seen

expect <<'SEEN'
10.2.0.11-10.2.0.14: connections for each result: 40
10.2.0.21-10.2.0.24:4000-4007: connections for each result: 8 1
numgen inc mod 2 map { 0 : 10.2.0.31, 1 : 10.2.0.32 }: connections for each result: 20 20
SEEN
