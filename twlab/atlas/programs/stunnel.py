"""stunnel: TLS from visitors, plain TCP to the origin.

https://www.stunnel.org/static/stunnel.html: ``connect``, ``local``.
"""

import re

from twlab.atlas.subject import CERTIFICATE, PORT, Place, Subject


def _files(place: Place) -> dict[str, str]:
    text = f"""\
foreground = yes
pid = {{folder}}/stunnel.pid
[origin]
accept = {PORT}
connect = {place.address}
cert = {{folder}}/both.pem
{f"local = {place.source}" if place.source else ""}
"""
    return {"stunnel.conf": text}


SUBJECTS = (
    Subject(
        name="stunnel",
        program="stunnel4",
        relays=True,
        package="stunnel4",
        arguments=lambda _: ("{folder}/stunnel.conf",),
        files=_files,
        speaks="tls",
        source="local = ADDRESS",
        version=("-version",),
        complaint=re.compile(
            r"((?:s_connect|bind \(ephemeral port\)).*: (?:Cannot assign requested address|Address already in use))"
        ),
        prepares=CERTIFICATE,
    ),
)
