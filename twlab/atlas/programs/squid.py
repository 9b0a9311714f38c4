"""Squid in front of an origin.

http://www.squid-cache.org/Doc/config/: ``tcp_outgoing_address``, ``cache_peer``.
"""

import re

from twlab.atlas.subject import PORT, Place, Subject


def _files(place: Place) -> dict[str, str]:
    text = f"""\
http_port {PORT} accel defaultsite=origin no-vhost
cache_peer {place.origin} parent {place.port} 0 no-query no-digest no-netdb-exchange originserver name=origin
never_direct allow all
http_access allow all
cache deny all
{f"tcp_outgoing_address {place.source}" if place.source else ""}
cache_log {{folder}}/cache.log
access_log none
pid_filename none
netdb_filename none
coredump_dir {{folder}}
pinger_enable off
visible_hostname proxy
shutdown_lifetime 0 seconds
"""
    return {"squid.conf": text}


SUBJECTS = (
    Subject(
        name="squid",
        program="squid",
        package="squid",
        arguments=lambda _: ("-N", "-f", "{folder}/squid.conf"),
        files=_files,
        source="tcp_outgoing_address ADDRESS",
        log="cache.log",
        complaint=re.compile(r"(Cannot bind socket|TCP connection to .* failed)"),
    ),
)
