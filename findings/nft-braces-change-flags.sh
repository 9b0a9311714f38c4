#!/usr/bin/env bash
# In nftables, braces round two TCP flags (or bits of ct status) change "has" into "is exactly".
#
# Guess: `tcp flags { fin, rst }` matches segments with FIN or with RST, as `tcp flags fin` matches FIN.
# Happened: one name alone tests that bit, also in braces, because nft removes braces round one element.
# Two names in braces are a set of whole values: FIN-ACK is neither FIN nor RST, and is not matched. Without
# braces, `fin,rst` tests bits again. `ct status { snat, dnat }` never matches: other bits are always set.
# Matters to: authors of rules who extend `{ fin }` to `{ fin, rst }`: the rule then matches less than before.
# nft(8) calls both types bit masks, and does not say what a set does to them.
# Versions: nftables 1.0.6, Linux 6.18.44.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
deb nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11=1.2.4-2
needs python3

cat >rules.nft <<'NFT'
table ip t {
    chain translate {
        type nat hook output priority -100;
        tcp dport 9000 dnat to :8000
    }
    chain count {
        type filter hook input priority 0;
        tcp sport 9000 tcp flags fin counter
        tcp sport 9000 tcp flags { fin } counter
        tcp sport 9000 tcp flags fin,rst counter
        tcp sport 9000 tcp flags { fin, rst } counter
        ct status dnat tcp flags syn counter
        ct status { dnat } tcp flags syn counter
        ct status { snat, dnat } tcp flags syn counter
    }
}
NFT
cat >connect.py <<'PY'
import socket

with socket.create_server(("127.0.0.1", 8000)) as listener:
    client = socket.create_connection(("127.0.0.1", 9000))
    server, _ = listener.accept()
    client.close()
    server.recv(1)
    server.close()
PY
alone sh -c "nft -f rules.nft && python3 connect.py &&
    nft list chain ip t count | sed -n 's/^\t*\(.*\) counter packets \(.*\) bytes.*/\1: \2/p'" >seen

expect <<'SEEN'
tcp sport 9000 tcp flags fin: 1
tcp sport 9000 tcp flags fin: 1
tcp sport 9000 tcp flags fin,rst: 1
tcp sport 9000 tcp flags { fin, rst }: 0
ct status dnat tcp flags syn: 2
ct status dnat tcp flags syn: 2
ct status { snat, dnat } tcp flags syn: 0
SEEN
