"""HAProxy in TCP and HTTP mode, with a shared pool, with a range of ports.

https://docs.haproxy.org/2.6/configuration.html: ``mode``, ``source``.
"""

import re
from collections.abc import Callable

from twlab.atlas.subject import PORT, Place, Subject


def _files(mode: str, ports: str, more: str) -> Callable[[Place], dict[str, str]]:
    def files(place: Place) -> dict[str, str]:
        address = place.own if ports else place.source
        source = f" source {address}{ports}" if address else ""
        text = f"""\
global
    log stdout format raw local0
    maxconn 1000
defaults
    log global
    mode {mode}
    option {mode}log
    timeout connect 5s
    timeout client 300s
    timeout server 300s
frontend clients
    bind :{PORT}
    default_backend origins
backend origins
    {more}
    server origin {place.address}{source}
"""
        return {"haproxy.cfg": text}

    return files


SUBJECTS = tuple(
    Subject(
        name=f"haproxy-{name}",
        program="haproxy",
        relays=mode == "tcp",
        package="haproxy",
        arguments=lambda _: ("-db", "-f", "{folder}/haproxy.cfg"),
        files=_files(mode, ports, more),
        source="" if ports else "server ... source ADDRESS",
        version=("-v",),
        complaint=re.compile(r"(Connect\(\) failed for backend \w+: no free ports)"),
    )
    for name, mode, ports, more in (
        ("tcp", "tcp", "", ""),
        ("http", "http", "", ""),
        ("http-reuse", "http", "", "http-reuse always"),
        ("range", "tcp", ":20000-20009", ""),
    )
)
