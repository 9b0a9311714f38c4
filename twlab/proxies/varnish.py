"""Varnish (7.1 in Debian 12), passing every request on to an origin.

It is not one of the three that the basic set-up installs: ``setup/install.sh atlas`` does.
"""

from __future__ import annotations

import re

from twlab.proxies.software import PORT, Software, Upstream

# The log in shared memory is 80 MB by default. Vinyl Cache, the newest Varnish, fills its file.
_STORE = ("-s", "malloc,32m", "-l", "4m", "-T", "none", "-j", "none", "-n", "{folder}/varnish")


def _write(way: str, upstream: Upstream) -> str:
    address, port = upstream.origins_for(way)[0]
    return f"""\
vcl 4.1;
backend origin {{
    .host = "{address}";
    .port = "{port}";
}}
sub vcl_recv {{
    return (pass);
}}
sub vcl_backend_fetch {{
    # Every request has a connection of its own; the default is to keep them.
    set bereq.http.Connection = "close";
}}
"""


VARNISH = Software(
    name="varnishd",
    file="default.vcl",
    arguments=("-F", *_STORE, "-f", "{folder}/default.vcl", "-a", f":{PORT}"),
    check=("-C", "-f", "{folder}/default.vcl"),
    ways={
        "close": "a connection to the origin for each request",
        "no-holddown": "the same, and a failed connect keeps no other back: -p backend_local_error_holddown=0",
    },
    write=_write,
    log="output",
    complaint=re.compile(r"(Cannot assign requested address)"),
    package="apt-get install varnish, or: setup/install.sh atlas",
    more={"no-holddown": ("-p", "backend_local_error_holddown=0")},
)
