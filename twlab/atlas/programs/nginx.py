"""nginx with one server, with two that are or are not given up, and with a pool.

https://nginx.org/en/docs/http/ngx_http_upstream_module.html: ``max_fails``, ``keepalive``; and
``proxy_bind`` of ngx_http_proxy_module.
"""

from collections.abc import Callable

from twlab.atlas.subject import PORT, Place, Subject

_POOL = 'proxy_http_version 1.1; proxy_set_header Connection "";'


def _files(servers: int, pool: bool, more: str) -> Callable[[Place], dict[str, str]]:
    def files(place: Place) -> dict[str, str]:
        folders = "\n".join(
            f"    {name}_temp_path {{folder}}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        text = f"""\
daemon off;
master_process off;
pid {{folder}}/nginx.pid;
error_log {{folder}}/error.log;
events {{ worker_connections 1000; }}
http {{
    access_log off;
{folders}
    upstream origins {{
        {f"server {place.address}{more}; " * servers}
        {"keepalive 32; keepalive_timeout 300s;" * pool}
    }}
    server {{
        listen {PORT};
        location / {{
            proxy_pass http://origins;
            {_POOL * pool}
            {f"proxy_bind {place.source};" if place.source else ""}
        }}
    }}
}}
"""
        return {"nginx.conf": text}

    return files


SUBJECTS = tuple(
    Subject(
        name=name,
        program="nginx",
        package="nginx",
        arguments=lambda _: ("-p", "{folder}", "-e", "{folder}/error.log", "-c", "{folder}/nginx.conf"),
        files=_files(servers, pool, more),
        source="proxy_bind ADDRESS",
        version=("-v",),
        log="error.log",
    )
    for name, servers, pool, more in (
        ("nginx-one", 1, False, ""),
        ("nginx-two", 2, False, ""),
        ("nginx-two-max-fails-0", 2, False, " max_fails=0"),
        ("nginx-keepalive", 1, True, ""),
    )
)
