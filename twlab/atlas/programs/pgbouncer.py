"""PgBouncer in front of PostgreSQL: as it comes, and without a pool.

https://www.pgbouncer.org/config.html: ``server_lifetime``, ``server_login_retry``. It cannot name a
source address.
"""

import re
from functools import partial

from twlab.atlas.subject import PORT, Place, Subject


def _files(place: Place, more: str) -> dict[str, str]:
    text = f"""\
[databases]
lab = host={place.origin} port={place.port} dbname=lab user=lab
[pgbouncer]
listen_addr = 0.0.0.0
listen_port = {PORT}
unix_socket_dir =
auth_type = any
pool_mode = transaction
logfile = {{folder}}/pgbouncer.log
pidfile = {{folder}}/pgbouncer.pid
{more}
"""
    return {"pgbouncer.ini": text}


SUBJECTS = tuple(
    Subject(
        name=name,
        program="pgbouncer",
        package="pgbouncer",
        arguments=lambda _: ("-q", "{folder}/pgbouncer.ini"),
        files=partial(_files, more=more),
        speaks="postgres",
        methods=("GET",),
        complaint=re.compile(r"(Cannot assign requested address|server login has been failing)"),
        log="pgbouncer.log",
    )
    for name, more in (
        ("pgbouncer", ""),
        ("pgbouncer-once", "server_lifetime = 0"),
        ("pgbouncer-once-retry", "server_lifetime = 0\nserver_login_retry = 0.1"),
    )
)
