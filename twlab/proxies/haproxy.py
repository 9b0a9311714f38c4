"""HAProxy (2.6 in Debian 12), in TCP and in HTTP mode."""

from __future__ import annotations

import re

from twlab.proxies.software import PORT, Software, Upstream, bracketed

_TCP = """\
    # Passes bytes on and knows no requests: each client's connection has one to the origin. A client that is
    # done closes; HAProxy then closes its side, and so closes first towards the origin: TIME_WAIT is here.
    mode tcp
    option tcplog"""
_HTTP = """\
    # Knows requests, and keeps a connection to the origin for the client's next one (http-reuse safe, the
    # default). A connection that it does not keep it ends with RST, not FIN, once it has the whole answer: no
    # TIME_WAIT.
    mode http
    option httplog"""
_BACKEND = {
    "http-close": "    # One request for each connection, on the side of the origin.\n    option http-server-close\n",
    "http-reuse": "    # Any client's request may go out on any idle connection. Not for origins that tie a "
    "login to a connection (NTLM).\n"
    "    http-reuse always\n",
    "nolinger": "    # RST instead of FIN, also before the origin has read everything: the manual's last "
    "resort.\n    option nolinger\n",
}


def _write(way: str, upstream: Upstream) -> str:
    note, sources = "", [""]
    if way in ("source", "origins-source"):
        sources = [f" source {upstream.sources[0]}"]
    if way == "sources":
        note = "    # An address for each connection, in turn: as many four-tuples more.\n"
        sources = [f" source {source}" for source in upstream.sources]
    if way == "port-range":
        note = (
            "    # HAProxy hands out these ports itself, and binds them with SO_REUSEADDR. Where the connection "
            "before used timestamps,\n"
            "    # Linux lets an application that names its port take it over from TIME_WAIT at once.\n"
        )
        sources = [f" source {upstream.sources[0]}:{upstream.ports[0]}-{upstream.ports[1]}"]
    servers = [
        f"{bracketed(address)}:{port}{source}" for address, port in upstream.origins_for(way) for source in sources
    ]
    check = " check inter 1s" if way == "check" else ""
    lines = "".join(f"    server origin-{number} {server}{check}\n" for number, server in enumerate(servers, 1))
    return f"""\
global
    log stdout format raw local0
    maxconn 4000
defaults
    log global
{_HTTP if way.startswith("http") else _TCP}
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend clients
    bind :{PORT}
    default_backend origins
backend origins
{_BACKEND.get(way, "")}{note}{lines}"""


HAPROXY = Software(
    name="haproxy",
    file="haproxy.cfg",
    arguments=("-db", "-f", "{folder}/haproxy.cfg"),
    check=("-c", "-f", "{folder}/haproxy.cfg"),
    ways={
        "tcp": "mode tcp, a connection to the origin for each client's",
        "http": "mode http, as it comes",
        "http-close": "mode http, a connection to the origin for each request",
        "http-reuse": "mode http, all clients share the connections to the origin",
        "source": "mode tcp, the source address named, which changes nothing",
        "origins": "mode tcp, two origins",
        "origins-source": "mode tcp, two origins, the source address named",
        "sources": "mode tcp, several source addresses",
        "check": "mode tcp, the origin checked every second",
        "port-range": "mode tcp, a range of ports of its own",
        "nolinger": "mode tcp, RST instead of FIN towards the origin",
    },
    write=_write,
    log="output",
    complaint=re.compile(r"Connect\(\) failed for backend \w+: (no free ports)"),
)
