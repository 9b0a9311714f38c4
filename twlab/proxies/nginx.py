"""nginx (1.22 in Debian 12)."""

from __future__ import annotations

import re

from twlab.proxies.software import PORT, Software, Upstream, bracketed

_POOL = "        # Idle connections that are kept for later requests, in each worker.\n        keepalive 32;\n"
_CLOSE = (
    "            # A connection for each request: so nginx does by itself before 1.29.7; later ones keep them.\n"
    "            proxy_http_version 1.0;\n            proxy_set_header Connection close;\n"
)
_LOCATION = {
    "keepalive": "            # Both are needed: nginx talks HTTP/1.0 to origins, and says Connection: close, "
    "unless told otherwise (until 1.29.7).\n"
    '            proxy_http_version 1.1;\n            proxy_set_header Connection "";\n',
    "sources": "            proxy_bind $source;\n",
}


def _write(way: str, upstream: Upstream) -> str:
    limit = " max_fails=0" if way == "origins-never-down" else ""
    servers = "".join(
        f"        server {bracketed(address)}:{port}{limit};\n" for address, port in upstream.origins_for(way)
    )
    split = ""
    if way == "sources":
        shares = [f"        {100 // len(upstream.sources)}%  {source};\n" for source in upstream.sources[:-1]]
        split = (
            "    # An address for each request, in equal shares: as many four-tuples more. ($request_id would "
            "do, too, and chooses at random.)\n"
            '    split_clients "$connection-$connection_requests" $source {\n'
            f"{''.join(shares)}        *    {upstream.sources[-1]};\n    }}\n"
        )
    location = (
        f"            proxy_bind {upstream.sources[0]};\n"
        if way in ("source", "origins-source")
        else _LOCATION.get(way, "")
    )
    return f"""\
# The lab's: one process in the foreground, and everything that it writes in one folder.
daemon off;
master_process off;
pid {{folder}}/nginx.pid;
error_log {{folder}}/error.log;
worker_rlimit_nofile 8192;
events {{
    worker_connections 4000;
}}
http {{
    access_log {{folder}}/access.log;
    client_body_temp_path {{folder}}/body;
    proxy_temp_path {{folder}}/proxied;
    fastcgi_temp_path {{folder}}/fastcgi;
    uwsgi_temp_path {{folder}}/uwsgi;
    scgi_temp_path {{folder}}/scgi;
    # From here on, what a proxy needs.
    keepalive_requests 100000;
{split}    upstream origins {{
{servers}{_POOL if way.startswith("keepalive") else ""}    }}
    server {{
        listen {PORT};
        location / {{
            proxy_pass http://origins;
{"" if way == "keepalive" else _CLOSE}{location}        }}
    }}
}}
"""


NGINX = Software(
    name="nginx",
    file="nginx.conf",
    arguments=("-p", "{folder}", "-e", "{folder}/error.log", "-c", "{folder}/nginx.conf"),
    check=("-t", "-p", "{folder}", "-e", "{folder}/error.log", "-c", "{folder}/nginx.conf"),
    ways={
        "as-it-comes": "HTTP/1.0 and a connection to the origin for each request, the default before 1.29.7",
        "keepalive": "connections to the origin are kept",
        "keepalive-alone": "the directive keepalive without the two that it needs, which changes nothing",
        "source": "the source address named, which changes nothing",
        "origins": "two origins",
        "origins-source": "two origins, the source address named",
        "origins-never-down": "two origins, neither of which is taken out when connect fails",
        "sources": "several source addresses",
    },
    write=_write,
    log="error.log",
    complaint=re.compile(r"\[crit\].* (connect|bind)\(\S*\) (?:to \S+ )?(failed \(\d+: [^)]*\))"),
)
