#!/usr/bin/env bash
# pyroute2 reports success for a link attribute that it does not know, and sends the request without it.
#
# Guess: a keyword that pyroute2 cannot encode raises an error.
# Happened: gso_ipv4_max_size, in Linux since 6.3, is missing from pyroute2's table. link("set") leaves
# it out of the message, the kernel acknowledges the rest, and nothing changes. iproute2 rejects words
# that it does not know. The same request with the attribute as raw bytes works.
# Matters to: programs that set newer attributes: an acknowledged request is no evidence that a setting
# is in force. Read it back. A misspelt keyword is lost in the same way.
# Versions: pyroute2 0.9.7; Linux 6.3 or later.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
pypi pyroute2==0.9.7

cat >set.py <<'PY'
import socket
import struct

from pyroute2 import IPRoute

RTM_NEWLINK, RTM_GETLINK, REQUEST_AND_ACK, IFLA_GSO_IPV4_MAX_SIZE = 16, 18, 5, 63


def ask(kind: int, attributes: bytes = b"") -> bytes:
    """Send one link request without pyroute2 and return the kernel's answer."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as s:
        body = struct.pack("=BBHiII", 0, 0, 0, socket.if_nametoindex("v0"), 0, 0) + attributes
        s.send(struct.pack("=IHHII", 16 + len(body), kind, REQUEST_AND_ACK, 1, 0) + body)
        return s.recv(65536)


def limit() -> int:
    """Read the attribute back."""
    answer = ask(RTM_GETLINK)
    mark = struct.pack("=HH", 8, IFLA_GSO_IPV4_MAX_SIZE)
    return struct.unpack_from("=I", answer, answer.index(mark, 32) + 4)[0]


with IPRoute() as route:
    route.link("add", ifname="v0", kind="veth", peer="v1")
    index = route.link_lookup(ifname="v0")[0]
    print("at first", limit())
    answer = route.link("set", index=index, gso_ipv4_max_size=20000)
    print("pyroute2 answers", answer[0]["event"], answer[0]["header"]["error"], "and it is", limit())
    ask(RTM_NEWLINK, struct.pack("=HHI", 8, IFLA_GSO_IPV4_MAX_SIZE, 20000))
    print("raw bytes:", limit())
PY
alone python3 set.py >seen

expect <<'SEEN'
at first 65536
pyroute2 answers NLMSG_ERROR None and it is 65536
raw bytes: 20000
SEEN
