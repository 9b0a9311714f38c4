#!/usr/bin/env bash
# tcpdump's filter for TCP flags, tcp[tcpflags], never selects a segment over IPv6, and says nothing.
#
# Guess: 'tcp[tcpflags] & tcp-rst != 0' selects the resets of both families, as 'tcp' does.
# Happened: 'tcp' selects two segments, the filter for resets only the one over IPv4. tcp[...] counts from the
# end of an IPv4 header, and for any other packet the expression is false. Over IPv6 it takes an offset
# from the IP header, ip6[53], which holds where no extension header is.
# Matters to: engineers who look for resets or SYNs of dual-stack services, and conclude that there are none.
# Versions: tcpdump 4.99.3, libpcap 1.10.3, scapy 2.8.0 (which writes the capture).
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
pypi scapy==2.8.0
needs tcpdump
tcpdump --version 2>&1 | grep -q '4\.99\.3' || { echo "this needs tcpdump 4.99.3" >&2; exit 3; }

python3 - <<'PY'
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap

link, reset = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02"), TCP(sport=40000, dport=80, flags="R")
wrpcap("resets.pcap", [link / IP(src="10.0.0.1", dst="10.0.0.2") / reset,
                       link / IPv6(src="2001:db8::1", dst="2001:db8::2") / reset])
PY

for filter in 'tcp' 'tcp[tcpflags] & tcp-rst != 0' 'tcp[13] & 4 != 0' 'ip6 and ip6[53] & 4 != 0'; do
    echo "$filter: $(tcpdump -nr resets.pcap "$filter" 2>complaints | grep -c Flags); complaints: $(grep -vc 'reading from' complaints)"
done >seen

expect <<'SEEN'
tcp: 2; complaints: 0
tcp[tcpflags] & tcp-rst != 0: 1; complaints: 0
tcp[13] & 4 != 0: 1; complaints: 0
ip6 and ip6[53] & 4 != 0: 1; complaints: 0
SEEN
