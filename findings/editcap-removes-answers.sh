#!/usr/bin/env bash
# editcap -d, which removes a switch's duplicates, removes answers that a Linux host gave again and again.
#
# Guess: no two segments of one Linux host are equal to the byte, since each has another IP identification,
# and with timestamps another time. So editcap -d keeps all of them, in a capture of one interface.
# Happened: segments that Linux sends without a socket have identification 0. A FIN is repeated because its
# ACK is lost; TIME_WAIT answers each time, and editcap keeps the first answer of six. With timestamps on it
# keeps all ACKs, and one of the resets that a repeated segment gets, for a reset has no timestamp.
# Matters to: people who clean a mirror port's capture first: in what is left the server seems to be silent,
# where its answers were lost on the way. The answers are up to 2 s apart; editcap compares with the five
# packets before, at any distance. A limit of time (editcap -w 0.001) keeps them.
# Versions: Wireshark 4.0.17, tcpdump 4.99.3, nftables 1.0.6, Linux 6.18.44 (ip_send_unicast_reply).
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
deb tcpdump=4.99.3-1 libpcap0.8=1.10.3-1 nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11=1.2.4-2
needs editcap tshark python3
editcap --version 2>&1 | grep -q '4\.0\.17' || { echo "this needs Wireshark 4.0.17" >&2; exit 3; }

cat >server.py <<'PY'
import socket
import struct
import sys

with socket.create_server(("10.0.0.2", 80)) as listener:
    connection, _address = listener.accept()
    connection.recv(1)
    if sys.argv[1] == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.recv(1)
    connection.close()
PY
cat >client.py <<'PY'
import socket
import subprocess
import sys
import time

LOSE = "table ip f {\nchain i {\ntype filter hook input priority 0;\ntcp sport 80 drop\n}\n}\n"
client = socket.create_connection(("10.0.0.2", 80))
client.sendall(b"1")
if sys.argv[1] == "close":
    client.recv(1)  # the server closes first, and has the TIME_WAIT
subprocess.run(["nft", "-f", "-"], input=LOSE, text=True, check=True)
if sys.argv[1] == "close":
    client.close()
else:
    client.sendall(b"2")  # the server reads it, and resets; the reset is lost
time.sleep(2.5)
PY
cat >lose.sh <<'SH'
ip netns add server
ip link add eth0 type veth peer name eth0 netns server
ip addr add 10.0.0.1/24 dev eth0
ip -n server addr add 10.0.0.2/24 dev eth0
for node in client server; do
    [ $node = client ] && inside= || inside="ip netns exec server"
    $inside ip link set eth0 up
    $inside ip link set lo up
    $inside sysctl -qw net.ipv4.tcp_timestamps=$2
done
ip netns exec server python3 server.py $1 &
ip netns exec server tcpdump -Z root -i eth0 -U --immediate-mode -w $1.pcap tcp 2>tcpdump.log &
until grep -q listening tcpdump.log; do sleep 0.1; done
sleep 1
python3 client.py $1
kill $!
wait $!
SH

alone sh lose.sh close 0
alone sh lose.sh reset 1
count() { tshark -r "$1" -Y "ip.src == 10.0.0.2 && ip.id == 0 && $2" 2>/dev/null | wc -l; }
for what in 'close tcp.flags.syn == 0' 'reset tcp.flags.reset == 1'; do
    name=${what%% *}
    for options in '-d' '-w 0.001'; do
        # shellcheck disable=SC2086
        editcap $options "$name.pcap" "$name$options.pcap" 2>/dev/null
        before=$(count "$name.pcap" "${what#* }") after=$(count "$name$options.pcap" "${what#* }")
        [ "$after" != "$before" ] || after=all
        [ "$before" -lt 3 ] || before='three or more'
        echo "$name: of $before answers editcap $options keeps $after"
    done
done >seen

expect <<'SEEN'
close: of three or more answers editcap -d keeps 1
close: of three or more answers editcap -w 0.001 keeps all
reset: of three or more answers editcap -d keeps 1
reset: of three or more answers editcap -w 0.001 keeps all
SEEN
