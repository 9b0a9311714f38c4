"""Recognizes which tool printed a line.

Texts come joined, and without headings. So each line is examined.

A line that begins with blanks continues the one above it, unless it looks like a line of
/proc/net/tcp.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_STATES = "ESTAB|SYN-SENT|SYN-RECV|FIN-WAIT-1|FIN-WAIT-2|TIME-WAIT|UNCONN|CLOSE-WAIT|LAST-ACK|LISTEN|CLOSING|CLOSED"
_GROUPS = "Ip|Icmp|IcmpMsg|Tcp|Udp|UdpLite|Ip6|Icmp6|Udp6|UdpLite6|TcpExt|IpExt|MPTcpExt|Sctp|Ip6InOctets"
_KINDS = [
    ("proc", r"\s*(\d+: [0-9A-F]{8,32}:|sl  local_address)"),
    ("conntrack", r"(ipv[46]\s+\d+\s+)?tcp\s+6\s.*\bsrc="),
    ("conntrack-s", r"cpu=\d+\s"),
    ("conntrack-stat", r"entries +(clashres|searched) +found |[0-9a-f]{8}  ?[0-9a-f]{8} "),
    ("ipvs", r"IP Virtual Server version|Prot LocalAddress:Port|(TCP|UDP|SCTP) +\S+:\w+ +[a-z]+\b|FWM +\d+ +[a-z]+\b"),
    (
        "ipvs-conn",
        r"IPVS connection|pro expire state|Pro FromIP|TCP +\d+:\d\d +[A-Z]|TCP \S+ [0-9A-F]{4} \S+ [0-9A-F]{4} ",
    ),
    (
        "netstat",
        r"(Active Internet|Active UNIX|Proto Recv-Q|Proto RefCnt|(tcp|udp|raw)6?\s+\d+\s+\d+\s(?!.*\bsrc=)|unix\s+\d)",
    ),
    (
        "ss",
        rf"(Netid|State|Recv-Q)\s+(State|Recv-Q|Send-Q)\b|([a-z_]\w*\s+)?({_STATES})\s+\d+\s+\d+\s|\d+\s+\d+\s+\S+:\S+\s+\S+:\S+",
    ),
    ("nstat", rf"#(kernel|\d+\.\d+)|({_GROUPS})\w*\s+\d+\s+[\d.]+\s*$"),
    ("pairs", rf"({_GROUPS}): -?\w+"),
    ("netstat-s", rf"({_GROUPS}):\s*$"),
    ("haproxy", r"# pxname,"),
    ("sockstat", r"sockets: used \d|(TCP|UDP|UDPLITE|RAW|FRAG)6?: inuse \d"),
    ("sysctl", r"[a-z][\w-]*[./][\w./-]+ ?= ?|/proc/sys/[\w./-]+:"),
]
_PATTERNS = {kind: re.compile(pattern) for kind, pattern in _KINDS}
# The last is a shell's prompt, as in `[root@web1 ~]# ss -tan`.
_HEADING = re.compile(r"==> (.+?) <==|#{2,} (.+)|(?:\[?[\w.-]{1,64}@[^#$]{1,200}[#$]|\$) (.+)")


def sections(lines: Iterable[str], heading: str = "") -> Iterator[tuple[str, str, list[str]]]:
    """Split `lines` into (kind, heading, lines); an unknown kind is empty.

    Args:
        heading: of the whole; a line like ``==> ss -tan <==`` gives another for the lines below it.
    """
    kind, block = "", list[str]()
    for line in lines:
        found = _HEADING.match(line)
        if found:
            if block:
                yield kind, heading, block
            kind, block, heading = "", [], found[1] or found[2] or found[3]
            continue
        now = kind_of(line, kind)
        if now != kind and block:
            yield kind, heading, block
            block = []
        kind = now
        block.append(line)
    if block:
        yield kind, heading, block


def kind_of(line: str, before: str = "") -> str:
    """Return the kind of `line`, which follows one of the kind `before`."""
    if not line or line.isspace():
        return before
    if line[0].isspace():
        if _PATTERNS["proc"].match(line):
            return "proc"
        if before and before not in ("proc", "sysctl"):
            return before
        line = line.lstrip()
    if before and _PATTERNS[before].match(line):
        return before
    for kind, pattern in _PATTERNS.items():
        if pattern.match(line):
            return kind
    return "haproxy" if before == "haproxy" and "," in line else ""
