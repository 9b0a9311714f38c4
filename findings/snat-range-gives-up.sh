#!/usr/bin/env bash
# SNAT with a range of 512 ports drops connections while some of the 512 are free; with 128 it uses all.
#
# Guess: a connection fails only when every port of the range is taken.
# Happened: the kernel tries 128 ports from a random place on, then 64, 32, 16 and 8 from other places, and
# gives up. Up to 128 ports are searched whole. With 512 open connections wanted, some 20 find none: the
# SYN is dropped in silence, and the client waits for its timeout.
# Matters to: operators of NAT gateways who plan for 100 % of a port range: losses begin before, and
# conntrack's insert_failed counts them; the client sees no error but a delay.
# nft(8) and iptables-extensions(8) do not mention a limit.
# Versions: nftables 1.0.6, Linux 6.18.44.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
deb nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11=1.2.4-2
needs python3
gateway

cat >client.py <<'PY'
import socket
import sys

kept = []
for _ in range(int(sys.argv[1])):
    connection = socket.socket()
    connection.settimeout(0.3)
    try:
        connection.connect(("10.2.0.2", 80))
    except TimeoutError:
        break
    kept.append(connection)
loss = f"first loss after {'more' if len(kept) > 250 else 'fewer'} than 250"
print("all served" if len(kept) == int(sys.argv[1]) else loss)
PY
cat >range.sh <<'SH'
. ./gateway.sh
ip netns exec server python3 server.py &
sleep 1
for range in 20000-20127 30000-30511; do
    rule='table ip n {\nchain p {\ntype nat hook postrouting priority 100;\n ip protocol tcp snat to 10.2.0.1:%s\n}\n}\n'
    printf "$rule" $range | ip netns exec gate nft -f -
    printf '%s: ' $range
    ip netns exec client python3 client.py $((${range#*-} - ${range%-*} + 1))
    ip netns exec gate nft flush ruleset
done
SH
alone sh range.sh >seen

expect <<'SEEN'
20000-20127: all served
30000-30511: first loss after more than 250
SEEN
