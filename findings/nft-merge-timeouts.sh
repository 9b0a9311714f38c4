#!/usr/bin/env bash
# nftables' auto-merge gives the merged range one timeout: the last one, or none at all.
#
# Guess: addresses keep the time that they were added with, or the longer of the two.
# Happened, in a set with flags interval, timeout and auto-merge: a second range that overlaps or only
# touches gives its timeout to the first as well: an hour becomes 10 s, and one second becomes an hour.
# An address added for good inside a range that expires is accepted, ignored, and expires with the range.
# Matters to: blocklists and allowlists fed from several sources: entries leave too early, or stay.
# nft(8) describes auto-merge and timeout without a word on both together.
# Versions: nftables 1.0.6, Linux 6.18.44.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
deb nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11=1.2.4-2

cat >merge.sh <<'SH'
set -eu
nft add table ip t
nft 'add set ip t s { type ipv4_addr; flags interval,timeout; auto-merge; }'
try() {
    nft flush set ip t s
    for element in "$@"; do nft "add element ip t s { $element }"; done
    printf '%s, then %s: ' "$1" "$2"
    nft list set ip t s | sed -n 's/ expires [^ ]*//; s/.*elements = //p'
}
try "10.0.0.1-10.0.0.5 timeout 1h" "10.0.0.4-10.0.0.9 timeout 10s"
try "10.0.0.0/24 timeout 1s" "10.0.1.0/24 timeout 1h"
try "10.0.0.0/24 timeout 2s" "10.0.0.7"
sleep 3
printf '3 s later: %s\n' "$(nft list set ip t s | grep -c elements || true)"
SH
alone sh merge.sh >seen

expect <<'SEEN'
10.0.0.1-10.0.0.5 timeout 1h, then 10.0.0.4-10.0.0.9 timeout 10s: { 10.0.0.1-10.0.0.9 timeout 10s }
10.0.0.0/24 timeout 1s, then 10.0.1.0/24 timeout 1h: { 10.0.0.0/23 timeout 1h }
10.0.0.0/24 timeout 2s, then 10.0.0.7: { 10.0.0.0/24 timeout 2s }
3 s later: 0
SEEN
