"""Squid (5.7 in Debian 12), in front of an origin (a reverse proxy)."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache

from twlab.proxies.software import PORT, Software, Upstream

_ASKS_LATE = 6  # the first version whose tcp_outgoing_address sets IP_BIND_ADDRESS_NO_PORT
_CHURN = "# Every request has a connection of its own; the default is on.\nserver_persistent_connections off\n"
_RISK = "# The default is to deny it to all.\nserver_pconn_for_nonretriable allow all\n"


@cache
def binds_first() -> bool:
    """Return whether Squid, as installed, takes a port as soon as it binds an address.

    Squid 5.7 does where `tcp_outgoing_address` names one; Squid 6.13 asks with
    IP_BIND_ADDRESS_NO_PORT. Without Squid: as 5.7, which Debian 12 has.
    """
    program = shutil.which("squid", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    return takes_port_early(subprocess.run([program, "-v"], capture_output=True, text=True).stdout if program else "")


def takes_port_early(version: str) -> bool:
    """Return the same of a Squid that says `version` of itself."""
    found = re.search(r"Version (\d+)", version)
    return not found or int(found[1]) < _ASKS_LATE


def connect_failed() -> str:
    """Return what `complaint` finds in the log after a failed connect.

    Squid 5.7 writes "TCP connection to ... failed", Squid 6.13 "ERROR: Connection to ... failed".
    """
    return "TCP connection failed" if binds_first() else "Connection failed"


def _write(way: str, upstream: Upstream) -> str:
    lines = {"as-it-comes": "", "kept-for-post": _RISK}.get(way, _CHURN)
    if way in ("source", "origins-source"):
        lines += f"tcp_outgoing_address {upstream.sources[0]}\n"
    if way == "sources":
        lines += "# An address for each request, in equal shares, by lot: as many four-tuples more.\n"
        for rest, source in zip(range(len(upstream.sources), 1, -1), upstream.sources, strict=False):
            lines += f"acl one_in_{rest} random 1/{rest}\ntcp_outgoing_address {source} one_in_{rest}\n"
        lines += f"tcp_outgoing_address {upstream.sources[-1]}\n"
    limit = " connect-fail-limit=1000000" if way == "never-dead" else ""
    peers = "".join(
        f"cache_peer {address} parent {port} 0 no-query no-digest no-netdb-exchange originserver round-robin "
        f"name=origin-{number}{limit}\n"
        for number, (address, port) in enumerate(upstream.origins_for(way), 1)
    )
    return f"""\
http_port {PORT} accel defaultsite=origin no-vhost
{peers}never_direct allow all
http_access allow all
cache deny all
{lines}\
# The lab's: everything that it writes in one folder.
cache_log {{folder}}/cache.log
access_log stdio:{{folder}}/access.log
pid_filename none
netdb_filename none
coredump_dir {{folder}}
pinger_enable off
visible_hostname proxy
shutdown_lifetime 0 seconds
"""


SQUID = Software(
    name="squid",
    file="squid.conf",
    arguments=("-N", "-f", "{folder}/squid.conf"),
    check=("-k", "parse", "-f", "{folder}/squid.conf"),
    ways={
        "close": "a connection to the origin for each request",
        "as-it-comes": "connections to the origin are kept",
        "kept-for-post": "connections to the origin are kept, and a POST takes one of them, too",
        "source": "a connection for each request, the source address named",
        "origins": "a connection for each request, two origins",
        "origins-source": "a connection for each request, two origins, the source address named",
        "sources": "a connection for each request, several source addresses",
        "never-dead": "a connection for each request; an origin that could not be reached is not given up",
    },
    write=_write,
    log="cache.log",
    complaint=re.compile(
        r"commBind (Cannot bind) socket FD \d+ to \S+: (.*)|(TCP connection|Connection) to \S+ (failed)"
    ),
)
