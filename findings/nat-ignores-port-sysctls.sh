#!/usr/bin/env bash
# The ports that a NAT gateway chooses follow neither ip_local_port_range nor ip_local_reserved_ports.
#
# Guess: where two clients use one source port, masquerade gives the second a port of the gateway's range,
# and leaves out the reserved ones: ip-sysctl.rst says of ip_local_reserved_ports that they "will not be used
# by automatic port assignments".
# Happened: it chooses among 1024 to 65535. With a range of 60000 to 60999, and all from 1024 to 49999 reserved,
# most of its ports lie outside the one and inside the other.
# Matters to: people who widen the range on a gateway for more connections, which changes nothing, or reserve
# the port of a service there, which NAT takes all the same. A range in the rule (masquerade to :60000-60999)
# is obeyed.
# Versions: nftables 1.0.6, Linux 6.18.44 (net/netfilter/nf_nat_core.c, nf_nat_l4proto_unique_tuple).
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
deb nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11=1.2.4-2
needs python3
gateway

cat >client.py <<'PY'
import socket
import sys

kept, chosen = [], []
for own in range(int(sys.argv[2]), int(sys.argv[2]) + 200):
    for address in ("10.1.0.2", "10.1.0.3"):
        connection = socket.socket()
        connection.settimeout(2)
        connection.bind((address, own))
        connection.connect(("10.2.0.2", 80))
        kept.append(connection)
        _address, port = connection.recv(100).decode().split()
    chosen.append(int(port))


def share(count):
    return "all" if count == len(chosen) else "most" if count > len(chosen) / 2 else "few or none"


inside = sum(port in range(60000, 61000) for port in chosen)
reserved = sum(port < 50000 for port in chosen)
print(f"{sys.argv[1]}: of 200 chosen ports {share(inside)} in the range, {share(reserved)} reserved")
PY
cat >nat.sh <<'SH'
. ./gateway.sh
ip -n client addr add 10.1.0.3/24 dev eth0
ip netns exec gate sysctl -qw net.ipv4.ip_local_port_range='60000 60999' net.ipv4.ip_local_reserved_ports=1024-49999
ip netns exec server python3 server.py &
sleep 1
own=5000
for rule in 'masquerade' 'masquerade to :60000-60999'; do
    printf "flush ruleset\ntable ip n {\nchain p {\ntype nat hook postrouting priority 100;\n oifname outside meta l4proto tcp $rule\n}\n}\n" |
        ip netns exec gate nft -f -
    ip netns exec client python3 client.py "$rule" $own
    own=$((own + 200))
done
SH
alone sh nat.sh >seen

expect <<'SEEN'
masquerade: of 200 chosen ports few or none in the range, most reserved
masquerade to :60000-60999: of 200 chosen ports all in the range, few or none reserved
SEEN
